"""Commands of blobs as they come from rings, without a renderer and with one."""

import os
import struct

import pytest

from backend._core import ffi, lib
from protocol.virtio_gpu import CommandType, Rect, ResourceFlush, UpdateCursor
from protocol.virtio_gpu_blob import (
    BlobFlag,
    BlobMem,
    ResourceCreateBlob,
    ResourceMapBlob,
    ResourceUnmapBlob,
    SetScanoutBlob,
)
from tests.backend.devicekit import (
    B8G8R8X8,
    ERR_INVALID_PARAMETER,
    ERR_INVALID_RESOURCE_ID,
    ERR_OUT_OF_MEMORY,
    ERR_UNSPEC,
    MIB,
    OK,
)
from tests.backend.renderkit import (
    LOST,
    RenderKit,
    ctx_attach,
    ctx_create,
    ctx_detach,
    detach_backing,
    fence,
    submit,
    transfer_3d,
    unref,
)
from tests.backend.ringkit import Kit, header, transfer

IDLE = lib.VG_DRAIN_IDLE
HUGE = 0xFFFFFFFF


def shown_by(kit: Kit, scanout: int = 0) -> bytes:
    """What a sink would see."""
    frame, image = ffi.new("vg_frame *"), ffi.new("vg_image_info *")
    assert lib.vg_scanout_frame(kit.core, scanout, frame) == 0
    if frame.resource_id == 0:
        return b""
    assert lib.vg_image_describe(kit.core, frame.image, image) == 0
    out = ffi.new("char[]", frame.width * frame.height * 4)
    lib.vg_image_read_xrgb(kit.core, frame.image, frame.x, frame.y, frame.width, frame.height, out, frame.width * 4)
    return bytes(ffi.buffer(out))


def create(kit: Kit, resource: int, size: int) -> tuple[bytes, int]:
    """The command that makes a blob, and where its memory is."""
    gpa = kit.alloc(size)
    entry = struct.pack("<QII", gpa, size, 0)
    return ResourceCreateBlob(resource, BlobMem.GUEST, BlobFlag.USE_SHAREABLE, 1, 0, size, entry).encode(), gpa


def scanout(resource: int, side: int, *strides: int, number: int = 0) -> bytes:
    planes = (strides or (side * 4,)) + (0, 0, 0, 0)
    four = (planes[0], planes[1], planes[2], planes[3])
    return SetScanoutBlob(Rect(0, 0, side, side), number, resource, side, side, B8G8R8X8, four).encode()


def flush(resource: int, side: int) -> bytes:
    return ResourceFlush(Rect(0, 0, side, side), resource).encode()


def types(kit: Kit, *requests: bytes) -> list[int]:
    """Sends all of them, then drains; the types of the responses."""
    chains = [kit.control.send(request, 24) for request in requests]
    while (state := kit.control.drain()) == lib.VG_DRAIN_REQUEST:
        kit.control.complete(FOR_THE_CALLER[kit.control.request.type](kit.core, kit.control.data()[24]))
    assert state == IDLE
    kit.control.take_used()
    return [struct.unpack_from("<I", kit.control.reply(chain))[0] for chain in chains]


FOR_THE_CALLER = {0x102: lib.vg_resource_unref, 0x107: lib.vg_resource_detach_backing}
X = b"\1\2\3\0"


def test_all_of_it_completes_in_the_core() -> None:
    with Kit() as kit:
        make, gpa = create(kit, 1, 4096)
        kit.write(gpa, X * 1024)
        assert types(kit, make, scanout(1, 32), flush(1, 32)) == [OK] * 3
        assert shown_by(kit) == X * 1024


def test_a_picture_without_a_flush_is_shown_too() -> None:
    with Kit() as kit:
        make, gpa = create(kit, 1, 4096)
        kit.write(gpa, X * 1024)
        assert types(kit, make, scanout(1, 32)) == [OK] * 2
        assert shown_by(kit) == X * 1024


def test_a_page_flip_is_one_frame() -> None:
    """SET_SCANOUT_BLOB and RESOURCE_FLUSH in one go: guest memory is read once."""
    with Kit() as kit:
        (one, at), (two, _) = create(kit, 1, 4096), create(kit, 2, 4096)
        assert types(kit, one, two, scanout(1, 32), flush(1, 32)) == [OK] * 4
        frame = ffi.new("vg_frame *")
        for turn in range(4):
            lib.vg_scanout_frame(kit.core, 0, frame)
            before = frame.sequence
            kit.write(at, bytes([turn] * 3 + [0]) * 1024)
            id_ = 2 - turn % 2
            assert types(kit, scanout(id_, 32), flush(id_, 32)) == [OK] * 2
            lib.vg_scanout_frame(kit.core, 0, frame)
            assert frame.sequence == before + 1


def test_unref_before_the_picture_was_read() -> None:
    with Kit() as kit:
        make, _ = create(kit, 1, 4096)
        assert types(kit, make, scanout(1, 32), unref(1)) == [OK] * 3
        assert (shown_by(kit), kit.hostmem_used()) == (b"", 0)


def test_backing_that_goes_before_the_flush() -> None:
    with Kit() as kit:
        make, gpa = create(kit, 1, 4096)
        kit.write(gpa, X * 1024)
        assert types(kit, make, scanout(1, 32), detach_backing(1), flush(1, 32)) == [OK, OK, OK, ERR_UNSPEC]
        assert shown_by(kit) == X * 1024


def test_planes_that_the_format_has_not() -> None:
    with Kit() as kit:
        make, _ = create(kit, 1, 4096)
        assert types(kit, make, scanout(1, 32, 128, 1), scanout(1, 32, 128, 0, 0, 1)) == [
            OK,
            ERR_INVALID_PARAMETER,
            ERR_INVALID_PARAMETER,
        ]
        offsets = SetScanoutBlob(Rect(0, 0, 8, 8), 0, 1, 8, 8, B8G8R8X8, (32, 0, 0, 0), (0, 4, 0, 0)).encode()
        assert types(kit, offsets) == [ERR_INVALID_PARAMETER]
        assert types(kit, scanout(0, 0)) == [OK]


@pytest.mark.parametrize("claimed", [2, 1 << 20, 0x10000000, HUGE])
def test_more_entries_than_there_are(claimed: int) -> None:
    """Refused before any memory is sized by it."""
    with Kit(hostmem=1 << 20) as kit:
        make = ResourceCreateBlob(1, BlobMem.GUEST, 0, claimed, 0, 4096, struct.pack("<QII", 0x100000, 4096, 0))
        assert types(kit, make.encode()) == [ERR_INVALID_PARAMETER]
        assert kit.hostmem_used() == 0


def test_entries_that_the_budget_has_no_room_for() -> None:
    with Kit(hostmem=8192) as kit:
        entries = struct.pack("<QII", 0x100000, 16, 0) * 512
        make = ResourceCreateBlob(1, BlobMem.GUEST, 0, 512, 0, 4096, entries)
        assert types(kit, make.encode()) == [ERR_OUT_OF_MEMORY]
        assert kit.hostmem_used() == 0


def test_nothing_can_be_mapped() -> None:
    with Kit() as kit:
        make, _ = create(kit, 1, 4096)
        maps = [ResourceMapBlob(1, 0), ResourceMapBlob(2, HUGE), ResourceUnmapBlob(1), ResourceUnmapBlob(2)]
        wanted = [ERR_UNSPEC, ERR_INVALID_RESOURCE_ID] * 2
        assert types(kit, make, *(command.encode() for command in maps)) == [OK, *wanted]


@pytest.mark.parametrize(
    "type_", [CommandType.RESOURCE_CREATE_BLOB, CommandType.SET_SCANOUT_BLOB, CommandType.RESOURCE_MAP_BLOB]
)
def test_commands_that_are_too_short(type_: int) -> None:
    with Kit() as kit:
        assert types(kit, header(type_) + bytes(7)) == [ERR_INVALID_PARAMETER]


def test_a_cursor_from_a_ring() -> None:
    with Kit() as kit:
        make, gpa = create(kit, 1, 64 * 64 * 4)
        kit.write(gpa, b"\7" * (64 * 64 * 4))
        assert types(kit, make) == [OK]
        kit.cursor.send(UpdateCursor(0, 1, 2, 1, 3, 4).encode(), 0)
        assert kit.cursor.drain() == IDLE
        cursor = ffi.new("vg_cursor *")
        lib.vg_cursor_describe(kit.core, 0, cursor)
        assert bytes(ffi.buffer(cursor.pixels)) == b"\7" * (64 * 64 * 4)
        assert (cursor.visible, cursor.hot_x, cursor.hot_y, cursor.resource_id) == (1, 3, 4, 1)


def test_a_large_flush_takes_a_turn_of_its_own() -> None:
    """Many of them do not keep the loop from its other work: the drain ends when its time is up."""
    with Kit(num=64, hostmem=64 * MIB, ram_size=8 * MIB) as kit:
        make, _ = create(kit, 1, 4 * MIB)
        assert types(kit, make, scanout(1, 1024)) == [OK] * 2
        for _ in range(20):
            kit.control.send(flush(1, 1024), 24)
        assert kit.control.drain(1) == lib.VG_DRAIN_AGAIN
        assert len(kit.control.take_used()) < 4


# ---- with a renderer


def test_with_a_render_thread() -> None:
    with RenderKit(hostmem=MIB) as kit:
        make, gpa = create(kit, 1, 4096)
        kit.write(gpa, X * 1024)
        assert kit.do(make, scanout(1, 32), flush(1, 32)) == [OK] * 3
        kit.settle_down()
        assert shown_by(kit) == X * 1024
        kit.write(gpa, bytes(4096))
        assert kit.do_at_once(transfer(1, 32, 32), flush(1, 32)) == [OK] * 2
        assert shown_by(kit) == bytes(4096)
        assert kit.do(unref(1)) == [OK]
        assert not kit.calls("resource")


def test_the_renderer_never_learns_of_a_blob() -> None:
    with RenderKit(hostmem=4 * MIB) as kit:
        make, _ = create(kit, 1, 4096)
        assert kit.do(ctx_create(1), make) == [OK] * 2
        assert (
            kit.do(ctx_attach(1, 1), transfer_3d(1, 8, 8), transfer_3d(1, 8, 8, ctx=1)) == [ERR_INVALID_RESOURCE_ID] * 3
        )
        assert kit.do(ctx_detach(1, 1), submit(1)) == [OK, OK]
        assert kit.do(detach_backing(1), flush(1, 8), scanout(1, 8)) == [OK, OK, ERR_UNSPEC]
        assert not [call for call in kit.calls() if "resource" in call or "iov" in call]


def test_a_cursor_with_a_render_thread() -> None:
    with RenderKit(hostmem=MIB) as kit:
        make, gpa = create(kit, 1, 64 * 64 * 4)
        kit.write(gpa, b"\7" * (64 * 64 * 4))
        assert kit.do(make) == [OK]
        kit.move_cursor(UpdateCursor(0, 1, 2, 1, 3, 4).encode())
        cursor = ffi.new("vg_cursor *")
        lib.vg_cursor_describe(kit.core, 0, cursor)
        assert bytes(ffi.buffer(cursor.pixels)) == b"\7" * (64 * 64 * 4)


def test_blobs_go_on_without_the_renderer_that_was_lost() -> None:
    with RenderKit(hostmem=4 * MIB) as kit:
        lib.vg_render_set_limits(kit.core, 50, 50)
        make, gpa = create(kit, 1, 4096)
        kit.write(gpa, X * 1024)
        assert kit.do(make, ctx_create(1), scanout(1, 32)) == [OK] * 3
        with kit.hanging("submit"):
            kit.post(submit(1))
            kit.wait_hanging()
            kit.wait(lambda: kit.events)
        assert [kind for kind, _, _ in kit.events] == [LOST]
        kit.write(gpa, bytes(4096))
        os.eventfd_write(kit.control.kick, 1)
        kit.control.drain()
        kit.control.take_used()
        again, there = create(kit, 2, 4096)
        kit.write(there, X * 1024)
        assert types(kit, flush(1, 32), again) == [OK] * 2
        assert shown_by(kit) == bytes(4096)
        assert types(kit, scanout(2, 32), unref(1)) == [OK] * 2
        assert shown_by(kit) == X * 1024


def test_a_fenced_flush_waits_for_the_stream_before_it() -> None:
    with RenderKit(hostmem=4 * MIB, hold=True) as kit:
        make, gpa = create(kit, 1, 4096)
        assert kit.do(make, ctx_create(1), scanout(1, 32)) == [OK] * 3
        kit.write(gpa, X * 1024)
        picture = ResourceFlush(Rect(0, 0, 32, 32), 1).encode(**fence(8))
        chains = kit.post(submit(1, **fence(7, 1)), picture)
        assert kit.none_comes()
        assert shown_by(kit) == X * 1024
        kit.retire(2)
        kit.collect(2)
        assert [kit.type_of(chain) for chain in chains] == [OK, OK]
