"""Split rings in the C core: chains of every shape, malformed rings, indices, notifications, start and stop."""

import errno
import os
import select
import struct
import threading
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend._core import ffi, lib
from tests.backend.ringkit import (
    ERR_UNSPEC,
    EVENT_IDX,
    F_INDIRECT,
    F_NEXT,
    F_WRITE,
    INDIRECT_DESC,
    NO_INTERRUPT,
    NO_NOTIFY,
    OK,
    RAM_GPA,
    RAM_SIZE,
    UVA,
    VERSION_1,
    Kit,
    flush,
    get_display_info,
    pack_table,
    transfer,
)

IDLE, REQUEST, STOPPED, BROKEN = lib.VG_DRAIN_IDLE, lib.VG_DRAIN_REQUEST, lib.VG_DRAIN_STOPPED, lib.VG_DRAIN_BROKEN
HOLE = 0x9000_0000


@pytest.fixture
def kit():
    with Kit() as kit:
        yield kit


def response_type(reply):
    return struct.unpack_from("<I", reply)[0]


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
@pytest.mark.parametrize("where", [HOLE, RAM_GPA + RAM_SIZE - 16, 2**64 - UVA - 16])
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
    assert (info.num, info.desc, info.avail, info.used) == (16, ring.desc + UVA, ring.avail + UVA, ring.used + UVA)
    assert (info.base, info.used_idx, info.started, info.enabled, info.broken) == (1, 1, 1, 1, 0)
    assert (info.completed, info.notified, ring.reason) == (1, 1, "")


# ---- well-formed chains


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("cut", [(24,), (1, 23), (24, 8, 16), (7,) * 6, (48,)])
@pytest.mark.parametrize("rooms", [(24,), (1, 23), (8, 8, 8), (20, 100)])
def test_request_and_reply_in_pieces(kit, indirect, cut, rooms):
    request = flush(77, 1, 1, flags=1, fence_id=2**40 + 5)
    pieces, rest = [], request
    for size in cut:
        pieces.append(rest[:size])
        rest = rest[size:]
    if rest:
        pieces.append(rest)
    chain = kit.control.send(pieces, rooms, indirect=indirect)
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(chain.head, 24)]
    assert kit.control.reply(chain)[:24] == struct.pack("<IIQII", 0x1203, 1, 2**40 + 5, 0, 0)


def test_zero_length_descriptors_are_skipped(kit):
    request, room = kit.place(flush(1, 1, 1)), kit.alloc(24)
    kit.control.add([(HOLE, 0, 0), (request, 48, 0), (0, 0, 0), (0, 0, F_WRITE), (room, 24, F_WRITE), (1, 0, F_WRITE)])
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(0, 24)]


def test_chain_of_nothing_gets_a_used_entry(kit):
    kit.control.add([(0, 0, 0), (0, 0, F_WRITE)])
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(0, 0)]


def test_buffers_cross_regions(kit):
    """Request and reply each start in one region and end in the next."""
    low = kit.add_ram(0x4000_0000, 4096)
    high = kit.add_ram(0x4000_1000, 4096)
    request = flush(1, 1, 1)
    low.write(0x4000_0FF0, request[:16])
    high.write(0x4000_1000, request[16:])
    third = kit.add_ram(0x4000_2000, 4096)
    kit.control.add([(0x4000_0FF0, 48, 0), (0x4000_1FF8, 24, F_WRITE)])
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(0, 24)]
    assert response_type(high.read(0x4000_1FF8, 8)) == 0x1203
    assert third.read(0x4000_2000, 16) == bytes(16)


def test_direct_chain_as_long_as_the_ring(kit):
    request, room = kit.place(flush(1, 1, 1)), kit.alloc(24)
    pieces = [(request + i * 4, 4, 0) for i in range(12)] + [(room + i * 6, 6, F_WRITE) for i in range(4)]
    kit.control.add(pieces)
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(0, 24)]


def test_direct_descriptors_before_an_indirect_one(kit):
    """virtio 1.3, 2.7.7.2: normal descriptors, then a single indirect one."""
    request, room = kit.place(flush(1, 1, 1)), kit.alloc(24)
    table = kit.place(pack_table([(request + 24, 24, 0), (room, 24, F_WRITE)]))
    kit.control.add([(request, 24, 0), (table, 32, F_INDIRECT | F_WRITE)])
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(0, 24)]
    assert response_type(kit.read(room, 24)) == 0x1203


@pytest.mark.parametrize("entries", [65, 300, 32768])
@pytest.mark.parametrize("in_first", [0, 7, 66])
def test_indirect_table_across_regions(kit, entries, in_first):
    """The table straddles two regions (libvhost-user 85805ee8), or its border cuts an entry in two."""
    low = kit.add_ram(0x4000_0000, 1 << 20)
    high = kit.add_ram(0x4010_0000, 1 << 20)
    request, room = kit.place(flush(1, 1, 1)), kit.alloc(24)
    table = pack_table([(request + i % 48, 1, 0) for i in range(entries - 1)] + [(room, 24, F_WRITE)])
    start = 0x4010_0000 - 16 * in_first - 9
    low.write(start, table[: 0x4010_0000 - start])
    high.write(0x4010_0000, table[0x4010_0000 - start :])
    kit.control.add([(start, len(table), F_INDIRECT)])
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(0, 24)]
    assert response_type(kit.read(room, 24)) == 0x1203


def test_indirect_table_in_any_order(kit):
    request, room = kit.place(flush(1, 1, 1)), kit.alloc(24)
    table = struct.pack("<QIHHQIHHQIHH", request, 24, F_NEXT, 2, room, 24, F_WRITE, 0, request + 24, 24, F_NEXT, 1)
    kit.control.add([(kit.place(table), len(table), F_INDIRECT)])
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(0, 24)]


# ---- malformed rings

BAD_CHAINS = {
    "next points to itself": (lambda k, r: r.put(0, k.next, 1, F_NEXT, 0), "loop"),
    "loop of two": (lambda k, r: (r.put(0, k.next, 1, F_NEXT, 1), r.put(1, k.next, 1, F_NEXT, 0)), "loop"),
    "next is num": (lambda k, r: r.put(0, k.next, 1, F_NEXT, 16), "out of range"),
    "next is 65535": (lambda k, r: r.put(0, k.next, 1, F_NEXT, 65535), "out of range"),
    "address outside memory": (lambda _, r: r.put(0, HOLE, 24), "outside memory"),
    "address wraps": (lambda _, r: r.put(0, 2**64 - 8, 24), "outside memory"),
    "buffer runs out of memory": (lambda _, r: r.put(0, RAM_GPA + RAM_SIZE - 8, 24), "outside memory"),
    "reply outside memory": (
        lambda k, r: (r.put(0, k.place(flush(1, 1, 1)), 48, F_NEXT, 1), r.put(1, HOLE, 24, F_WRITE)),
        "outside memory",
    ),
    "readable after writable": (
        lambda k, r: (r.put(0, k.next, 24, F_NEXT | F_WRITE, 1), r.put(1, k.next, 24)),
        "readable buffer after",
    ),
    "table of no length": (lambda k, r: r.put(0, k.next, 0, F_INDIRECT), "odd size"),
    "table of odd length": (lambda k, r: r.put(0, k.next, 24, F_INDIRECT), "odd size"),
    "table with next": (lambda k, r: r.put(0, k.next, 16, F_INDIRECT | F_NEXT, 1), "NEXT"),
    "table too long": (lambda k, r: r.put(0, k.next, 16 * 32769, F_INDIRECT), "too long"),
    "table outside memory": (lambda _, r: r.put(0, HOLE, 16, F_INDIRECT), "outside memory"),
    "table runs out of memory": (lambda _, r: r.put(0, RAM_GPA + RAM_SIZE - 16, 32, F_INDIRECT), "outside memory"),
    "table in a table": (
        lambda k, r: r.put(0, k.place(struct.pack("<QIHH", RAM_GPA, 16, F_INDIRECT, 0)), 16, F_INDIRECT),
        "inside an indirect",
    ),
    "table loops": (
        lambda k, r: r.put(0, k.place(struct.pack("<QIHH", RAM_GPA, 1, F_NEXT, 0)), 16, F_INDIRECT),
        "loop",
    ),
    "table leaves itself": (
        lambda k, r: r.put(0, k.place(struct.pack("<QIHH", RAM_GPA, 1, F_NEXT, 1)), 16, F_INDIRECT),
        "out of range",
    ),
}


@pytest.mark.parametrize("name", BAD_CHAINS)
def test_malformed_chain_breaks_its_queue_alone(kit, name):
    build, reason = BAD_CHAINS[name]
    good = kit.control.send(flush(1, 1, 1))
    kit.control.drain()
    kit.control.call_count()
    build(kit, kit.control)
    kit.control.publish(0)
    assert kit.control.drain() == BROKEN
    assert reason in kit.control.reason
    assert kit.control.err_count() == 1
    assert kit.control.drain() == STOPPED
    assert kit.control.err_count() == 0
    assert kit.control.take_used() == [(good.head, 24)]
    moved = kit.cursor.send(flush(1, 1, 1))
    assert kit.cursor.drain() == IDLE
    assert kit.cursor.take_used() == [(moved.head, 24)]


def test_device_registers_as_buffers_on_both_queues(kit):
    """CVE-2024-3446: descriptors that point at device memory, which no region holds."""
    for ring in (kit.control, kit.cursor):
        ring.add([(0xFEB0_0000, 56, 0), (0xFEB0_0000, 24, F_WRITE)])
    for ring in (kit.control, kit.cursor):
        assert ring.drain() == BROKEN
        assert ring.err_count() == 1
        assert ring.take_used() == []


def test_longer_than_4_gib_in_all(kit):
    """Chain totals are added in 64 bits: 2^32 bytes are the most a driver may send."""
    big = kit.add_ram(0x10_0000_0000, 1 << 31)
    room = kit.alloc(24)
    kit.control.add([(big.gpa, 1 << 31, 0), (big.gpa, (1 << 31) - 24, 0), (room, 24, F_WRITE)])
    assert kit.control.drain() == REQUEST
    kit.control.complete(ERR_UNSPEC)
    assert kit.control.take_used() == [(0, 24)]
    kit.control.add([(big.gpa, 1 << 31, 0), (big.gpa, 1 << 31, 0), (room, 1, F_WRITE)])
    assert kit.control.drain() == BROKEN
    assert "2^32" in kit.control.reason


def test_indirect_not_negotiated():
    with Kit(features=VERSION_1) as kit:
        kit.control.send(flush(1, 1, 1), indirect=True)
        assert kit.control.drain() == BROKEN
        assert "not negotiated" in kit.control.reason


@pytest.mark.parametrize("head", [16, 65535])
def test_head_out_of_range(kit, head):
    kit.control.publish(head)
    assert kit.control.drain() == BROKEN
    assert "out of range" in kit.control.reason


@pytest.mark.parametrize("ahead", [17, 1000, 65535])
def test_avail_index_running_ahead(kit, ahead):
    kit.control.set_avail_idx(ahead)
    assert kit.control.drain() == BROKEN
    assert "ahead" in kit.control.reason


def test_more_chains_in_flight_than_entries(kit):
    """A driver that makes chains available again before they came back can't make us hold any number of them."""
    requests = [ffi.new("vg_request *") for _ in range(17)]
    kit.control.send(get_display_info(), 408)
    for _ in range(16):
        kit.control.publish(0)
    kit.control.set_avail_idx(16)
    for request in requests[:16]:
        assert lib.vg_queue_drain(kit.core, 0, 0, request) == REQUEST
    kit.control.set_avail_idx(17)
    assert lib.vg_queue_drain(kit.core, 0, 0, requests[16]) == BROKEN
    assert "in flight" in kit.control.reason
    for request in requests[:16]:
        lib.vg_request_complete(kit.core, request, OK, ffi.NULL, 0)
        assert request.chain == ffi.NULL


def test_restart_clears_broken(kit):
    kit.control.publish(99)
    assert kit.control.drain() == BROKEN
    kit.control.set_avail_idx(0)
    kit.control.start()
    assert kit.control.reason == ""
    chain = kit.control.send(flush(1, 1, 1))
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(chain.head, 24)]


# ---- indices


@pytest.mark.parametrize("num", [1, 2, 16, 1024])
def test_indices_wrap(num):
    with Kit(num=num, features=VERSION_1 | INDIRECT_DESC, ram_size=1 << 22) as kit:
        ring = kit.control
        start = 65536 - 3 * num
        ring.set_avail_idx(start & 0xFFFF)
        ring.seen_used = 0xFFF0
        kit.write(ring.used + 2, struct.pack("<H", 0xFFF0))
        ring.start()
        room, request = kit.alloc(24), kit.place(flush(1, 1, 1))
        for _ in range(6):
            heads = [ring.add([(request, 48, 0), (room, 24, F_WRITE)], indirect=True) for _ in range(num)]
            assert ring.drain() == IDLE
            assert ring.take_used() == [(head, 24) for head in heads]
        assert ring.info().base == ring.avail_idx == 3 * num


def test_stop_and_cont_keep_the_used_index(kit):
    ring = kit.control
    for _ in range(5):
        ring.send(flush(1, 1, 1))
    ring.drain()
    base = ring.info().base
    assert base == 5
    lib.vg_queue_set_started(kit.core, 0, 0)
    ring.take_used()
    ring.start()
    chain = ring.send(flush(1, 1, 1))
    ring.drain()
    assert ring.take_used() == [(chain.head, 24)]
    assert ring.info().used_idx == 6


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


# ---- notifications


def set_used_event(kit, ring, value):
    kit.write(ring.avail + 4 + 2 * ring.num, struct.pack("<H", value & 0xFFFF))


def avail_event(kit, ring):
    return struct.unpack("<H", kit.read(ring.used + 4 + 8 * ring.num, 2))[0]


def test_event_idx_interrupt(kit):
    """The call comes when used->idx passes used_event, and only then (virtio 1.3, 2.7.10)."""
    ring = kit.control
    calls = []
    for used_event in (0, 0, 0, 3, 3, 5, 9, 7):
        set_used_event(kit, ring, used_event)
        ring.send(flush(1, 1, 1))
        ring.drain()
        calls.append(ring.call_count())
    assert calls == [1, 0, 0, 1, 0, 1, 0, 1]


def test_event_idx_interrupt_for_a_batch(kit):
    ring = kit.control
    ring.send(flush(1, 1, 1))
    ring.drain()
    ring.call_count()
    for used_event, expected in ((4, 1), (10, 0)):
        set_used_event(kit, ring, used_event)
        for _ in range(4):
            ring.send(flush(1, 1, 1))
        ring.drain()
        assert ring.call_count() == expected


def test_event_idx_kick_is_asked_for_at_the_end(kit):
    ring = kit.control
    ring.drain()
    assert avail_event(kit, ring) == 0
    for _ in range(3):
        ring.send(flush(1, 1, 1))
    ring.drain()
    assert avail_event(kit, ring) == 3


def test_flags_suppress_interrupts():
    with Kit(features=VERSION_1) as kit:
        ring = kit.control
        for flags, expected in ((0, 1), (NO_INTERRUPT, 0), (0, 1)):
            kit.write(ring.avail, struct.pack("<H", flags))
            ring.send(flush(1, 1, 1))
            ring.drain()
            assert ring.call_count() == expected


def test_flags_suppress_kicks_while_draining():
    with Kit(features=VERSION_1) as kit:
        ring = kit.control
        ring.send(get_display_info(), 408)
        assert ring.drain() == REQUEST
        assert kit.read(ring.used, 2) == struct.pack("<H", NO_NOTIFY)
        ring.complete()
        assert ring.drain() == IDLE
        assert kit.read(ring.used, 2) == bytes(2)


def test_flags_left_from_before_a_stop_are_cleared():
    with Kit(features=VERSION_1) as kit:
        ring = kit.control
        kit.write(ring.used, struct.pack("<H", NO_NOTIFY))
        ring.start()
        assert ring.drain() == IDLE
        assert kit.read(ring.used, 2) == bytes(2)


def test_one_call_for_many_completions(kit):
    for _ in range(5):
        kit.control.send(flush(1, 1, 1))
    kit.control.drain()
    assert kit.control.call_count() == 1
    assert kit.control.info().notified == 1


def test_completion_outside_a_drain_is_notified_on_request(kit):
    kit.control.send(get_display_info(), 408)
    assert kit.control.drain() == REQUEST
    assert lib.vg_queue_drain(kit.core, 0, 0, ffi.new("vg_request *")) == IDLE
    kit.control.complete(0x1101, bytes(384))
    assert kit.control.call_count() == 0
    lib.vg_queue_notify(kit.core, 0)
    lib.vg_queue_notify(kit.core, 0)
    assert kit.control.call_count() == 1


@pytest.mark.parametrize("features", [VERSION_1, VERSION_1 | EVENT_IDX])
def test_polling_guest_needs_no_eventfds(features):
    with Kit(features=features) as kit:
        ring = kit.control
        for setter in (lib.vg_queue_set_kick, lib.vg_queue_set_call, lib.vg_queue_set_err):
            setter(kit.core, 0, -1)
        chain = ring.send(flush(1, 1, 1))
        assert ring.drain() == IDLE
        assert ring.take_used() == [(chain.head, 24)]
        ring.publish(77)
        assert ring.drain() == BROKEN


def test_drain_takes_the_kick(kit):
    os.eventfd_write(kit.control.kick, 1)
    kit.control.drain()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(kit.control.kick)


@pytest.mark.parametrize("kicks", [0, 3])
def test_eventfds_that_block_do_not_block_us(kit, kicks):
    """Their O_NONBLOCK is the VMM's affair: it shares the open file."""
    kick, call = os.eventfd(kicks, 0), os.eventfd(0, 0)
    os.eventfd_write(call, 2**64 - 2)
    lib.vg_queue_set_kick(kit.core, 0, kick)
    lib.vg_queue_set_call(kit.core, 0, call)
    kit.control.send(flush(1, 1, 1))
    assert kit.control.drain() == IDLE
    assert kit.control.drain() == IDLE
    assert os.get_blocking(kick)
    assert os.eventfd_read(call) == 2**64 - 2
    lib.vg_queue_set_kick(kit.core, 0, -1)
    lib.vg_queue_set_call(kit.core, 0, -1)
    os.close(kick)
    os.close(call)


def test_stopped_queue_takes_the_kick_too(kit):
    """Else a loop that watches the eventfd would spin."""
    lib.vg_queue_set_enabled(kit.core, 0, 0)
    os.eventfd_write(kit.control.kick, 1)
    assert kit.control.drain() == STOPPED
    with pytest.raises(BlockingIOError):
        os.eventfd_read(kit.control.kick)


class Driver:
    """A driver that kicks and waits exactly as the ring's suppression allows (virtio 1.3, 2.7.10 and 2.7.13.4)."""

    def __init__(self, kit, ring):
        self.kit, self.ring, self.returned = kit, ring, 0
        self.event_idx = bool(kit.features & EVENT_IDX)
        self.lock = threading.Lock()
        request, room = kit.place(flush(1, 1, 1)), kit.alloc(24)
        self.heads = [ring.add([(request, 48, 0), (room, 24, F_WRITE)], indirect=True) for _ in range(ring.num)]
        ring.set_avail_idx(0)

    def barrier(self):
        with self.lock:
            pass

    def submit(self):
        if self.ring.avail_idx == (self.ring.seen_used + self.ring.num) & 0xFFFF:
            self.wait()
        self.ring.publish(self.heads[self.ring.avail_idx % self.ring.num])
        self.barrier()
        if self.event_idx:
            wanted = avail_event(self.kit, self.ring) == (self.ring.avail_idx - 1) & 0xFFFF
        else:
            wanted = not self.kit.read(self.ring.used, 1)[0] & NO_NOTIFY
        if wanted:
            os.eventfd_write(self.ring.kick, 1)

    def wait(self):
        while True:
            set_used_event(self.kit, self.ring, self.ring.seen_used)
            self.barrier()
            if used := self.ring.take_used():
                self.returned += len(used)
                return
            assert select.select([self.ring.call], [], [], 20)[0], "the interrupt got lost"
            self.ring.call_count()


@pytest.mark.parametrize("features", [VERSION_1 | INDIRECT_DESC, VERSION_1 | INDIRECT_DESC | EVENT_IDX])
def test_no_wakeup_is_lost(features):
    """Driver and device at the same time, each asleep whenever the other has not asked for it."""
    total = 20_000
    with Kit(num=4, features=features) as kit:
        driver = Driver(kit, kit.control)

        def device():
            while kit.control.info().completed < total:
                assert select.select([kit.control.kick], [], [], 20)[0], "the kick got lost"
                assert kit.control.drain() == IDLE

        thread = threading.Thread(target=device)
        thread.start()
        for _ in range(total):
            driver.submit()
        while driver.returned < total:
            driver.wait()
        thread.join()


# ---- noise

DESCRIPTORS = st.lists(
    st.tuples(
        st.one_of(st.integers(RAM_GPA, RAM_GPA + 4096), st.sampled_from([0, HOLE, 2**64 - 1, RAM_GPA + RAM_SIZE - 4])),
        st.one_of(st.integers(0, 200), st.sampled_from([2**31, 2**32 - 1])),
        st.one_of(st.integers(0, 7), st.integers(0, 65535)),
        st.one_of(st.integers(0, 9), st.integers(0, 65535)),
    ),
    max_size=8,
)


def finish(ring):
    """Drains to the end, answering what comes; returns the last state. Bounded by what the ring can hold."""
    for _ in range(5000):
        state = ring.drain()
        if state == REQUEST:
            ring.complete(ERR_UNSPEC)
        elif state != lib.VG_DRAIN_AGAIN:
            return state
    raise AssertionError("the drain never ends")


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    DESCRIPTORS,
    st.lists(st.one_of(st.integers(0, 9), st.integers(0, 65535)), max_size=10),
    st.integers(0, 12),
    st.binary(max_size=300),
    st.sampled_from([VERSION_1, VERSION_1 | INDIRECT_DESC, VERSION_1 | INDIRECT_DESC | EVENT_IDX]),
)
def test_noise_ends_idle_or_broken(descriptors, heads, ahead, noise, features):
    with Kit(num=8, features=features) as kit:
        ring = kit.control
        kit.write(RAM_GPA + 2048, noise)
        for slot, (gpa, length, flags, next_) in enumerate(descriptors):
            ring.put(slot, gpa, length, flags, next_)
        for i, head in enumerate(heads[:8]):
            kit.write(ring.avail + 4 + 2 * i, struct.pack("<H", head))
        ring.set_avail_idx(ahead)
        assert finish(ring) in (IDLE, BROKEN)
        assert kit.hostmem_used() == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([flush(1, 1, 1), transfer(9, 4, 4), get_display_info(), b"\xff" * 40, b"short", b""]),
            st.lists(st.integers(0, 60), max_size=4),
            st.lists(st.integers(1, 40), max_size=3),
            st.booleans(),
        ),
        max_size=16,
    )
)
def test_every_well_formed_chain_comes_back_in_order(chains):
    with Kit(num=128) as kit:
        ring = kit.control
        heads = []
        for request, cuts, rooms, indirect in chains:
            edges = [0, *sorted(min(cut, len(request)) for cut in cuts), len(request)]
            pieces = [request[a:b] for a, b in pairwise(edges)]
            heads.append(ring.send(pieces, rooms, indirect=indirect).head)
        assert finish(ring) == IDLE
        assert [head for head, _ in ring.take_used()] == heads
