"""The driver's side of a split ring: what only this kind does (test_ring_kinds.py)."""

import pytest

from tests.vhost_gpu.guest.toydevice import ToyDevice
from vhost_gpu.guest.memory import MIB, GuestMemory, one_region
from vhost_gpu.guest.ring import DriverRing, RingError, Segment, Used

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


def test_reset_begins_with_the_first_index(memory):
    ring = DriverRing(memory, 4)
    device = ToyDevice(ring)
    ring.add([SEGMENT])
    ring.publish()
    device.push(device.pop().head, 0)
    ring.harvest()
    assert (ring.avail_idx, ring.last_used) == (1, 1)
    ring.reset()
    assert (ring.avail_idx, ring.last_used) == (0, 0)
