"""Virtqueues of every kind in the C core: what the VMM sets, start and stop, where they are, memory that changes."""

import errno
import struct

import pytest

from backend._core import ffi, lib
from tests.backend.ringkit import (
    F_WRITE,
    FEATURES,
    INDIRECT_DESC,
    KINDS,
    RAM_GPA,
    RAM_SIZE,
    RING_PACKED,
    UVA,
    VERSION_1,
    Kit,
    flush,
    get_display_info,
)

IDLE, REQUEST, STOPPED, BROKEN = lib.VG_DRAIN_IDLE, lib.VG_DRAIN_REQUEST, lib.VG_DRAIN_STOPPED, lib.VG_DRAIN_BROKEN
HOLE = 0x9000_0000


@pytest.fixture(params=KINDS)
def kit(request):
    with Kit(features=FEATURES | KINDS[request.param]) as kit:
        yield kit


# ---- what the VMM sets


@pytest.mark.parametrize("num", [0, 1025, 2048, 2**32 - 1])
def test_bad_size(kit, num):
    assert lib.vg_queue_set_num(kit.core, 0, num) == -errno.EINVAL


@pytest.mark.parametrize(("desc", "avail", "used"), [(8, 0, 0), (0, 1, 0), (0, 0, 2)])
def test_bad_alignment(kit, desc, avail, used):
    assert lib.vg_queue_set_addr(kit.core, 0, desc, avail, used) == -errno.EINVAL


@pytest.mark.parametrize("queue", [2, 255, 2**32 - 1])
def test_bad_queue_index(kit, queue):
    out, request = ffi.new("vg_queue_info *"), ffi.new("vg_request *")
    assert lib.vg_queue_set_num(kit.core, queue, 16) == -errno.EINVAL
    assert lib.vg_queue_set_addr(kit.core, queue, 0, 0, 0) == -errno.EINVAL
    assert lib.vg_queue_set_base(kit.core, queue, 0) == -errno.EINVAL
    assert lib.vg_queue_get_base(kit.core, queue, ffi.new("uint32_t *")) == -errno.EINVAL
    assert lib.vg_queue_set_kick(kit.core, queue, -1) == -errno.EINVAL
    assert lib.vg_queue_set_call(kit.core, queue, -1) == -errno.EINVAL
    assert lib.vg_queue_set_err(kit.core, queue, -1) == -errno.EINVAL
    assert lib.vg_queue_set_started(kit.core, queue, 1) == -errno.EINVAL
    assert lib.vg_queue_set_enabled(kit.core, queue, 1) == -errno.EINVAL
    assert lib.vg_queue_describe(kit.core, queue, out) == -errno.EINVAL
    assert lib.vg_queue_drain(kit.core, queue, 0, request) == -errno.EINVAL
    lib.vg_queue_notify(kit.core, queue)


def test_needs_both_started_and_enabled(kit):
    ring = kit.control
    chain = ring.send(flush(1, 1, 1))
    lib.vg_queue_set_enabled(kit.core, 0, 0)
    assert ring.drain() == STOPPED
    lib.vg_queue_set_enabled(kit.core, 0, 1)
    lib.vg_queue_set_started(kit.core, 0, 0)
    assert ring.drain() == STOPPED
    assert ring.take_used() == []
    lib.vg_queue_set_started(kit.core, 0, 1)
    assert ring.drain() == IDLE
    assert ring.take_used() == [(chain.head, 24)]


def test_started_without_size_breaks():
    core = lib.vg_device_new(1, 1 << 20)
    lib.vg_queue_set_started(core, 0, 1)
    lib.vg_queue_set_enabled(core, 0, 1)
    request = ffi.new("vg_request *")
    assert lib.vg_queue_drain(core, 0, 0, request) == BROKEN
    assert lib.vg_queue_drain(core, 0, 0, request) == STOPPED
    lib.vg_device_free(core)


@pytest.mark.parametrize("part", ["desc", "avail", "used"])
@pytest.mark.parametrize("where", [HOLE, RAM_GPA + RAM_SIZE, 2**64 - UVA - 16])
def test_ring_outside_memory_breaks(kit, part, where):
    ring = kit.control
    setattr(ring, part, where)
    lib.vg_queue_set_addr(kit.core, 0, *((a + UVA) % 2**64 for a in (ring.desc, ring.avail, ring.used)))
    assert ring.drain() == BROKEN
    assert "not inside one memory region" in ring.reason
    assert kit.cursor.drain() == IDLE


def test_describe(kit):
    ring = kit.control
    ring.send(flush(1, 1, 1))
    ring.drain()
    info = ring.info()
    ring.take_used()
    assert (info.num, info.desc, info.avail, info.used) == (16, ring.desc + UVA, ring.avail + UVA, ring.used + UVA)
    assert (info.base, info.used_idx, info.started, info.enabled, info.broken) == (ring.base(), 1 + kit.packed, 1, 1, 0)
    assert (info.packed, info.in_order) == (kit.packed, kit.in_order)
    assert (info.completed, info.notified, ring.reason) == (1, 1, "")


# ---- indices


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num", [1, 2, 16, 1024])
def test_places_wrap(kind, num):
    with Kit(num=num, features=VERSION_1 | INDIRECT_DESC | KINDS[kind], ram_size=1 << 22) as kit:
        ring = kit.control
        if not kit.packed:
            ring.set_avail_idx(65536 - 3 * num)
            ring.seen_used = 0xFFF0
            kit.write(ring.used + 2, struct.pack("<H", 0xFFF0))
            ring.start()
        room, request = kit.alloc(24), kit.place(flush(1, 1, 1))
        for _ in range(6):
            heads = [ring.add([(request, 48, 0), (room, 24, F_WRITE)], indirect=True) for _ in range(num)]
            assert ring.drain() == IDLE
            assert ring.take_used() == [(head, 24) for head in heads]
        assert ring.info().base == ring.base()


@pytest.mark.parametrize("kind", ["packed", "packed, in order"])
@pytest.mark.parametrize("num", [2, 3, 5, 7, 100, 1023])
def test_packed_rings_of_any_size(kind, num):
    """The specification asks for no power of two; chains lie across the ring's end."""
    with Kit(num=num, features=VERSION_1 | KINDS[kind], ram_size=1 << 22) as kit:
        ring = kit.control
        for _ in range(3 * num if num < 100 else 7):
            heads = [ring.send(flush(1, 1, 1)).head for _ in range(num // 2)]
            assert ring.drain() == IDLE
            assert ring.take_used() == [(head, 24) for head in heads]
            assert ring.info().base == ring.base()


@pytest.mark.parametrize("num", [3, 24, 1023])
def test_split_ring_of_a_size_that_is_no_power_of_two_breaks(num):
    """Not when it is set: SET_FEATURES may come later and say that it is packed."""
    with Kit() as kit:
        assert lib.vg_queue_set_num(kit.core, 0, num) == 0
        assert kit.control.drain() == BROKEN
        assert "power of two" in kit.control.reason


@pytest.mark.parametrize("base", [0x10000, 0x80008000, 2**32 - 1])
def test_split_ring_with_a_packed_base_breaks(base):
    with Kit() as kit:
        lib.vg_queue_set_base(kit.core, 0, base)
        assert kit.control.info().base == base
        assert kit.control.drain() == BROKEN
        assert "base" in kit.control.reason


@pytest.mark.parametrize(("base", "place"), [(0x80108010, 0x80008000), (0xFFFF7FFF, 0x800F000F), (0x12, 2)])
def test_packed_base_beyond_the_ring(base, place):
    """vhost-user calls the indices free-running: what is over the size is a turn, its wrap counter is told apart."""
    with Kit(features=FEATURES | RING_PACKED) as kit:
        lib.vg_queue_set_base(kit.core, 0, base)
        assert kit.control.drain() == IDLE
        assert kit.control.info().base & 0x7FFF_FFFF == place & 0x7FFF_FFFF


def test_features_after_the_rings():
    """libkrun's order allows it: what counts is what holds when the queue starts."""
    with Kit(features=FEATURES | RING_PACKED) as kit:
        lib.vg_set_features(kit.core, 0)
        for setter in (lib.vg_queue_set_started, lib.vg_queue_set_enabled):
            setter(kit.core, 0, 0)
        kit.control.start()
        lib.vg_set_features(kit.core, FEATURES | RING_PACKED)
        chain = kit.control.send(flush(1, 1, 1))
        assert kit.control.drain() == IDLE
        assert kit.control.take_used() == [(chain.head, 24)]
        lib.vg_set_features(kit.core, VERSION_1)
        chain = kit.control.send(flush(1, 1, 1), indirect=True)
        assert kit.control.drain() == IDLE
        assert kit.control.take_used() == [(chain.head, 24)]


def test_a_smaller_size_while_the_ring_runs(kit):
    """Its place is taken again, and what is out is forgotten: neither may lie outside the ring."""
    ring = kit.control
    for _ in range(7):
        ring.send(flush(1, 1, 1))
        ring.drain()
    ring.send(get_display_info(), 408)
    assert ring.drain() == REQUEST
    assert lib.vg_queue_set_num(kit.core, 0, 4) == 0
    ring.complete()
    assert ring.drain() in (IDLE, REQUEST, BROKEN)
    ring.complete()


def test_stop_and_cont_go_on_where_it_was(kit):
    ring = kit.control
    for turn in range(1, 30):
        chains = [ring.send(flush(1, 1, 1)) for _ in range(5)]
        ring.drain()
        assert ring.take_used() == [(chain.head, 24) for chain in chains]
        assert ring.info().base == ring.base()
        lib.vg_queue_set_started(kit.core, 0, 0)
        assert ring.info().base == ring.base()
        if turn % 2:
            ring.start()
        else:
            lib.vg_queue_set_started(kit.core, 0, 1)


def test_the_base_of_a_queue_that_was_not_looked_at(kit):
    for base in (0, 5, 0x8000, 0xFFFF, 0x80058005):
        lib.vg_queue_set_base(kit.core, 0, base)
        assert kit.control.info().base == base


def test_stop_with_a_chain_in_flight(kit):
    """What the caller still had is lost, as RESET and GET_VRING_BASE say; the ring goes on behind it."""
    ring = kit.control
    ring.send(get_display_info(), 408)
    assert ring.drain() == REQUEST
    base = ring.info().base
    lib.vg_queue_set_started(kit.core, 0, 0)
    assert ring.info().base == base
    lib.vg_queue_set_base(kit.core, 0, base)
    lib.vg_queue_set_started(kit.core, 0, 1)
    chain = ring.send(flush(1, 1, 1))
    assert ring.drain() == IDLE
    ring.out = {chain.head: ring.out[chain.head]}
    assert ring.take_used() == [(chain.head, 24)]
    ring.complete()
    assert ring.take_used() == []


def test_request_of_an_earlier_start_is_only_freed(kit):
    ring = kit.control
    ring.send(get_display_info(), 408)
    assert ring.drain() == REQUEST
    lib.vg_queue_set_started(kit.core, 0, 0)
    lib.vg_queue_set_started(kit.core, 0, 1)
    ring.complete(0x1101, bytes(384))
    assert ring.request.chain == ffi.NULL
    assert ring.take_used() == []
    ring.complete()


def test_request_of_a_stopped_queue_is_only_freed(kit):
    kit.control.send(get_display_info(), 408)
    assert kit.control.drain() == REQUEST
    lib.vg_queue_set_started(kit.core, 0, 0)
    kit.control.complete()
    assert kit.control.take_used() == []


# ---- memory that changes


def test_memory_comes_back_elsewhere(kit):
    """Regions are mapped anew: the ring is found again."""
    kit.control.drain()
    lib.vg_mem_clear(kit.core)
    assert kit.ram.add() == 0
    chain = kit.control.send(flush(1, 1, 1))
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(chain.head, 24)]


def test_memory_goes_away(kit):
    kit.control.send(get_display_info(), 408)
    assert kit.control.drain() == REQUEST
    assert kit.ram.remove() == 0
    kit.control.complete(0x1101, bytes(384))
    assert kit.control.drain() == BROKEN
    assert kit.control.err_count() == 1
    assert kit.control.drain() == STOPPED
    assert kit.cursor.drain() == BROKEN


def test_reply_buffer_goes_away(kit):
    far = kit.add_ram(0x4000_0000, 4096)
    kit.control.add([(kit.place(get_display_info()), 24, 0), (far.gpa, 408, F_WRITE)])
    assert kit.control.drain() == REQUEST
    assert far.remove() == 0
    kit.control.complete(0x1101, bytes(384))
    assert kit.control.take_used() == [(0, 0)]
