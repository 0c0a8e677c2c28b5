"""Inputs that hurt other devices, replayed against a whole session (docs/replay.md says which test is which row's)."""

import asyncio
import os
import struct
from collections.abc import Sequence

import pytest

from protocol import vhost_user as vu
from protocol import virtio_gpu as vg
from protocol.vhost_user import Request
from protocol.virtio_gpu import HEADER_SIZE, CommandType, ControlHeader, DisplayOne, Rect, ResponseType
from protocol.virtio_gpu_blob import (
    BlobFlag,
    BlobMem,
    ResourceCreateBlob,
    ResourceMapBlob,
    ResourceUnmapBlob,
    SetScanoutBlob,
)
from tests.vhost_gpu.sessionkit import Running, open_fds, paint, pictures, running, shown, until
from vhost_gpu.guest.display import Behaviour, VmmDisplay
from vhost_gpu.guest.driver import GuestError
from vhost_gpu.guest.framebuffer import Framebuffer
from vhost_gpu.guest.memory import GuestMemory, RegionSpec
from vhost_gpu.guest.ring import Segment

RED, GREEN = (255, 0, 0), (0, 255, 0)
NEXT, WRITE, INDIRECT = 1, 2, 4
NOWHERE = 1 << 50
ROUNDS = 300


async def refused(kit: Running, command: vg.Command | bytes, *, reply_size: int = HEADER_SIZE) -> int:
    """The error that a command is answered with."""
    with pytest.raises(GuestError) as error:
        await kit.gpu.command(command, reply_size=reply_size)
    return error.value.type


async def still_serves(kit: Running) -> None:
    """The session, both queues and the display work."""
    framebuffer = await shown(kit.gpu, 32, 16, GREEN)
    await kit.display.wait_until(pictures(GREEN))
    await kit.gpu.move_cursor(1, 2)
    await framebuffer.destroy()


# ---- 2D commands


async def test_stride_wrap() -> None:
    """CVE-2026-3886: width 0x40000001 makes a stride of 4 bytes, if it wraps."""
    async with running() as kit:
        code = await refused(kit, vg.ResourceCreate2d(1, 1, 0x40000001, 4))
        assert code == ResponseType.ERR_OUT_OF_MEMORY
        page = kit.gpu.memory.alloc(4096)
        attach = vg.ResourceAttachBacking(1, 1, vg.MemEntry(page, 4096).encode())
        assert await refused(kit, attach) == ResponseType.ERR_INVALID_RESOURCE_ID
        whole = Rect(0, 0, 0x40000001, 4)
        assert await refused(kit, vg.TransferToHost2d(whole, 0, 1)) == ResponseType.ERR_INVALID_RESOURCE_ID
        assert await refused(kit, vg.SetScanout(whole, 0, 1)) == ResponseType.ERR_INVALID_RESOURCE_ID
        await still_serves(kit)


async def test_backing_smaller_than_the_resource() -> None:
    async with running() as kit:
        resource = await kit.gpu.create_2d(1024, 1024)
        await kit.gpu.attach_backing(resource, [Segment(kit.gpu.memory.alloc(4096), 4096)])
        whole = vg.TransferToHost2d(Rect(0, 0, 1024, 1024), 0, resource)
        assert await refused(kit, whole) in (ResponseType.ERR_INVALID_PARAMETER, ResponseType.ERR_UNSPEC)
        await still_serves(kit)


@pytest.mark.parametrize("offset", [1 << 40, 1 << 63, (1 << 64) - 1])
async def test_transfer_from_far_past_the_backing(offset: int) -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu)
        code = await refused(kit, vg.TransferToHost2d(framebuffer.whole(), offset, framebuffer.resource_id))
        assert code in (ResponseType.ERR_INVALID_PARAMETER, ResponseType.ERR_UNSPEC)
        await still_serves(kit)


@pytest.mark.parametrize(
    "rect", [Rect(0, 0, 65, 48), Rect(0xFFFFFFFF, 0, 2, 2), Rect(60, 40, 0xFFFFFFFF, 0xFFFFFFFF), Rect(64, 48, 1, 1)]
)
async def test_flush_past_the_framebuffer(rect: Rect) -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu)
        code = await refused(kit, vg.ResourceFlush(rect, framebuffer.resource_id))
        assert code == ResponseType.ERR_INVALID_PARAMETER
        await still_serves(kit)


@pytest.mark.parametrize("scanout", [16, 255, 0xFFFFFFFF])
async def test_scanouts_that_are_not_there(scanout: int) -> None:
    """CVE-2016-10029."""
    async with running() as kit:
        await shown(kit.gpu)
        for command in (
            vg.SetScanout(Rect(0, 0, 64, 48), scanout, 1),
            vg.SetScanout(Rect(0, 0, 0, 0), scanout, 0),
            vg.GetEdid(scanout),
        ):
            assert await refused(kit, command, reply_size=2048) == ResponseType.ERR_INVALID_SCANOUT_ID
        await still_serves(kit)


async def test_the_second_scanout_of_a_device_with_one() -> None:
    async with running("crosvm", max_outputs=1) as kit:
        resource = await kit.gpu.create_2d(8, 8)
        code = await refused(kit, vg.SetScanout(Rect(0, 0, 8, 8), 1, resource))
        assert code == ResponseType.ERR_INVALID_SCANOUT_ID


async def _settled(kit: Running) -> tuple[int, int]:
    await kit.vmm.get_features()
    return kit.session.device.hostmem_used, open_fds()


async def _no_growth(kit: Running, commands: Sequence[vg.Command]) -> None:
    """Runs the commands over and over, whatever the answers: neither budget nor descriptors grow."""

    async def once(times: int) -> None:
        for _ in range(times):
            futures = [kit.gpu.post(command) for command in commands]
            kit.gpu.kick()
            assert all(len(reply) == HEADER_SIZE for reply in await asyncio.gather(*futures))

    await once(3)
    before = await _settled(kit)
    await once(ROUNDS)
    assert await _settled(kit) == before


def _create(resource: int, format_: int = 2, side: int = 64) -> vg.Command:
    return vg.ResourceCreate2d(resource, format_, side, side)


def _attach(resource: int, *pieces: tuple[int, int]) -> vg.Command:
    entries = b"".join(vg.MemEntry(*piece).encode() for piece in pieces)
    return vg.ResourceAttachBacking(resource, len(pieces), entries)


PAGE = (0x1000, 4096)
_WHOLE = Rect(0, 0, 64, 64)
LOOPS: dict[str, list[vg.Command]] = {
    "attach twice, unref without detach (CVE-2021-3544)": [
        _create(1),
        _attach(1, PAGE),
        _attach(1, PAGE),
        vg.ResourceUnref(1),
    ],
    "attach twice, one unmapped entry (CVE-2017-5552, 5578)": [
        _create(1),
        _attach(1, PAGE, (NOWHERE, 4096)),
        _attach(1, (NOWHERE, 4096)),
        vg.ResourceDetachBacking(1),
        vg.ResourceUnref(1),
    ],
    "create with bad format, id 0, duplicate id (CVE-2016-7994)": [
        _create(1),
        _create(1),
        _create(0),
        _create(2, 99),
        _create(3, 2, 0),
        vg.ResourceUnref(1),
    ],
    "create, attach, unref (CVE-2016-9912, CVE-2017-5857)": [_create(1), _attach(1, PAGE), vg.ResourceUnref(1)],
    "set_scanout over two resources (CVE-2017-9060)": [
        _create(1),
        _create(2),
        vg.SetScanout(_WHOLE, 0, 1),
        vg.SetScanout(_WHOLE, 0, 2),
        vg.ResourceUnref(1),
        vg.ResourceUnref(2),
    ],
}


@pytest.mark.parametrize("name", LOOPS)
async def test_loops_that_leaked_elsewhere(name: str) -> None:
    async with running() as kit:
        await _no_growth(kit, LOOPS[name])
        await still_serves(kit)


async def test_cursors_of_various_sizes_in_a_loop() -> None:
    """CVE-2016-9846: only 64 x 64 is a cursor."""
    async with running() as kit:
        sizes = [(1, 1), (63, 64), (64, 65), (256, 256), (64, 64)]
        ids = [await kit.gpu.create_2d(*size) for size in sizes]
        for _ in range(ROUNDS // 10):
            replies = [
                await kit.gpu.cursor.submit(vg.UpdateCursor(0, 0, 0, id_, 0, 0).encode(), HEADER_SIZE) for id_ in ids
            ]
            codes = [ControlHeader.decode(reply).type for reply in replies]
            assert codes == [ResponseType.ERR_INVALID_PARAMETER] * 4 + [ResponseType.OK_NODATA]
        await still_serves(kit)


@pytest.mark.parametrize("supplied", [0, 1, 5])
@pytest.mark.parametrize("claimed", [6, 1 << 20, 0x10000001, 0xFFFFFFFF])
async def test_attach_claims_more_entries_than_it_brings(supplied: int, claimed: int) -> None:
    """ACRN #8460, and 0xffffffff entries that end a daemon."""
    async with running() as kit:
        resource = await kit.gpu.create_2d(64, 64)
        entries = vg.MemEntry(0x1000, 4096).encode() * supplied
        command = vg.ResourceAttachBacking(resource, claimed, entries).encode()
        code = await refused(kit, command)
        assert code in (ResponseType.ERR_INVALID_PARAMETER, ResponseType.ERR_OUT_OF_MEMORY, ResponseType.ERR_UNSPEC)
        await still_serves(kit)


async def test_transfer_after_its_memory_went() -> None:
    memory = GuestMemory()
    extra = memory.add_region(RegionSpec(1 << 32, 1 << 20, 0x7E00_0000_0000), allocate=False)
    try:
        async with running(memory=memory) as kit:
            resource = await kit.gpu.create_2d(64, 64)
            await kit.gpu.attach_backing(resource, [Segment(1 << 32, 64 * 64 * 4)])
            memory.remove_region(extra)
            await kit.vmm.set_mem_table()
            code = await refused(kit, vg.TransferToHost2d(_WHOLE, 0, resource))
            assert code == ResponseType.ERR_UNSPEC
            await still_serves(kit)
    finally:
        memory.close()


# ---- capability sets and contexts, which a session without a renderer has not


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4, 0xFFFFFFFF])
async def test_capset_info_tells_nothing(index: int) -> None:
    """CVE-2021-3545, CVE-2016-9845, 9908: an error, and not one byte of ours after its header."""
    async with running() as kit:
        future = kit.gpu.post(vg.GetCapsetInfo(index), reply_size=256)
        kit.gpu.kick()
        reply = await future
        assert ControlHeader.decode(reply).type == ResponseType.ERR_INVALID_PARAMETER
        assert not any(reply[HEADER_SIZE:])


@pytest.mark.parametrize(("id_", "version"), [(0, 0), (0, 0xFFFFFFFF), (1, 1), (9, 0), (9, 0xFFFFFFFF)])
async def test_capsets_tell_nothing(id_: int, version: int) -> None:
    """CVE-2021-3546, CVE-2016-10028."""
    async with running() as kit:
        future = kit.gpu.post(vg.GetCapset(id_, version), reply_size=1024)
        kit.gpu.kick()
        reply = await future
        assert ControlHeader.decode(reply).type == ResponseType.ERR_INVALID_PARAMETER
        assert not any(reply[HEADER_SIZE:])


BIG = 0xFFFFFFFF
OTHERS: dict[str, bytes] = {
    "SUBMIT_3D": ControlHeader(CommandType.SUBMIT_3D).encode() + struct.pack("<II", BIG, BIG),
    "CTX_CREATE": ControlHeader(CommandType.CTX_CREATE).encode() + struct.pack("<II", BIG, 0) + b"x" * 64,
    "CREATE_3D": ControlHeader(CommandType.RESOURCE_CREATE_3D).encode() + struct.pack("<12I", *[BIG] * 12),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_commands_of_3d_are_unknown(name: str) -> None:
    async with running() as kit:
        for _ in range(2):
            assert await refused(kit, OTHERS[name]) == ResponseType.ERR_UNSPEC
        for _ in range(2):
            assert await refused(kit, vg.ResourceUnref(1)) == ResponseType.ERR_INVALID_RESOURCE_ID
        assert await refused(kit, vg.SetScanout(_WHOLE, 0, 1)) == ResponseType.ERR_INVALID_RESOURCE_ID
        await still_serves(kit)


# ---- blobs

BLOB = 77


def _blob(resource: int, size: int = 16384, *, claimed: int | None = None, entries: int = 4) -> ResourceCreateBlob:
    data = b"".join(vg.MemEntry(PAGE[0] + n * PAGE[1], PAGE[1]).encode() for n in range(entries))
    number = entries if claimed is None else claimed
    return ResourceCreateBlob(resource, BlobMem.GUEST, BlobFlag.USE_SHAREABLE, number, 0, size, data)


def _picture(resource: int, stride: int = 256, offset: int = 0, scanout: int = 0) -> SetScanoutBlob:
    return SetScanoutBlob(_WHOLE, scanout, resource, 64, 64, 2, (stride, 0, 0, 0), (offset, 0, 0, 0))


async def test_a_blob_created_twice_is_freed_once() -> None:
    """QEMU 3560b519, 12a2d5ca: the second one freed the first."""
    async with running() as kit:
        await kit.gpu.command(_blob(BLOB))
        await kit.gpu.command(_picture(BLOB))
        used = kit.session.device.hostmem_used
        for again in (_blob(BLOB), _create(BLOB), ResourceCreateBlob(BLOB, BlobMem.HOST3D, 0, 0, 1, 4096)):
            assert await refused(kit, again) == ResponseType.ERR_INVALID_RESOURCE_ID
        assert kit.session.device.hostmem_used == used
        await kit.gpu.flush(BLOB, _WHOLE)
        await kit.gpu.unref(BLOB)
        assert await refused(kit, vg.ResourceUnref(BLOB)) == ResponseType.ERR_INVALID_RESOURCE_ID
        await still_serves(kit)


async def test_blobs_are_not_mapped() -> None:
    """QEMU e27194e0: MAP_BLOB, UNREF without UNMAP, reset."""
    async with running() as kit:
        await kit.gpu.command(_blob(BLOB))
        assert await refused(kit, ResourceMapBlob(BLOB, 0)) == ResponseType.ERR_UNSPEC
        await kit.gpu.unref(BLOB)
        for command in (ResourceMapBlob(BLOB, 0), ResourceUnmapBlob(BLOB)):
            assert await refused(kit, command) == ResponseType.ERR_INVALID_RESOURCE_ID
        await kit.gpu.reset()
        await kit.gpu.start()
        await still_serves(kit)


@pytest.mark.parametrize("mem", [0, BlobMem.HOST3D, BlobMem.HOST3D_GUEST, 9])
async def test_blobs_that_only_a_renderer_could_make(mem: int) -> None:
    async with running() as kit:
        command = ResourceCreateBlob(BLOB, mem, BlobFlag.USE_MAPPABLE, 0, 1, 1 << 62)
        assert await refused(kit, command) == ResponseType.ERR_INVALID_PARAMETER
        assert await refused(kit, vg.ResourceUnref(BLOB)) == ResponseType.ERR_INVALID_RESOURCE_ID
        await still_serves(kit)


@pytest.mark.parametrize(
    ("stride", "offset"),
    [(0, 0), (1, 0), (255, 0), (BIG, 0), (256, 1), (256, BIG), (BIG, BIG), (256, BIG - 16383), (1 << 31, 1 << 31)],
)
async def test_pictures_past_the_blob(stride: int, offset: int) -> None:
    """Coverity 1564769/70."""
    async with running() as kit:
        await kit.gpu.command(_blob(BLOB))
        assert await refused(kit, _picture(BLOB, stride, offset)) == ResponseType.ERR_INVALID_PARAMETER
        await kit.gpu.command(_picture(BLOB))
        assert await refused(kit, _picture(BLOB, stride, offset)) == ResponseType.ERR_INVALID_PARAMETER
        await kit.gpu.flush(BLOB, _WHOLE)
        await still_serves(kit)


async def test_plain_set_scanout_of_a_blob() -> None:
    async with running() as kit:
        await kit.gpu.command(_blob(BLOB))
        for rect in (_WHOLE, Rect(0, 0, 0, 0), Rect(0, 0, 1, 1)):
            assert await refused(kit, vg.SetScanout(rect, 0, BLOB)) == ResponseType.ERR_INVALID_PARAMETER
        await kit.gpu.command(_picture(BLOB))
        assert await refused(kit, vg.SetScanout(_WHOLE, 0, BLOB)) == ResponseType.ERR_INVALID_PARAMETER
        await kit.gpu.flush(BLOB, _WHOLE)
        await still_serves(kit)


@pytest.mark.parametrize("claimed", [5, 1 << 20, 0x10000001, BIG])
async def test_a_blob_claims_more_entries_than_it_brings(claimed: int) -> None:
    async with running() as kit:
        before = kit.session.device.hostmem_used
        assert await refused(kit, _blob(BLOB, 1 << 62, claimed=claimed)) == ResponseType.ERR_INVALID_PARAMETER
        assert kit.session.device.hostmem_used == before
        await still_serves(kit)


async def test_blobs_in_a_loop() -> None:
    nowhere = ResourceCreateBlob(2, BlobMem.GUEST, 0, 1, 0, 4096, vg.MemEntry(NOWHERE, 4096).encode())
    commands = [
        _blob(BLOB),
        _blob(BLOB),
        nowhere,
        _picture(BLOB),
        _picture(BLOB, 512, 0),
        _picture(BLOB, 256, 0),
        vg.ResourceFlush(_WHOLE, BLOB),
        vg.ResourceDetachBacking(BLOB),
        vg.ResourceFlush(_WHOLE, BLOB),
        _attach(BLOB, PAGE),
        vg.ResourceUnref(BLOB),
    ]
    async with running() as kit:
        await _no_growth(kit, commands)
        await still_serves(kit)


async def test_a_blob_after_its_memory_went() -> None:
    memory = GuestMemory()
    extra = memory.add_region(RegionSpec(1 << 32, 1 << 20, 0x7E00_0000_0000), allocate=False)
    try:
        async with running(memory=memory) as kit:
            entry = vg.MemEntry(1 << 32, 16384).encode()
            await kit.gpu.command(ResourceCreateBlob(BLOB, BlobMem.GUEST, 0, 1, 0, 16384, entry))
            await kit.gpu.command(_picture(BLOB))
            memory.remove_region(extra)
            await kit.vmm.set_mem_table()
            for command in (vg.ResourceFlush(_WHOLE, BLOB), _picture(BLOB)):
                assert await refused(kit, command) == ResponseType.ERR_UNSPEC
            await kit.gpu.update_cursor(BLOB)
            await still_serves(kit)
    finally:
        memory.close()


@pytest.mark.parametrize("fence", [2**32 + 1, 2**64 - 1])
async def test_fences_are_not_cut(fence: int) -> None:
    async with running() as kit:
        await kit.gpu.command(_create(1), fence=fence)
        await kit.gpu.command(vg.ResourceFlush(_WHOLE, 1), fence=fence)


# ---- rings


async def _broken_by(kit: Running, number: int, table: Sequence[tuple[int, int, int, int]], ahead: int = 1) -> None:
    """Puts raw descriptors in a ring and announces the first: the queue stops, tells so, and the other goes on."""
    queue, vring = kit.gpu.queues[number], kit.vmm.vrings[number]
    ring, memory = queue.ring, kit.gpu.memory
    for slot, descriptor in enumerate(table):
        memory.write(ring.desc_gpa + 16 * slot, struct.pack("<QIHH", *descriptor))
    index = ring.avail_idx
    for n in range(ahead):
        memory.write(ring.avail_gpa + 4 + 2 * ((index + n) % ring.size), struct.pack("<H", 0))
    memory.write(ring.avail_gpa + 2, struct.pack("<H", (index + ahead) & 0xFFFF))
    queue.force_kick()
    await until(lambda: kit.session.device.queues[number].reason)
    assert os.eventfd_read(vring.err) == 1
    assert (await kit.vmm.get_features()) != 0
    other = 1 - number
    await kit.gpu.queues[other].submit(vg.MoveCursor(0, 7, 7).encode() if other else _create(5).encode(), HEADER_SIZE)


PLACE = 0x2000
MALFORMED: dict[str, list[tuple[int, int, int, int]]] = {
    "outside memory": [(NOWHERE, 64, 0, 0)],
    "outside memory, to be written (CVE-2024-3446)": [(PLACE, 64, NEXT, 1), (NOWHERE, 64, WRITE, 0)],
    "at the end of the address space": [((1 << 64) - 8, 64, 0, 0)],
    "next is itself": [(PLACE, 64, NEXT, 0)],
    "loop of two": [(PLACE, 64, NEXT, 1), (PLACE, 64, NEXT, 0)],
    "loop of empty ones": [(PLACE, 0, NEXT, 1), (PLACE, 0, NEXT, 0)],
    "next past the table": [(PLACE, 64, NEXT, 0xFFFF)],
    "writable before readable": [(PLACE, 64, WRITE | NEXT, 1), (PLACE, 64, 0, 0)],
    "indirect of odd length": [(PLACE, 24, INDIRECT, 0)],
    "indirect of no length": [(PLACE, 0, INDIRECT, 0)],
    "indirect and next": [(PLACE, 16, INDIRECT | NEXT, 1), (PLACE, 64, 0, 0)],
    "indirect outside memory": [(NOWHERE, 16, INDIRECT, 0)],
    "indirect far too long": [(PLACE, 0xFFFFFFF0, INDIRECT, 0)],
    "more than 4 GiB": [(PLACE, 0xFFFFFFFF, NEXT, 1), (PLACE, 0xFFFFFFFF, 0, 0)],
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_chains_on_both_queues(name: str, number: int) -> None:
    async with running() as kit:
        await _broken_by(kit, number, MALFORMED[name])
        await kit.gpu.reset()
        await kit.gpu.start()
        await still_serves(kit)


@pytest.mark.parametrize("number", [0, 1])
async def test_indirect_inside_indirect(number: int) -> None:
    async with running() as kit:
        kit.gpu.memory.write(PLACE + 0x10000, struct.pack("<QIHH", PLACE, 16, INDIRECT, 0))
        await _broken_by(kit, number, [(PLACE + 0x10000, 16, INDIRECT, 0)])


@pytest.mark.parametrize("number", [0, 1])
async def test_avail_index_that_runs_ahead(number: int) -> None:
    """CVE-2016-5403."""
    async with running() as kit:
        size = kit.gpu.queues[number].ring.size
        await _broken_by(kit, number, [(PLACE, 64, 0, 0)], ahead=size + 1)


# ---- the wire


async def test_dirty_logging_is_not_for_us() -> None:
    """CVE-2019-14835: a tiny log with LOG_ALL on."""
    async with running() as kit:
        fd = os.memfd_create("log")
        log = vu.Raw(struct.pack("=QQ", 1, 0))
        assert await kit.vmm.request(Request.SET_LOG_BASE, log, [fd], need_reply=True) == vu.U64(1)
        os.close(fd)
        await kit.vmm.acked(Request.SET_FEATURES, vu.U64(1 << 26 | 1 << 30 | 0x10130000002))
        await still_serves(kit)


# ---- the display peer


async def test_flush_after_the_display_socket_closed_and_a_new_one() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, 320, 200, RED)
        await kit.display.wait_until(pictures(RED))
        for colour in (GREEN, RED, GREEN):
            kit.display.close()
            for _ in range(3):
                await paint(framebuffer, colour)
            await kit.vmm.gpu_set_socket()
            await kit.display.wait_until(pictures(colour))


async def test_an_edid_that_never_comes_does_not_stall_the_control_queue() -> None:
    async with running(display=VmmDisplay(behaviour=Behaviour.SILENT)) as kit:
        replies = await asyncio.gather(kit.gpu.edid(9), kit.gpu.display_info(), kit.gpu.create_2d(8, 8))
        assert len(replies[0]) >= 128
        assert replies[1][0].enabled


@pytest.mark.parametrize("modes", [[(0, 0)], [(65535, 65535)], [(0xFFFFFFFF, 1)], [(0, 0)] * 16])
async def test_modes_of_nothing_and_of_65535(modes: list[tuple[int, int]]) -> None:
    async with running(display=VmmDisplay(modes=modes)) as kit:
        assert (await kit.gpu.display_info())[0] == DisplayOne(Rect(0, 0, *modes[0]))
        assert len(await kit.gpu.edid(0)) >= 128
        await still_serves(kit)


@pytest.mark.parametrize("side", [0, 65535])
async def test_resources_of_nothing_and_of_65535(side: int) -> None:
    async with running() as kit:
        code = await refused(kit, vg.ResourceCreate2d(1, 1, side, side))
        assert code == (ResponseType.ERR_OUT_OF_MEMORY if side else ResponseType.ERR_INVALID_PARAMETER)
        tall = await Framebuffer.create(kit.gpu, 1, 65535)
        await tall.show()
        await tall.flush()
        await kit.display.wait_until(lambda d: 0 in d.pictures and d.pictures[0].height == 16384)
        await still_serves(kit)
