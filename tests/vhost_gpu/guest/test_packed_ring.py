"""The driver's side of a packed ring: what only this kind does (test_ring_kinds.py)."""

import pytest

from tests.vhost_gpu.guest.toydevice import ToyPackedDevice
from vhost_gpu.guest.memory import MIB, GuestMemory, one_region
from vhost_gpu.guest.packed_ring import PackedRing
from vhost_gpu.guest.ring import RingError, Segment, Used

SEGMENT = Segment(0x1000, 24)


@pytest.fixture
def memory():
    guest = GuestMemory(one_region(4 * MIB))
    yield guest
    guest.close()


@pytest.mark.parametrize("size", [0, -1, 32769])
def test_sizes_that_no_ring_has(memory, size):
    with pytest.raises(ValueError, match="not in"):
        PackedRing(memory, size)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000, 32768])
def test_any_size_works(memory, size):
    ring = PackedRing(memory, size)
    device = ToyPackedDevice(ring)
    for _ in range(3 * min(size, 10)):
        head = ring.add([SEGMENT])
        ring.publish()
        device.push(device.pop().head, 7)
        assert ring.harvest() == [Used(head, 7)]
    ring.release()


def test_a_device_that_returns_a_stranger_is_found_out(memory):
    ring = PackedRing(memory, 4)
    ToyPackedDevice(ring).push(2, 0)
    with pytest.raises(RingError, match="id 2"):
        ring.harvest()


def test_kicks_are_suppressed_by_flag(memory):
    ring = PackedRing(memory, 4)
    ring.add([SEGMENT])
    assert ring.publish()
    assert not ring.publish()
    memory.write(ring.used_gpa, b"\0\0\1\0")
    ring.add([SEGMENT])
    assert not ring.publish()


def test_kicks_are_suppressed_by_event(memory):
    ring = PackedRing(memory, 3, event_idx=True)
    device = ToyPackedDevice(ring)
    ring.add([SEGMENT])
    assert ring.publish()  # the device has not asked for anything yet
    device.push(device.pop().head, 0)
    ring.harvest()
    for _ in range(10):
        ring.add([SEGMENT])
        assert ring.publish()
        ring.add([SEGMENT])
        assert not ring.publish()  # the device has not looked since
        for _ in range(2):
            device.push(device.pop().head, 0)
        assert len(ring.harvest()) == 2


@pytest.mark.parametrize("indirect", [False, True])
def test_in_order_one_entry_stands_for_many(memory, indirect):
    ring = PackedRing(memory, 7, in_order=True, indirect=indirect)
    device = ToyPackedDevice(ring)
    for _ in range(20):
        heads = [ring.add([SEGMENT], [Segment(0x2000, 10 + i)]) for i in range(3)]
        ring.publish()
        assert [device.pop().head for _ in range(3)] == heads
        device.push(heads[1], 5, heads[0])
        assert ring.harvest() == [Used(heads[0], 10), Used(heads[1], 5)]
        device.push(heads[2], 0)
        assert ring.harvest() == [Used(heads[2], 0)]
