"""Descriptor chains of every kind of ring: well-formed in every shape, and malformed."""

import struct

import pytest

from backend._core import ffi, lib
from tests.backend.ringkit import (
    ERR_UNSPEC,
    F_INDIRECT,
    F_NEXT,
    F_WRITE,
    FEATURES,
    KINDS,
    OK,
    RAM_GPA,
    RAM_SIZE,
    RING_PACKED,
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


@pytest.fixture
def split():
    with Kit() as kit:
        yield kit


@pytest.fixture
def packed():
    with Kit(features=FEATURES | RING_PACKED) as kit:
        yield kit


def response_type(reply):
    return struct.unpack_from("<I", reply)[0]


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


@pytest.mark.parametrize("entries", [65, 300, 32768])
@pytest.mark.parametrize("in_first", [0, 7, 66])
def test_indirect_table_across_regions(kit, entries, in_first):
    """The table straddles two regions (libvhost-user 85805ee8), or its border cuts an entry in two."""
    low = kit.add_ram(0x4000_0000, 1 << 20)
    high = kit.add_ram(0x4010_0000, 1 << 20)
    request, room = kit.place(flush(1, 1, 1)), kit.alloc(24)
    table = kit.control.pack_table([(request + i % 48, 1, 0) for i in range(entries - 1)] + [(room, 24, F_WRITE)])
    start = 0x4010_0000 - 16 * in_first - 9
    low.write(start, table[: 0x4010_0000 - start])
    high.write(0x4010_0000, table[0x4010_0000 - start :])
    kit.control.add([(start, len(table), F_INDIRECT)])
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(0, 24)]
    assert response_type(kit.read(room, 24)) == 0x1203


# ---- malformed: any kind


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


@pytest.mark.parametrize("kind", KINDS)
def test_indirect_not_negotiated(kind):
    with Kit(features=VERSION_1 | KINDS[kind]) as kit:
        kit.control.send(flush(1, 1, 1), indirect=True)
        assert kit.control.drain() == BROKEN
        assert "not negotiated" in kit.control.reason


# ---- split


def test_direct_descriptors_before_an_indirect_one(split):
    """virtio 1.3, 2.7.7.2: normal descriptors, then a single indirect one."""
    request, room = split.place(flush(1, 1, 1)), split.alloc(24)
    table = split.place(split.control.pack_table([(request + 24, 24, 0), (room, 24, F_WRITE)]))
    split.control.add([(request, 24, 0), (table, 32, F_INDIRECT | F_WRITE)])
    assert split.control.drain() == IDLE
    assert split.control.take_used() == [(0, 24)]
    assert response_type(split.read(room, 24)) == 0x1203


def test_indirect_table_in_any_order(split):
    request, room = split.place(flush(1, 1, 1)), split.alloc(24)
    table = struct.pack("<QIHHQIHHQIHH", request, 24, F_NEXT, 2, room, 24, F_WRITE, 0, request + 24, 24, F_NEXT, 1)
    split.control.add([(split.place(table), len(table), F_INDIRECT)])
    assert split.control.drain() == IDLE
    assert split.control.take_used() == [(0, 24)]


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
def test_malformed_split_chain_breaks_its_queue_alone(split, name):
    kit = split
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


@pytest.mark.parametrize("head", [16, 65535])
def test_head_out_of_range(split, head):
    split.control.publish(head)
    assert split.control.drain() == BROKEN
    assert "out of range" in split.control.reason


@pytest.mark.parametrize("ahead", [17, 1000, 65535])
def test_avail_index_running_ahead(split, ahead):
    split.control.set_avail_idx(ahead)
    assert split.control.drain() == BROKEN
    assert "ahead" in split.control.reason


def test_more_chains_in_flight_than_entries(split):
    """A driver that makes chains available again before they came back can't make us hold any number of them."""
    requests = [ffi.new("vg_request *") for _ in range(17)]
    split.control.send(get_display_info(), 408)
    for _ in range(16):
        split.control.publish(0)
    split.control.set_avail_idx(16)
    for request in requests[:16]:
        assert lib.vg_queue_drain(split.core, 0, 0, request) == REQUEST
    split.control.set_avail_idx(17)
    assert lib.vg_queue_drain(split.core, 0, 0, requests[16]) == BROKEN
    assert "in flight" in split.control.reason
    for request in requests[:16]:
        lib.vg_request_complete(split.core, request, OK, ffi.NULL, 0)
        assert request.chain == ffi.NULL


def test_restart_clears_broken(split):
    split.control.publish(99)
    assert split.control.drain() == BROKEN
    split.control.set_avail_idx(0)
    split.control.start()
    assert split.control.reason == ""
    chain = split.control.send(flush(1, 1, 1))
    assert split.control.drain() == IDLE
    assert split.control.take_used() == [(chain.head, 24)]


# ---- packed


def test_table_entries_need_no_flags_but_write(packed):
    """virtio 1.3, 2.8.7: the others are reserved and ignored, and so is the id."""
    request, room = packed.place(flush(1, 1, 1)), packed.alloc(24)
    first = struct.pack("<QIHH", request, 48, 0xFFFF, 0xFFFF & ~F_WRITE)
    table = first + struct.pack("<QIHH", room, 24, 7, 0xFFFF)
    packed.control.add([(packed.place(table), len(table), F_INDIRECT | F_WRITE)])
    assert packed.control.drain() == IDLE
    assert packed.control.take_used() == [(0, 24)]
    assert response_type(packed.read(room, 24)) == 0x1203


@pytest.mark.parametrize("id_", [0, 15, 16, 1024, 65535])
def test_any_id_comes_back(packed, id_):
    """Buffer ids are the driver's own affair: the specification sets no limit."""
    packed.control.next_id = id_
    assert packed.control.send(flush(1, 1, 1)).head == id_
    assert packed.control.drain() == IDLE
    assert packed.control.take_used() == [(id_, 24)]


def test_stale_descriptors_are_not_available(packed):
    """Both values that the flags' two bits can have when they are not the driver's."""
    for turn in range(64):
        assert packed.control.drain() == IDLE
        for owner in (0, 0x8080):
            packed.control.put(turn % 16, HOLE, 1, owner | F_WRITE, 99)
            assert packed.control.drain() == IDLE
        packed.control.add([(0, 0, 0)])
        assert packed.control.drain() == IDLE
        assert len(packed.control.take_used()) == 1


def bad_packed(*descriptors):
    """Descriptors (gpa, length, flags, owner's bits right) from the ring's next entry on."""

    def build(ring):
        for i, (gpa, length, flags, available) in reversed(list(enumerate(descriptors))):
            owner = ring.available(ring.next + i)
            ring.put((ring.next + i) % ring.num, gpa, length, flags | (owner if available else owner ^ 0x8080), 3)

    return build


GOOD = RAM_GPA + RAM_SIZE // 2
BAD_PACKED = {
    "longer than the ring": (bad_packed(*[(GOOD, 1, F_NEXT, True)] * 16), "longer than the ring"),
    "goes on used": (bad_packed((GOOD, 1, F_NEXT, True), (GOOD, 1, 0, False)), "not available"),
    "goes on before the wrap": (bad_packed(*[(GOOD, 1, F_NEXT, True)] * 4, (GOOD, 1, 0, False)), "not available"),
    "address outside memory": (bad_packed((HOLE, 24, 0, True)), "outside memory"),
    "address wraps": (bad_packed((2**64 - 8, 24, 0, True)), "outside memory"),
    "buffer runs out of memory": (bad_packed((RAM_GPA + RAM_SIZE - 8, 24, 0, True)), "outside memory"),
    "reply outside memory": (bad_packed((GOOD, 24, F_NEXT, True), (HOLE, 24, F_WRITE, True)), "outside memory"),
    "readable after writable": (
        bad_packed((GOOD, 24, F_NEXT | F_WRITE, True), (GOOD, 24, 0, True)),
        "readable buffer after",
    ),
    "table of no length": (bad_packed((GOOD, 0, F_INDIRECT, True)), "odd size"),
    "table of odd length": (bad_packed((GOOD, 24, F_INDIRECT, True)), "odd size"),
    "table with next": (bad_packed((GOOD, 16, F_INDIRECT | F_NEXT, True)), "NEXT"),
    "table behind another": (bad_packed((GOOD, 1, F_NEXT, True), (GOOD, 16, F_INDIRECT, True)), "behind"),
    "table too long": (bad_packed((GOOD, 16 * 32769, F_INDIRECT, True)), "too long"),
    "table outside memory": (bad_packed((HOLE, 16, F_INDIRECT, True)), "outside memory"),
    "table runs out of memory": (bad_packed((RAM_GPA + RAM_SIZE - 16, 32, F_INDIRECT, True)), "outside memory"),
}


@pytest.mark.parametrize("name", BAD_PACKED)
@pytest.mark.parametrize("before", [1, 7])
def test_malformed_packed_chain_breaks_its_queue_alone(packed, name, before):
    """With two descriptors a chain, seven chains before it: across the ring's end, where the wrap counter flips."""
    build, reason = BAD_PACKED[name]
    ring = packed.control
    for _ in range(before):
        ring.send(flush(1, 1, 1))
    ring.drain()
    assert len(ring.take_used()) == before
    build(ring)
    assert ring.drain() == BROKEN
    assert reason in ring.reason
    assert ring.err_count() == 1
    assert ring.drain() == STOPPED
    assert ring.err_count() == 0
    assert ring.take_used() == []
    moved = packed.cursor.send(flush(1, 1, 1))
    assert packed.cursor.drain() == IDLE
    assert packed.cursor.take_used() == [(moved.head, 24)]


def test_more_descriptors_in_flight_than_entries(packed):
    """A driver that makes entries available again before they came back can't make us hold any number of them."""
    ring = packed.control
    requests = [ffi.new("vg_request *") for _ in range(9)]
    for request in requests[:8]:
        ring.send(get_display_info(), 408)
        assert lib.vg_queue_drain(packed.core, 0, 0, request) == REQUEST
    ring.send(get_display_info(), 408)
    assert lib.vg_queue_drain(packed.core, 0, 0, requests[8]) == BROKEN
    assert "in flight" in ring.reason
    for request in requests[:8]:
        lib.vg_request_complete(packed.core, request, OK, ffi.NULL, 0)


def test_restart_clears_broken_packed(packed):
    packed.control.put(0, HOLE, 1, packed.control.available(0))
    assert packed.control.drain() == BROKEN
    packed.control.start()
    assert packed.control.reason == ""
    chain = packed.control.send(flush(1, 1, 1))
    assert packed.control.drain() == IDLE
    assert packed.control.take_used() == [(chain.head, 24)]
