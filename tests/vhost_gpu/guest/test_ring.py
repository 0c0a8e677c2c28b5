"""The driver's side of a split ring, against a device in a few lines and a model of what must come out."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vhost_gpu.guest.toydevice import ToyDevice
from vhost_gpu.guest.memory import MIB, PAGE, GuestMemory, one_region
from vhost_gpu.guest.ring import DriverRing, RingError, RingFull, Segment, Used

SEGMENT = Segment(0x1000, 24)


@pytest.fixture
def memory():
    guest = GuestMemory(one_region(4 * MIB))
    yield guest
    guest.close()


@pytest.mark.parametrize("size", [0, 3, 65, 65536])
def test_sizes_are_powers_of_two(memory, size):
    with pytest.raises(ValueError, match="power of two"):
        DriverRing(memory, size)


@pytest.mark.parametrize("size", [1, 2, 16, 64, 256, 1024, 32768])
def test_every_power_of_two_works(memory, size):
    ring = DriverRing(memory, size)
    device = ToyDevice(ring)
    head = ring.add([SEGMENT])
    ring.publish()
    device.push(device.pop().head, 7)
    assert ring.harvest() == [Used(head, 7)]
    ring.release()


def test_a_chain_is_readable_then_writable(memory):
    ring = DriverRing(memory, 4)
    ring.add([Segment(0x1000, 24), Segment(0x2000, 8)], [Segment(0x3000, 100)])
    ring.publish()
    chain = ToyDevice(ring).pop()
    assert chain.readable == [(0x1000, 24), (0x2000, 8)]
    assert chain.writable == [(0x3000, 100)]
    assert ring.free_descriptors == 1


def test_the_device_sees_nothing_before_publishing(memory):
    ring = DriverRing(memory, 4)
    ring.add([SEGMENT])
    device = ToyDevice(ring)
    assert device.pop() is None
    ring.publish()
    assert device.pop() is not None


def test_a_full_ring_says_so_and_recovers(memory):
    ring = DriverRing(memory, 2)
    device = ToyDevice(ring)
    ring.add([SEGMENT], [SEGMENT])
    with pytest.raises(RingFull):
        ring.add([SEGMENT])
    ring.publish()
    device.push(device.pop().head, 0)
    ring.harvest()
    ring.add([SEGMENT])


@pytest.mark.parametrize("count", [0, 3])
def test_impossible_chains_are_refused(memory, count):
    with pytest.raises(ValueError, match="a chain of"):
        DriverRing(memory, 2).add([SEGMENT] * count)


@pytest.mark.parametrize("count", [2, 8, 9, 300])
def test_indirect_chains_take_one_descriptor(memory, count):
    ring = DriverRing(memory, 2, indirect=True)
    before = memory.free_bytes()
    segments = [Segment(0x1000 * i, i + 1) for i in range(count)]
    ring.add(segments)
    ring.publish()
    assert ring.free_descriptors == 1
    device = ToyDevice(ring)
    chain = device.pop()
    assert chain.readable == [(segment.gpa, segment.length) for segment in segments]
    device.push(chain.head, 0)
    ring.harvest()
    assert memory.free_bytes() == before


def test_a_device_that_returns_a_stranger_is_found_out(memory):
    ring = DriverRing(memory, 4)
    ToyDevice(ring).push(2, 0)
    with pytest.raises(RingError, match="head 2"):
        ring.harvest()


def test_kicks_are_suppressed_by_flag(memory):
    ring = DriverRing(memory, 4)
    ring.add([SEGMENT])
    assert ring.publish()
    assert not ring.publish()
    memory.write(ring.used_gpa, b"\1\0")
    ring.add([SEGMENT])
    assert not ring.publish()


def test_kicks_are_suppressed_by_event_index(memory):
    ring = DriverRing(memory, 8, event_idx=True)
    device = ToyDevice(ring)
    ring.add([SEGMENT])
    assert ring.publish()
    ring.add([SEGMENT])
    assert not ring.publish()  # the device has not looked since: its event is still the first
    while device.pop():
        pass
    ring.add([SEGMENT])
    ring.add([SEGMENT])
    assert ring.publish()


@pytest.mark.parametrize("event_idx", [False, True])
def test_interrupts_come_when_armed(memory, event_idx):
    ring = DriverRing(memory, 8, event_idx=event_idx)
    device = ToyDevice(ring)
    for _ in range(4):
        ring.add([SEGMENT])
    ring.publish()
    heads = [device.pop().head for _ in range(4)]
    ring.suppress()
    device.push(heads[0], 0)
    assert device.interrupts == 0
    assert ring.arm(), "something came in while interrupts were off"
    ring.harvest()
    assert not ring.arm()
    device.push(heads[1], 0)
    assert device.interrupts == 1


def test_reset_forgets_everything(memory):
    ring = DriverRing(memory, 4, indirect=True)
    device = ToyDevice(ring)
    for _ in range(3):
        ring.add([SEGMENT], [SEGMENT])
    ring.publish()
    device.push(device.pop().head, 0)
    ring.reset()
    assert (ring.free_descriptors, ring.in_flight, ring.avail_idx, ring.last_used) == (4, 0, 0, 0)
    assert ring.harvest() == []
    assert ToyDevice(ring).pop() is None


def test_release_gives_all_memory_back(memory):
    before = memory.free_bytes()
    ring = DriverRing(memory, 64, indirect=True)
    ring.add([SEGMENT] * 40)
    ring.release()
    assert memory.free_bytes() == before
    assert memory.alloc(before) == 0


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([1, 2, 8, 64]),
    indirect=st.booleans(),
    event_idx=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_whatever_the_order_every_chain_comes_back_once(size, indirect, event_idx, seed):
    """A random walk of adding, publishing, popping, returning out of order and harvesting, over an index wrap."""
    choose = random.Random(seed)
    memory = GuestMemory(one_region(256 * PAGE))
    ring = DriverRing(memory, size, indirect=indirect, event_idx=event_idx)
    device = ToyDevice(ring)
    added, popped, sent, tag = {}, [], [], 0
    for _ in range(choose.randrange(400)):
        match choose.randrange(5):
            case 0 | 1:
                tag += 1
                segments = [Segment(0x100000 + 16 * tag + i, 1 + i) for i in range(choose.randrange(1, 4))]
                split = choose.randrange(len(segments) + 1)
                try:
                    head = ring.add(segments[:split], segments[split:])
                except (RingFull, ValueError):
                    continue
                assert head not in added
                added[head] = (segments[:split], segments[split:])
            case 2:
                ring.publish()
            case 3:
                if chain := device.pop():
                    expected = added[chain.head]
                    assert [(s.gpa, s.length) for s in expected[0]] == chain.readable
                    assert [(s.gpa, s.length) for s in expected[1]] == chain.writable
                    popped.append(chain.head)
            case 4:
                for _ in range(choose.randrange(len(popped) + 1)):
                    head = popped.pop(choose.randrange(len(popped)))
                    sent.append(Used(head, choose.randrange(1 << 32)))
                    device.push(sent[-1].head, sent[-1].length)
                assert ring.harvest() == sent
                for used in sent:
                    del added[used.head]
                sent.clear()
        assert ring.in_flight == len(added)
    memory.close()


def test_indices_wrap(memory):
    ring = DriverRing(memory, 4, event_idx=True)
    device = ToyDevice(ring)
    for _ in range(66000):
        head = ring.add([SEGMENT])
        assert ring.publish()
        device.push(device.pop().head, 1)
        assert ring.harvest() == [Used(head, 1)]
        ring.arm()
    assert device.interrupts == 66000


def test_in_order_one_entry_stands_for_many(memory):
    """The skipped ones count as written completely; descriptors are used in the order of the table (2.7.5.2)."""
    ring = DriverRing(memory, 8, in_order=True)
    device = ToyDevice(ring)
    for turn in range(20):
        heads = [ring.add([SEGMENT], [Segment(0x2000, 10 + i)]) for i in range(3)]
        assert heads == [(6 * turn + 2 * i) % 8 for i in range(3)]
        ring.publish()
        assert [device.pop().head for _ in range(3)] == heads
        device.push(heads[1], 5, heads[0])
        assert ring.harvest() == [Used(heads[0], 10), Used(heads[1], 5)]
        device.push(heads[2], 0)
        assert ring.harvest() == [Used(heads[2], 0)]


def test_in_order_a_batch_larger_than_counted_is_found_out(memory):
    ring = DriverRing(memory, 8, in_order=True)
    heads = [ring.add([SEGMENT]) for _ in range(3)]
    ring.publish()
    ToyDevice(ring).push(heads[2], 0)
    with pytest.raises(RingError, match="3 chains and counts 1"):
        ring.harvest()
