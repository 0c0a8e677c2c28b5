"""What both kinds of ring do alike, the driver's side, against a device in a few lines and a model."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vhost_gpu.guest.toydevice import ToyDevice, ToyPackedDevice
from vhost_gpu.guest.memory import MIB, PAGE, GuestMemory, one_region
from vhost_gpu.guest.packed_ring import PackedRing
from vhost_gpu.guest.ring import DriverRing, RingFull, Segment, Used

SEGMENT = Segment(0x1000, 24)


class Split:
    """A split ring, and a device for it."""

    ring, device = DriverRing, ToyDevice
    sizes = (1, 2, 8, 64)


class Packed:
    """The same of the other kind."""

    ring, device = PackedRing, ToyPackedDevice
    sizes = (1, 2, 3, 8, 50)


KINDS = pytest.mark.parametrize("kind", [Split, Packed])


@pytest.fixture
def memory():
    guest = GuestMemory(one_region(4 * MIB))
    yield guest
    guest.close()


@KINDS
def test_a_chain_is_readable_then_writable(memory, kind):
    ring = kind.ring(memory, 4)
    ring.add([Segment(0x1000, 24), Segment(0x2000, 8)], [Segment(0x3000, 100)])
    ring.publish()
    chain = kind.device(ring).pop()
    assert chain.readable == [(0x1000, 24), (0x2000, 8)]
    assert chain.writable == [(0x3000, 100)]
    assert ring.free_descriptors == 1


@KINDS
def test_the_device_sees_nothing_before_publishing(memory, kind):
    ring = kind.ring(memory, 8)
    device = kind.device(ring)
    for _ in range(2):
        ring.add([SEGMENT], [SEGMENT])
    assert device.pop() is None
    ring.publish()
    assert device.pop() is not None
    assert device.pop() is not None


@KINDS
def test_a_full_ring_says_so_and_recovers(memory, kind):
    ring = kind.ring(memory, 2)
    device = kind.device(ring)
    ring.add([SEGMENT], [SEGMENT])
    with pytest.raises(RingFull):
        ring.add([SEGMENT])
    ring.publish()
    device.push(device.pop().head, 0)
    ring.harvest()
    ring.add([SEGMENT])


@KINDS
@pytest.mark.parametrize("count", [0, 3])
def test_impossible_chains_are_refused(memory, count, kind):
    with pytest.raises(ValueError, match="a chain of"):
        kind.ring(memory, 2).add([SEGMENT] * count)


@KINDS
@pytest.mark.parametrize("count", [2, 8, 9, 300])
def test_indirect_chains_take_one_descriptor(memory, count, kind):
    ring = kind.ring(memory, 2, indirect=True)
    before = memory.free_bytes()
    segments = [Segment(0x1000 * i, i + 1) for i in range(count)]
    ring.add(segments)
    ring.publish()
    assert ring.free_descriptors == 1
    device = kind.device(ring)
    chain = device.pop()
    assert chain.readable == [(segment.gpa, segment.length) for segment in segments]
    device.push(chain.head, 0)
    ring.harvest()
    assert memory.free_bytes() == before


@KINDS
@pytest.mark.parametrize("event_idx", [False, True])
def test_interrupts_come_when_armed(memory, event_idx, kind):
    ring = kind.ring(memory, 8, event_idx=event_idx)
    device = kind.device(ring)
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


@KINDS
def test_reset_forgets_everything(memory, kind):
    ring = kind.ring(memory, 4, indirect=True)
    device = kind.device(ring)
    for _ in range(3):
        ring.add([SEGMENT], [SEGMENT])
    ring.publish()
    device.push(device.pop().head, 0)
    ring.reset()
    assert (ring.free_descriptors, ring.in_flight) == (4, 0)
    assert ring.harvest() == []
    assert kind.device(ring).pop() is None


@KINDS
def test_release_gives_all_memory_back(memory, kind):
    before = memory.free_bytes()
    ring = kind.ring(memory, 64, indirect=True)
    ring.add([SEGMENT] * 40)
    ring.release()
    assert memory.free_bytes() == before
    assert memory.alloc(before) == 0


@KINDS
@settings(max_examples=60, deadline=None)
@given(
    indirect=st.booleans(),
    event_idx=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
def test_whatever_the_order_every_chain_comes_back_once(indirect, event_idx, seed, kind):
    """A random walk of adding, publishing, popping, returning out of order and harvesting, over many turns."""
    choose = random.Random(seed)
    memory = GuestMemory(one_region(256 * PAGE))
    ring = kind.ring(memory, choose.choice(kind.sizes), indirect=indirect, event_idx=event_idx)
    device = kind.device(ring)
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
