"""Commands in the C core's drain: what completes inside, what comes out, sizes, replies, budget, the cursor queue."""

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backend
from backend._core import ffi, lib
from tests.backend.ringkit import (
    ERR_INVALID_PARAMETER,
    ERR_INVALID_RESOURCE_ID,
    ERR_INVALID_SCANOUT_ID,
    ERR_OUT_OF_MEMORY,
    ERR_UNSPEC,
    F_WRITE,
    FEATURES,
    FLAG_FENCE,
    FLAG_RING_IDX,
    KINDS,
    OK,
    Kit,
    attach_backing,
    create_2d,
    flush,
    get_display_info,
    header,
    move_cursor,
    transfer,
    update_cursor,
)

IDLE, REQUEST, AGAIN = lib.VG_DRAIN_IDLE, lib.VG_DRAIN_REQUEST, lib.VG_DRAIN_AGAIN

FIXED_SIZES = {
    0x100: 24, 0x101: 40, 0x102: 32, 0x106: 32, 0x107: 32, 0x108: 32, 0x109: 32, 0x10A: 32,
}  # fmt: skip
"""Commands that go to the caller, with the size of their struct in linux/virtio_gpu.h."""
HEADER_ONLY = [0, 0x10B, 0x10E, 0x110, 0x200, 0x204, 0x207, 0x20A, 0x302, 0x1100, 0xFFFFFFFF]


@pytest.fixture(params=KINDS)
def kit(request):
    with Kit(features=FEATURES | KINDS[request.param]) as kit:
        yield kit


def ask(ring, request, room=24):
    """Sends a request that the core answers itself. Returns the type of its answer."""
    chain = ring.send(request, room)
    assert ring.drain() == IDLE
    assert ring.take_used() == [(chain.head, 24)]
    return struct.unpack_from("<I", ring.reply(chain))[0]


# ---- complete inside


def test_transfer_and_flush(kit):
    backing = kit.make_resource(1, 8, 8)
    pixels = bytes(range(256))
    kit.write(backing, pixels)
    assert ask(kit.control, transfer(1, 8, 8)) == OK
    assert ask(kit.control, flush(1, 8, 8)) == OK
    out = ffi.new("uint8_t[]", 256)
    assert lib.vg_resource_read(kit.core, 1, 0, 0, 8, 8, out, 32) == 0
    assert bytes(ffi.buffer(out)) == pixels


def test_errors_of_the_2d_device_are_passed_on(kit):
    assert ask(kit.control, transfer(5, 1, 1)) == ERR_INVALID_RESOURCE_ID
    assert ask(kit.control, flush(5, 1, 1)) == ERR_INVALID_RESOURCE_ID
    kit.make_resource(1, 8, 8)
    assert ask(kit.control, transfer(1, 9, 8)) == ERR_INVALID_PARAMETER


def test_transfer_from_far_past_the_backing(kit):
    """An offset of 2^40 aborts QEMU 7.2's back-end."""
    kit.make_resource(1, 8, 8)
    chain = kit.control.send(transfer(1, 8, 8, offset=2**40))
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(chain.head, 24)]


def test_move_cursor(kit):
    assert ask(kit.cursor, move_cursor(1, 30, 40)) == OK
    cursor = ffi.new("vg_cursor *")
    lib.vg_cursor_describe(kit.core, 1, cursor)
    assert (cursor.x, cursor.y) == (30, 40)


def test_linux_cursor_queue_has_no_room_for_replies(kit):
    chain = kit.cursor.send(move_cursor(0, 3, 4), 0)
    assert kit.cursor.drain() == IDLE
    assert kit.cursor.take_used() == [(chain.head, 0)]
    assert kit.cursor.call_count() == 1


# ---- given to the caller


@pytest.mark.parametrize("type_", FIXED_SIZES)
def test_request_is_exactly_the_fixed_struct(kit, type_):
    size = FIXED_SIZES[type_]
    request = header(type_, FLAG_FENCE | FLAG_RING_IDX, 2**63 + 9, 3, 7) + bytes(size - 24)
    kit.control.send(request + b"trailing bytes", 100)
    assert kit.control.drain() == REQUEST
    got = kit.control.request
    assert (got.queue, got.type, got.flags, got.fence_id) == (0, type_, 3, 2**63 + 9)
    assert (got.ctx_id, got.ring_idx, got.reply_capacity) == (3, 7, 100)
    assert kit.control.data() == request
    kit.control.complete()


@pytest.mark.parametrize("type_", HEADER_ONLY)
def test_of_other_commands_comes_the_header(kit, type_):
    request = header(type_, FLAG_FENCE, 1)
    kit.control.send(request + bytes(1000))
    assert kit.control.drain() == REQUEST
    assert kit.control.data() == request
    kit.control.complete(ERR_UNSPEC)
    assert kit.control.take_used() == [(0, 24)]


def test_a_page_flip_completes_inside(kit):
    """SET_SCANOUT of a resource that exists, of one that does not, and none."""
    for id_ in (1, 2):
        assert lib.vg_resource_create_2d(kit.core, id_, 1, 8, 8) == OK
    frame = ffi.new("vg_frame *")
    for id_, answer, shown in ((1, OK, 1), (2, OK, 2), (3, ERR_INVALID_RESOURCE_ID, 2), (0, OK, 0)):
        assert ask(kit.control, header(0x103) + struct.pack("<6I", 0, 0, 8, 8, 0, id_)) == answer
        lib.vg_scanout_frame(kit.core, 0, frame)
        assert frame.resource_id == shown


def test_update_cursor_completes_inside(kit):
    assert lib.vg_resource_create_2d(kit.core, 5, 1, 64, 64) == OK
    chain = kit.cursor.send(update_cursor(0, 1, 2, 5))
    assert kit.cursor.drain() == IDLE
    assert kit.cursor.reply(chain) == header(OK)
    cursor = ffi.new("vg_cursor *")
    lib.vg_cursor_describe(kit.core, 0, cursor)
    assert (cursor.visible, cursor.resource_id, cursor.x, cursor.y) == (1, 5, 1, 2)


@pytest.mark.parametrize("usable", [1, 2])
def test_commands_name_usable_scanouts_only(kit, usable):
    lib.vg_set_usable_scanouts(kit.core, usable)
    assert lib.vg_resource_create_2d(kit.core, 1, 1, 64, 64) == OK
    for scanout, answer in ((usable - 1, OK), (usable, ERR_INVALID_SCANOUT_ID), (0xFFFFFFFF, ERR_INVALID_SCANOUT_ID)):
        assert ask(kit.control, header(0x103) + struct.pack("<6I", 0, 0, 8, 8, scanout, 1)) == answer
        assert ask(kit.cursor, move_cursor(scanout, 1, 1)) == answer
        assert ask(kit.cursor, update_cursor(scanout, 1, 1, 1)) == answer


def test_order_is_kept_and_answers_may_come_in_any(kit):
    ring, requests = kit.control, [ffi.new("vg_request *") for _ in range(3)]
    heads = [ring.send(create_2d(i, 1, 1)).head for i in range(3)]
    for i, request in enumerate(requests):
        assert lib.vg_queue_drain(kit.core, 0, 0, request) == REQUEST
        assert struct.unpack_from("<I", ffi.buffer(request.data, request.size), 24) == (i,)
    for i in (2, 0, 1):
        lib.vg_request_complete(kit.core, requests[i], OK, ffi.NULL, 0)
    assert ring.take_used() == [(heads[i], 24) for i in ((0, 1, 2) if kit.in_order else (2, 0, 1))]
    lib.vg_request_drop(kit.core, requests[0])


def test_dropped_request_gives_nothing_back(kit):
    kit.control.send(attach_backing(1, [(0, 16)] * 20))
    assert kit.control.drain() == REQUEST
    lib.vg_request_drop(kit.core, kit.control.request)
    assert kit.control.request.chain == ffi.NULL
    assert kit.control.take_used() == []
    assert kit.hostmem_used() == 0


def test_device_freed_with_requests_out():
    kit = Kit()
    kit.control.send(attach_backing(1, [(0, 16)] * 20), [1] * 10)
    assert kit.control.drain() == REQUEST
    with kit:
        pass


def test_request_is_a_copy(kit):
    chain = kit.control.send(create_2d(1, 8, 8))
    assert kit.control.drain() == REQUEST
    gpa = struct.unpack("<Q", kit.read(kit.control.desc + 16 * chain.head, 8))[0]
    kit.write(gpa, b"\xff" * 40)
    assert kit.control.data() == create_2d(1, 8, 8)
    kit.control.complete()


# ---- short requests, wrong queue


@pytest.mark.parametrize("size", [0, 1, 16, 23])
def test_too_short_for_a_header(kit, size):
    request = flush(1, 1, 1, flags=FLAG_FENCE, fence_id=5)[:size]
    chain = kit.control.send(request)
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(chain.head, 24)]
    assert kit.control.reply(chain) == header(ERR_UNSPEC)


@pytest.mark.parametrize(
    ("type_", "size"), [*((t, s) for t, s in FIXED_SIZES.items() if s > 24), (0x103, 48), (0x104, 48), (0x105, 56)]
)
def test_too_short_for_its_type(kit, type_, size):
    chain = kit.control.send(header(type_, FLAG_FENCE, 77) + bytes(size - 25))
    assert kit.control.drain() == IDLE
    assert kit.control.reply(chain) == header(ERR_INVALID_PARAMETER, FLAG_FENCE, 77)


@pytest.mark.parametrize("type_", [0x300, 0x301])
def test_cursor_command_too_short(kit, type_):
    assert ask(kit.cursor, header(type_) + bytes(31)) == ERR_INVALID_PARAMETER


@pytest.mark.parametrize("request_", [update_cursor(0, 0, 0, 0), move_cursor(0, 0, 0)])
def test_cursor_command_on_the_control_queue(kit, request_):
    assert ask(kit.control, request_) == ERR_UNSPEC


@pytest.mark.parametrize("request_", [get_display_info(), flush(1, 1, 1), transfer(1, 1, 1), header(0x999)])
def test_control_command_on_the_cursor_queue(kit, request_):
    assert ask(kit.cursor, request_) == ERR_UNSPEC


# ---- attach backing


def test_attach_brings_its_entries(kit):
    entries = [(0x1000 * i, 100 + i) for i in range(300)]
    request = attach_backing(4, entries)
    kit.control.send([request[:30], request[30:1001], request[1001:]])
    assert kit.control.drain() == REQUEST
    assert kit.control.data() == request
    assert kit.hostmem_used() >= len(request)
    kit.control.complete()
    assert kit.hostmem_used() == 0


def test_attach_without_entries(kit):
    kit.control.send(attach_backing(4, []))
    assert kit.control.drain() == REQUEST
    assert kit.control.data() == attach_backing(4, [])
    kit.control.complete()


@pytest.mark.parametrize("count", [3, 16384, 2**28, 2**31, 2**32 - 1])
def test_attach_with_fewer_entries_than_it_claims(kit, count):
    """nr_entries is checked against the bytes supplied before anything is sized by it."""
    assert ask(kit.control, attach_backing(4, [(0, 16), (16, 16)], count)) == ERR_INVALID_PARAMETER
    assert ask(kit.control, attach_backing(4, [(0, 16), (16, 16)], 2)[:-1] + b"") == ERR_INVALID_PARAMETER
    assert kit.hostmem_used() == 0


def test_attach_over_the_budget():
    with Kit(hostmem=4096) as kit:
        assert ask(kit.control, attach_backing(4, [(0, 16)] * 300)) == ERR_OUT_OF_MEMORY
        assert kit.hostmem_used() == 0
        kit.control.send(attach_backing(4, [(0, 16)] * 200))
        assert kit.control.drain() == REQUEST
        kit.control.complete()


def test_attach_whose_bytes_overlap_themselves(kit):
    """A chain may name the same memory many times: 4 GiB of entries out of one page are refused by the budget."""
    page = kit.place(attach_backing(4, [], 2**28 - 4) + bytes(4096 - 32))
    big = kit.add_ram(0x10_0000_0000, 1 << 31)
    room = kit.alloc(24)
    kit.control.add([(page, 32, 0), (big.gpa, 1 << 31, 0), (big.gpa, (1 << 31) - 64, 0), (room, 24, F_WRITE)])
    assert kit.control.drain() == IDLE
    assert kit.read(room, 24) == header(ERR_OUT_OF_MEMORY)


def test_many_reply_buffers_are_charged_while_the_request_lives(kit):
    kit.control.send(get_display_info(), [1] * 1000, indirect=True)
    assert kit.control.drain() == REQUEST
    assert kit.hostmem_used() >= 1000 * 12
    kit.control.complete(0x1101, bytes(384))
    assert kit.control.take_used() == [(0, 408)]
    assert kit.hostmem_used() == 0


# ---- replies


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (0, header(0x1101)),
        (FLAG_FENCE, header(0x1101, FLAG_FENCE, 2**32 + 1, 6)),
        (FLAG_FENCE | FLAG_RING_IDX, header(0x1101, 3, 2**32 + 1, 6, 9)),
        (FLAG_RING_IDX, header(0x1101)),
        (0xFFFFFFFC, header(0x1101)),
    ],
)
def test_fence_echo(kit, flags, expected):
    chain = kit.control.send(header(0x100, flags, 2**32 + 1, 6, 9), 40)
    assert kit.control.drain() == REQUEST
    kit.control.complete(0x1101, b"payload.")
    assert kit.control.take_used() == [(chain.head, 32)]
    assert kit.control.reply(chain) == expected + b"payload." + bytes(8)


@pytest.mark.parametrize("room", [0, 1, 23, 24, 31])
def test_payload_without_room(kit, room):
    chain = kit.control.send(header(0x100, FLAG_FENCE, 5), room)
    assert kit.control.drain() == REQUEST
    kit.control.complete(0x1101, b"payload.")
    written = min(room, 24)
    assert kit.control.take_used() == [(chain.head, written)]
    assert kit.control.reply(chain)[:written] == header(ERR_UNSPEC, FLAG_FENCE, 5)[:written]


@settings(deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=12), st.binary(max_size=600))
def test_reply_over_any_buffers(rooms, payload):
    with Kit() as kit:
        chain = kit.control.send(get_display_info(), rooms)
        assert kit.control.drain() == REQUEST
        kit.control.complete(0x1101, payload)
        whole = header(0x1101) + payload if sum(rooms) >= 24 + len(payload) else header(ERR_UNSPEC)
        written = min(len(whole), sum(rooms)) if payload else min(24, sum(rooms))
        assert kit.control.take_used() == [(chain.head, written)]
        if payload or sum(rooms) >= 24:
            assert kit.control.reply(chain)[:written] == whole[:written]


# ---- time budget


def test_budget_spent_returns_again_and_loses_nothing():
    with Kit(num=64) as kit:
        heads = [kit.control.send(flush(1, 1, 1), 24, True).head for _ in range(60)]
        states = []
        while not states or states[-1] == AGAIN:
            states.append(kit.control.drain(budget_ns=0))
        assert states.count(AGAIN) >= 3
        assert states[-1] == IDLE
        assert [head for head, _ in kit.control.take_used()] == heads


def test_each_large_frame_is_told_of(kit):
    """However much time there is: a frame that took long to copy ends the turn."""
    copy = big_transfer(kit)
    assert lib.vg_set_scanout(kit.core, 0, 1, 0, 0, 1024, 512) == OK
    lib.vg_take_dirty(kit.core)
    for _ in range(3):
        kit.control.send(copy, 24)
        kit.control.send(flush(1, 1024, 512), 24)
    for frame in range(3):
        assert kit.control.drain(10**10) == AGAIN
        assert lib.vg_take_dirty(kit.core) == 1
        assert len(kit.control.take_used()) == 2, f"frame {frame} and no other"
    assert kit.control.drain(10**10) == IDLE


def test_small_frames_are_told_of_together(kit):
    kit.make_resource(1, 64, 64)
    assert lib.vg_set_scanout(kit.core, 0, 1, 0, 0, 64, 64) == OK
    for _ in range(3):
        kit.control.send(transfer(1, 64, 64), 24)
        kit.control.send(flush(1, 64, 64), 24)
    assert kit.control.drain(10**10) == IDLE


def test_large_pictures_that_no_screen_shows_end_no_turn(kit):
    copy = big_transfer(kit)
    for i in range(3):
        kit.control.send(copy, 24)
        kit.control.send(flush(1, 1024, 512), 24)
        kit.cursor.send(move_cursor(0, i, i), 0)
    assert kit.control.drain(10**10) == IDLE


def test_call_is_signalled_before_again():
    with Kit(num=64) as kit:
        for _ in range(60):
            kit.control.send(flush(1, 1, 1), 24, True)
        assert kit.control.drain(budget_ns=0) == AGAIN
        assert kit.control.call_count() == 1


# ---- the cursor during long copies


def big_transfer(kit):
    """A resource of 2 MiB, more than the pieces in which the core copies."""
    far = kit.add_ram(0x4000_0000, 1 << 21)
    assert lib.vg_resource_create_2d(kit.core, 1, 2, 1024, 512) == OK
    assert lib.vg_resource_attach_backing(kit.core, 1, struct.pack("<QII", far.gpa, 1 << 21, 0), 1) == OK
    return transfer(1, 1024, 512)


def test_cursor_moves_during_a_long_copy(kit):
    kit.control.send(big_transfer(kit))
    moves = [kit.cursor.send(move_cursor(0, i, i), 0) for i in range(3)]
    assert kit.cursor.take_used() == []
    assert kit.control.drain() == IDLE
    assert kit.cursor.take_used() == [(move.head, 0) for move in moves]
    assert kit.cursor.call_count() >= 1


def test_cursor_commands_are_served_in_order_during_a_copy(kit):
    """As far as they are sound: what the core can't answer stays for the queue's own drain."""
    kit.cursor.drain()
    kit.control.send(big_transfer(kit))
    first = kit.cursor.send(move_cursor(0, 1, 1), 0)
    second = kit.cursor.send(update_cursor(0, 3, 3, 0), 0)
    third = kit.cursor.send(header(0x100), 24)
    kit.cursor.send(move_cursor(0, 2, 2), 0)
    assert kit.control.drain() == IDLE
    assert [head for head, _ in kit.cursor.take_used()][-1] == second.head
    assert kit.cursor.drain() == IDLE
    assert kit.cursor.reply(third) == header(ERR_UNSPEC)
    assert first.head != second.head


def test_broken_cursor_ring_found_during_a_copy_is_reported_by_its_drain(kit):
    kit.cursor.drain()
    chain = kit.control.send(big_transfer(kit))
    kit.cursor.add([(0, 1, 0)])
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == [(chain.head, 24)]
    assert kit.cursor.err_count() == 1
    assert kit.cursor.drain() == lib.VG_DRAIN_BROKEN
    assert kit.cursor.drain() == lib.VG_DRAIN_STOPPED


# ---- noise


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from([*FIXED_SIZES, 0x104, 0x105, 0x300, 0x301]), st.integers(0, 2**32 - 1)),
            st.binary(max_size=80),
        ),
        max_size=12,
    ),
    st.sampled_from(["control", "cursor"]),
    st.sampled_from(sorted(KINDS)),
)
def test_noise_commands_all_come_back(commands, name, kind):
    with Kit(num=32, features=FEATURES | KINDS[kind]) as kit:
        kit.make_resource(1, 4, 4)
        ring = getattr(kit, name)
        heads = [ring.send(struct.pack("<I", type_) + body).head for type_, body in commands]
        while ring.drain() == REQUEST:
            ring.complete(ERR_UNSPEC)
        assert [head for head, _ in ring.take_used()] == heads


# ---- the interface


def test_type_stub_has_every_function_and_constant():
    core = Path(backend.__file__).with_name("core") / "vg_api.h"
    header_text = re.sub(r"/\*.*?\*/", "", core.read_text(), flags=re.DOTALL)
    declared = set(re.findall(r"\b(vg_\w+)\(", header_text)) | set(re.findall(r"#define (VG_\w+)", header_text))
    stub = (Path(backend.__file__).with_name("_core.pyi")).read_text()
    assert declared == set(re.findall(r"def (vg_\w+)\(", stub)) | set(re.findall(r"^    (VG_\w+):", stub, re.MULTILINE))
    assert declared <= set(dir(lib))
