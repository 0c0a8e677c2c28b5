"""Inputs that hurt other devices through 3D, replayed against a session process with virglrenderer (docs/replay.md)."""

import itertools
import struct

import pytest

from protocol import virtio_gpu as vg
from protocol.virgl_const import Bind, Target
from protocol.virgl_format import VirglFormat
from protocol.virtio_gpu import HEADER_SIZE, ControlHeader, GetCapset, GetCapsetInfo, HeaderFlag, Rect, ResponseType
from protocol.virtio_gpu_3d import (
    Box,
    CtxAttachResource,
    CtxCreate,
    CtxDestroy,
    CtxDetachResource,
    ResourceCreate3d,
    Submit3d,
    TransferFromHost3d,
    TransferToHost3d,
)
from tests.vhost_gpu.hurtkit import (
    BAD_CONTEXT,
    BAD_PARAMETER,
    BAD_RESOURCE,
    DRAWABLE,
    FORMAT,
    NO_MEMORY,
    OK,
    SIDE,
    UNSPECIFIED,
    Victim,
    clearing,
    submit_header,
    victims,
)
from vhost_gpu.guest.driver3d import BackedResource
from vhost_gpu.guest.memory import PAGE, GuestMemory, RegionSpec
from vhost_gpu.guest.ring import Segment

BIG = 0xFFFFFFFF
EXTREMES = (0, 1, 2, 7, 0x7FFF, 0x8000, 0xFFFF, 1 << 20, 0x40000001, 0x7FFFFFFF, 0x80000000, BIG)
FIELDS = ("target", "format", "bind", "width", "height", "depth", "array_size", "last_level", "nr_samples", "flags")
ROUNDS = 2000
MARK = 0xA5
PLACE = 32 << 20
"""Guest memory that the driver uses for nothing else."""


# ---- RESOURCE_CREATE_3D


def _plain(resource: int, **changes: int) -> ResourceCreate3d:
    values = {"target": Target.TEXTURE_2D, "format": FORMAT, "bind": DRAWABLE, "width": 4, "height": 4}
    return ResourceCreate3d(resource, **(values | changes))


async def _made_or_refused(victim: Victim, command: ResourceCreate3d) -> int:
    """Creates and destroys; a resource that cannot be is refused for what it is, or for its size."""
    made = await victim.answer(command)
    assert made in (OK, BAD_PARAMETER, NO_MEMORY), command
    gone = await victim.answer(vg.ResourceUnref(command.resource_id))
    assert gone == (OK if made == OK else BAD_RESOURCE), command
    return made


@pytest.mark.parametrize("target", Target)
async def test_create_3d_with_extremes(target: Target) -> None:
    """CVE-2022-0135: one field, and two, far off."""
    async with victims() as victim:
        room = await victim.room()
        for field, value in itertools.product(FIELDS[1:], EXTREMES):
            await _made_or_refused(victim, _plain(7, **{"target": target} | {field: value}))
        for one, other in itertools.combinations(FIELDS[3:9], 2):
            for value in (0, 0x4000, 0x40000001, BIG):
                await _made_or_refused(victim, _plain(7, **{"target": target, one: value, other: value}))
        assert await victim.room() == room


async def test_create_3d_of_every_format() -> None:
    async with victims() as victim:
        room = await victim.room()
        made = [await _made_or_refused(victim, _plain(7, format=format_)) for format_ in range(512)]
        assert made[FORMAT] == OK
        assert await _made_or_refused(victim, _plain(7, target=9)) == BAD_PARAMETER
        assert await _made_or_refused(victim, _plain(7, target=BIG)) == BAD_PARAMETER
        assert await victim.room() == room


async def test_create_3d_with_an_id_of_its_own_choice() -> None:
    """CVE-2016-7994: id 0 and duplicate ids."""
    async with victims() as victim:
        assert await victim.answer(_plain(0)) == BAD_RESOURCE
        assert await victim.answer(_plain(BIG)) == OK
        for _ in range(2):
            assert await victim.answer(_plain(BIG)) == BAD_RESOURCE
            assert await victim.answer(vg.ResourceCreate2d(BIG, 1, 4, 4)) == BAD_RESOURCE
        assert await victim.answer(vg.ResourceUnref(BIG)) == OK
        assert await victim.answer(vg.ResourceUnref(BIG)) == BAD_RESOURCE


HUGE = [
    _plain(7, width=16384, height=16384),
    _plain(7, target=Target.BUFFER, width=1 << 30, height=1),
    _plain(7, target=Target.TEXTURE_3D, width=2048, height=2048, depth=2048),
    _plain(7, target=Target.TEXTURE_2D_ARRAY, width=16384, height=16384, array_size=4096, last_level=14),
    _plain(7, width=4096, height=4096, nr_samples=32),
]


async def test_more_than_the_host_wants_to_hold_is_never_made() -> None:
    async with victims() as victim:
        before = victim.resident()
        for command in HUGE:
            assert await victim.answer(command) == NO_MEMORY, command
        assert victim.resident() - before < 8 << 20


# ---- transfers

BOXES = {
    "empty": Box(0, 0, 0, 0, 0, 0),
    "wider": Box(0, 0, 0, SIDE + 1, SIDE),
    "higher": Box(0, 0, 0, SIDE, SIDE + 1),
    "deeper": Box(0, 0, 0, SIDE, SIDE, 2),
    "right of it": Box(SIDE, 0, 0, 1, 1),
    "below": Box(0, SIDE, 0, 1, 1),
    "behind": Box(0, 0, 1, SIDE, SIDE),
    "far away": Box(BIG, BIG, BIG, 1, 1),
    "wraps to the left": Box(BIG, 0, 0, 2, 2),
    "wraps upwards": Box(0, BIG, 0, 2, 2),
    "wraps to the front": Box(0, 0, BIG, 1, 1, 2),
    "huge": Box(0, 0, 0, BIG, BIG, BIG),
    "huge from inside": Box(1, 1, 0, BIG, BIG),
    "area of 2^32": Box(0, 0, 0, 0x10000, 0x10000),
}
PLACES = {
    "level": {"level": 1},
    "level 32": {"level": 32},
    "last level": {"level": BIG},
    "stride of 1": {"stride": 1},
    "stride too small": {"stride": SIDE * 4 - 1},
    "stride too large": {"stride": SIDE * 4 + 4},
    "largest stride": {"stride": BIG},
    "stride that wraps": {"stride": 0x10000000},
    "layers too near": {"layer_stride": SIDE * SIDE * 4 - 1},
    "offset by one pixel": {"offset": 4},
    "offset at the end": {"offset": SIDE * SIDE * 4},
    "offset 2^32": {"offset": 1 << 32},
    "offset 2^40": {"offset": 1 << 40},
    "last offset": {"offset": (1 << 64) - 1},
}


async def _pinned(victim: Victim) -> tuple[BackedResource, memoryview]:
    """A picture whose backing is as small as can be, and the guest's memory around it, with marks."""
    memory = victim.gpu.memory
    gpa = memory.alloc(3 * PAGE)
    around = memory.view(gpa, 3 * PAGE)
    around[:] = bytes([MARK]) * (3 * PAGE)
    number = await victim.gpu3d.create(Target.TEXTURE_2D, FORMAT, DRAWABLE, SIDE, SIDE)
    size = SIDE * SIDE * 4
    await victim.gpu.attach_backing(number, [Segment(gpa + PAGE, size)])
    return BackedResource(victim.gpu3d, number, gpa + PAGE, size, SIDE, SIDE), around


@pytest.mark.parametrize("in_context", [False, True])
@pytest.mark.parametrize("kind", [TransferToHost3d, TransferFromHost3d])
async def test_transfers_outside(kind: type[TransferToHost3d], in_context: bool) -> None:
    """CVE-2022-0135, CVE-2019-18389: boxes, strides and offsets outside resource or backing: nothing is copied."""
    async with victims() as victim:
        picture, around = await _pinned(victim)
        context = await victim.gpu3d.context()
        await context.attach(picture.resource_id)
        ctx = context.ctx_id if in_context else 0
        await context.submit(clearing(picture.resource_id))
        for name, box in BOXES.items():
            assert await victim.answer(kind(box, 0, picture.resource_id), ctx=ctx) == BAD_PARAMETER, name
            assert await victim.answer(kind(box, 1 << 31, picture.resource_id), ctx=ctx) == BAD_PARAMETER, name
        for name, place in PLACES.items():
            command = kind(picture.box(), **{"offset": 0, "resource_id": picture.resource_id} | place)
            assert await victim.answer(command, ctx=ctx) == BAD_PARAMETER, name
        assert bytes(around) == bytes([MARK]) * len(around)
        await victim.gpu3d.transfer_from_host(picture.resource_id, picture.box())
        assert bytes(picture.data) == bytes((255, 0, 255, 255)) * (SIDE * SIDE)
        assert bytes(around[:PAGE]) + bytes(around[PAGE + picture.size :]) == bytes([MARK]) * (3 * PAGE - picture.size)
        around.release()


@pytest.mark.parametrize("kind", [TransferToHost3d, TransferFromHost3d])
async def test_transfers_of_what_has_no_backing_or_is_not_there(kind: type[TransferToHost3d]) -> None:
    async with victims() as victim:
        bare = await victim.gpu3d.create(Target.TEXTURE_2D, FORMAT, DRAWABLE, SIDE, SIDE)
        box = Box(0, 0, 0, SIDE, SIDE)
        assert await victim.answer(kind(box, 0, bare)) in (BAD_PARAMETER, UNSPECIFIED)
        assert await victim.answer(kind(box, 0, bare + 1)) == BAD_RESOURCE
        assert await victim.answer(kind(box, 0, 0)) == BAD_RESOURCE
        assert await victim.answer(kind(box, 0, bare), ctx=99) == BAD_CONTEXT
        many = await victim.gpu3d.create(Target.TEXTURE_2D, FORMAT, DRAWABLE, SIDE, SIDE, nr_samples=4)
        await victim.gpu.attach_backing(many, [Segment(victim.gpu.memory.alloc(PAGE), PAGE)])
        assert await victim.answer(kind(box, 0, many)) == BAD_PARAMETER


SHAPES = [
    (Target.BUFFER, VirglFormat.R8_UNORM, Bind.VERTEX_BUFFER, 65536, {}),
    (Target.TEXTURE_2D, FORMAT, DRAWABLE, 128, {"height": 128}),
    (Target.TEXTURE_2D, VirglFormat.R32G32B32A32_FLOAT, Bind.SAMPLER_VIEW, 64, {"height": 64}),
    (Target.TEXTURE_3D, FORMAT, Bind.SAMPLER_VIEW, 32, {"height": 32, "depth": 16}),
    (Target.TEXTURE_CUBE, FORMAT, Bind.SAMPLER_VIEW, 32, {"height": 32, "array_size": 6}),
    (Target.TEXTURE_2D_ARRAY, FORMAT, Bind.SAMPLER_VIEW, 32, {"height": 32, "array_size": 16}),
]


async def _content(victim: Victim, resource: int, box: Box, size: int) -> bytes:
    """A whole resource, brought into backing that was full of marks."""
    gpa = victim.gpu.memory.alloc(size)
    victim.gpu.memory.write(gpa, bytes([MARK]) * size)
    await victim.gpu.attach_backing(resource, [Segment(gpa, size)])
    await victim.gpu3d.transfer_from_host(resource, box)
    content = victim.gpu.memory.read(gpa, size)
    victim.gpu.memory.free(gpa, size)
    return content


async def test_new_resources_hold_nothing_of_the_host() -> None:
    """CVE-2022-0175: TRANSFER_FROM_HOST before any write brings zeros, also where others had their pixels before."""
    async with victims() as victim:
        for target, format_, bind, width, more in SHAPES * 2:
            number = await victim.gpu3d.create(target, format_, bind, width, **more)
            box = Box(0, 0, 0, width, more.get("height", 1), more.get("depth", more.get("array_size", 1)))
            size = box.width * box.height * box.depth * {Target.BUFFER: 1}.get(target, 4)
            size *= 4 if format_ == VirglFormat.R32G32B32A32_FLOAT else 1
            content = await _content(victim, number, box, size)
            assert not any(content[: width * 4]), target
            assert set(content) <= {0, MARK}, target  # not every driver reads all layers: what it leaves is the guest's
            gpa = victim.gpu.memory.alloc(size)
            victim.gpu.memory.write(gpa, bytes([MARK]) * size)
            await victim.gpu.detach_backing(number)
            await victim.gpu.attach_backing(number, [Segment(gpa, size)])
            await victim.gpu3d.transfer_to_host(number, box)
            await victim.gpu.unref(number)
            victim.gpu.memory.free(gpa, size)


# ---- SUBMIT_3D


async def test_sizes_of_streams() -> None:
    """Sizes 0, 1, 3 mod 4, 2^32-4; more than was supplied; fences that would be waited for (there are none)."""
    async with victims() as victim:
        ctx = (await victim.gpu3d.context()).ctx_id
        for supplied in (0, 3, 64):
            await _sizes(victim, ctx, supplied)


async def _sizes(victim: Victim, ctx: int, supplied: int) -> None:
    for size in (1, 2, 3, 5, 63, 65, (16 << 20) + 4, 1 << 31, BIG - 3, BIG - 1, BIG):
        got = await victim.answer(submit_header(ctx, size) + bytes(supplied))
        assert got == BAD_PARAMETER, size
    for size in (4, 64, 68, 1 << 20, 16 << 20):
        got = await victim.answer(submit_header(ctx, size) + bytes(supplied))
        assert got == (BAD_PARAMETER if size > supplied else got), size
    for padding in (1, BIG):
        assert await victim.answer(submit_header(ctx, 0, padding) + bytes(supplied)) == OK
        assert await victim.answer(submit_header(ctx, BIG, padding) + bytes(supplied)) == BAD_PARAMETER


async def test_streams_for_contexts_that_are_not_there() -> None:
    async with victims() as victim:
        for ctx in (0, 1, 64, BIG):
            assert await victim.answer(Submit3d(b""), ctx=ctx) == BAD_CONTEXT
            assert await victim.answer(Submit3d(bytes(64)), ctx=ctx) == BAD_CONTEXT
            assert await victim.answer(submit_header(ctx, BIG, BIG)) == BAD_CONTEXT


async def test_the_largest_stream_costs_the_host_no_more_than_it_is() -> None:
    async with victims() as victim:
        context = await victim.gpu3d.context()
        room = await victim.room()
        before = victim.resident()
        for _ in range(4):
            assert await victim.answer(Submit3d(bytes(16 << 20)), ctx=context.ctx_id) in (OK, UNSPECIFIED)
        assert victim.resident() - before < 20 << 20  # malloc keeps one for the next
        assert await victim.room() == room


# ---- contexts


async def test_contexts_twice_and_too_many() -> None:
    async with victims() as victim:
        room = await victim.room()
        assert await victim.answer(CtxCreate(b""), ctx=0) == BAD_CONTEXT
        numbers = [1, BIG, *range(1000, 1062)]
        for ctx in numbers:
            assert await victim.answer(CtxCreate(b"many"), ctx=ctx) == OK
        for ctx in numbers:
            assert await victim.answer(CtxCreate(b"many"), ctx=ctx) == BAD_CONTEXT
        assert await victim.answer(CtxCreate(b""), ctx=2) == NO_MEMORY  # of contexts: the budget is larger
        for ctx in numbers:
            assert await victim.answer(CtxDestroy(), ctx=ctx) == OK
            assert await victim.answer(CtxDestroy(), ctx=ctx) == BAD_CONTEXT
        assert await victim.room() == room


async def test_names_longer_than_they_are() -> None:
    async with victims() as victim:
        head = ControlHeader(0x0200, 0, 0, 5).encode()
        for nlen, name in itertools.product((0, 64, 65, 1 << 20, BIG), (b"x" * 64, b"\0" * 64, b"%n%s" * 16)):
            assert await victim.answer(head + struct.pack("<II", nlen, 0) + name) == OK
            assert await victim.answer(CtxDestroy(), ctx=5) == OK
        assert await victim.answer(head + struct.pack("<II", BIG, 0) + b"x" * 63) == BAD_PARAMETER


async def test_kinds_of_contexts_that_are_not_there() -> None:
    async with victims() as victim:
        for init in (3, 4, 6, 9, 0xFF, 0x100, 0x102, BIG):
            assert await victim.answer(CtxCreate(b"", init), ctx=1) == BAD_PARAMETER, init
            assert await victim.answer(CtxDestroy(), ctx=1) == BAD_CONTEXT


async def test_contexts_and_resources_end_in_any_order() -> None:
    """CVE-2020-8002, 8003: UNREF while attached, DETACH and ATTACH out of order, contexts destroyed in between."""
    async with victims() as victim:
        create, destroy = (CtxCreate(b""), 1), (CtxDestroy(), 1)
        make, unref = (_plain(7), 0), (vg.ResourceUnref(7), 0)
        attach, detach = (CtxAttachResource(7), 1), (CtxDetachResource(7), 1)
        draw = (Submit3d(clearing(7)), 1)
        ways = [
            ([create, make, attach, unref, draw, detach, destroy], [OK, OK, OK, OK, UNSPECIFIED, BAD_RESOURCE, OK]),
            ([create, make, attach, destroy, draw, detach, unref], [OK, OK, OK, OK, BAD_CONTEXT, BAD_CONTEXT, OK]),
            ([create, make, detach, attach, attach, detach, detach], [OK] * 7),
            ([draw, unref, make, destroy, unref, attach], [UNSPECIFIED, OK, OK, OK, OK, BAD_CONTEXT]),
            ([attach, create, attach, make, attach, draw], [BAD_CONTEXT, OK, BAD_RESOURCE, OK, OK, OK]),
            ([unref, make, draw, attach, draw, destroy, unref], [OK, OK, UNSPECIFIED, OK, None, OK, OK]),
        ]
        for _ in range(20):
            for commands, wanted in ways:
                got = await victim.answers(*commands)
                assert [one if two is not None else None for one, two in zip(got, wanted, strict=True)] == wanted


# ---- resources in use


async def test_resources_go_while_they_are_shown() -> None:
    async with victims() as victim:
        for _ in range(20):
            picture = await victim.texture(64, 64)
            await picture.show()
            await picture.flush()
            await victim.gpu.update_cursor(picture.resource_id, 3, 4)
            number = picture.resource_id
            await picture.destroy()
            whole = Rect(0, 0, 64, 64)
            assert await victim.answer(vg.ResourceFlush(whole, number)) == BAD_RESOURCE
            assert await victim.answer(vg.SetScanout(whole, 0, number)) == BAD_RESOURCE
            await victim.gpu.update_cursor(0)


async def test_cursors_from_3d_resources_in_a_loop() -> None:
    """CVE-2016-9846, and resources that go before their picture was read."""
    async with victims() as victim:
        for shape in [(1, 1), (63, 64), (64, 64), (64, 65), (256, 256)] * 20:
            wanted = OK if shape == (64, 64) else BAD_PARAMETER
            number = await victim.gpu3d.create(Target.TEXTURE_2D, FORMAT, DRAWABLE, *shape)
            reply = await victim.gpu.cursor.submit(vg.UpdateCursor(0, 0, 0, number, 0, 0).encode(), HEADER_SIZE)
            assert ControlHeader.decode(reply).type == wanted
            await victim.gpu.unref(number)


async def test_scanouts_of_what_cannot_be_shown() -> None:
    async with victims() as victim:
        shapes = [
            _plain(7, target=Target.BUFFER, width=4096, height=1, format=VirglFormat.R8_UNORM),
            _plain(7, format=VirglFormat.R32G32B32A32_FLOAT),
            _plain(7, format=VirglFormat.Z24_UNORM_S8_UINT, bind=Bind.DEPTH_STENCIL),
            _plain(7, nr_samples=4),
            _plain(7, target=Target.TEXTURE_3D, depth=4, bind=Bind.SAMPLER_VIEW),
            _plain(7),
        ]
        for create in shapes:
            if await victim.answer(create) != OK:  # the renderer need not have everything
                continue
            for rect in (Rect(0, 0, create.width, create.height), Rect(1, 1, BIG, BIG), Rect(BIG, 0, 4, 4)):
                await victim.answer(vg.SetScanout(rect, 0, 7))
                await victim.answer(vg.ResourceFlush(rect, 7))
                await victim.answer(vg.TransferToHost2d(rect, 0, 7))
            assert await victim.answer(vg.ResourceUnref(7)) == OK


async def test_backing_with_fewer_entries_than_it_claims() -> None:
    async with victims() as victim:
        number = await victim.gpu3d.create(Target.TEXTURE_2D, FORMAT, DRAWABLE, SIDE, SIDE)
        entries = vg.MemEntry(PLACE, PAGE).encode() * 2
        for claimed in (3, 1 << 20, 0x10000001, BIG):
            attach = vg.ResourceAttachBacking(number, claimed, entries).encode()
            assert await victim.answer(attach) in (BAD_PARAMETER, NO_MEMORY)


async def test_memory_goes_under_backing_in_use() -> None:
    """ATTACH, then the region goes: transfers fail, drawing goes on, and the memory may come back."""
    memory = GuestMemory([RegionSpec(0, 64 << 20, 0x7F00_0000_0000), RegionSpec(1 << 32, 1 << 20, 0x7F80_0000_0000)])
    async with victims(memory) as victim:
        number = await victim.gpu3d.create(Target.TEXTURE_2D, FORMAT, DRAWABLE, SIDE, SIDE)
        await victim.gpu.attach_backing(number, [Segment(1 << 32, PAGE)])
        context = await victim.gpu3d.context()
        await context.attach(number)
        high, box = memory.regions[1], Box(0, 0, 0, SIDE, SIDE)
        for _ in range(5):
            await context.submit(clearing(number))
            sent = [context.post(clearing(number, 0x9001 + n)) for n in range(20)]
            victim.gpu.kick()
            await victim.gpu.vmm.rem_mem_reg(high)
            for pending in sent:
                await pending.done()
            assert await victim.answer(TransferFromHost3d(box, 0, number)) == UNSPECIFIED
            assert await victim.answer(TransferToHost3d(box, 0, number)) == UNSPECIFIED
            await victim.gpu.vmm.add_mem_reg(high)
            await victim.gpu3d.transfer_from_host(number, box)
            assert memory.read(1 << 32, SIDE * SIDE * 4) == bytes((255, 0, 255, 255)) * (SIDE * SIDE)
            await context.destroy()
            context = await victim.gpu3d.context()
            await context.attach(number)
    memory.close()


# ---- capability sets


async def test_capset_info_of_any_index() -> None:
    """CVE-2021-3545, CVE-2016-9845, 9908: nothing but the known fields, in room for more; no index but those told."""
    async with victims() as victim:
        for index in (0, 1, 2, 3, 9, 0x7FFFFFFF, BIG):
            future = victim.gpu.post(GetCapsetInfo(index), reply_size=256)
            victim.gpu.kick()
            reply = await future
            known = index < victim.gpu.vmm.config.num_capsets
            wanted = ResponseType.OK_CAPSET_INFO if known else BAD_PARAMETER
            assert ControlHeader.decode(reply).type == wanted
            assert len(reply) == HEADER_SIZE + (16 if known else 0)
            assert not any(reply[HEADER_SIZE + 12 :])


async def test_capsets_of_any_number_and_version() -> None:
    """CVE-2021-3546, CVE-2016-10028: the whole set or none, never past the room for it."""
    async with victims() as victim:
        sizes = {info.capset_id: info for info in await victim.gpu3d.capsets()}
        for number, version, room in itertools.product(
            (0, 1, 2, 3, 7, 8, 9, BIG), (0, 1, 2, BIG), (HEADER_SIZE, 100, 4096)
        ):
            future = victim.gpu.post(GetCapset(number, version), reply_size=room)
            victim.gpu.kick()
            reply = await future
            info = sizes.get(number)
            if info is None:
                assert ControlHeader.decode(reply).type == BAD_PARAMETER
            assert len(reply) <= min(room, HEADER_SIZE + (info.capset_max_size if info else 0))


# ---- fences


async def test_fences_are_64_bits_wide() -> None:
    """Ids that repeat, go down or have more than 32 bits come back as they were sent."""
    async with victims() as victim:
        context = await victim.gpu3d.context()
        for number in (1 << 32, (1 << 32) + 1, (1 << 64) - 1, (1 << 64) - 1, 1, 0, 1 << 63):
            await victim.gpu.command(Submit3d(b""), fence=number, ctx=context.ctx_id)
            await victim.gpu.command(Submit3d(b""), fence=number, ctx=context.ctx_id, ring=63)


async def test_timelines_that_are_there_or_not() -> None:
    async with victims() as victim:
        context = await victim.gpu3d.context()
        picture = await victim.texture()
        await context.attach(picture.resource_id)
        for ring, ctx in itertools.product((0, 1, 63, 64, 255), (context.ctx_id, 0, 99, BIG)):
            flags = HeaderFlag.FENCE | HeaderFlag.INFO_RING_IDX
            for command in (Submit3d(clearing(picture.resource_id)), Submit3d(b""), CtxAttachResource(9)):
                data = command.encode(flags, 77, ctx, ring)
                reply = await victim.gpu.control.submit(data, HEADER_SIZE)
                header = ControlHeader.decode(reply)
                assert (header.fence_id, header.flags & 1) == (77, 1)
            reply = await victim.gpu.control.submit(vg.GetDisplayInfo().encode(flags, 78, ctx, ring), 512)
            assert ControlHeader.decode(reply).fence_id == 78


# ---- leaks

PAGES = tuple((PLACE + PAGE * n, PAGE) for n in range(4))


def _backing(resource: int, *pieces: tuple[int, int]) -> vg.Command:
    return vg.ResourceAttachBacking(resource, len(pieces), b"".join(vg.MemEntry(*piece).encode() for piece in pieces))


_BOX = Box(0, 0, 0, SIDE, SIDE)
LOOPS: dict[str, list[tuple[vg.Command, int]]] = {
    "create, attach, unref (CVE-2016-9912, CVE-2017-5857)": [
        (_plain(7, width=SIDE, height=SIDE), 0),
        (_backing(7, *PAGES), 0),
        (TransferFromHost3d(_BOX, 0, 7), 0),
        (vg.ResourceUnref(7), 0),
    ],
    "attach twice, one entry outside memory (CVE-2017-5552, 5578, CVE-2021-3544)": [
        (_plain(7), 0),
        (_backing(7, (1 << 50, PAGE)), 0),
        (_backing(7, *PAGES), 0),
        (_backing(7, *PAGES), 0),
        (vg.ResourceDetachBacking(7), 0),
        (_backing(7, *PAGES), 0),
        (vg.ResourceUnref(7), 0),
    ],
    "contexts with resources": [
        (CtxCreate(b"leaks"), 1),
        (_plain(7), 0),
        (CtxAttachResource(7), 1),
        (Submit3d(clearing(7)), 1),
        (CtxDestroy(), 1),
        (vg.ResourceUnref(7), 0),
    ],
    "a 2D resource that 3D takes over": [
        (CtxCreate(b"leaks"), 1),
        (vg.ResourceCreate2d(7, 1, SIDE, SIDE), 0),
        (_backing(7, *PAGES), 0),
        (CtxAttachResource(7), 1),
        (Submit3d(clearing(7)), 1),
        (vg.ResourceUnref(7), 0),
        (CtxDestroy(), 1),
    ],
    "scanouts": [
        (_plain(7), 0),
        (_plain(8), 0),
        (vg.SetScanout(Rect(0, 0, 4, 4), 0, 7), 0),
        (vg.SetScanout(Rect(0, 0, 4, 4), 0, 8), 0),
        (vg.ResourceUnref(7), 0),
        (vg.ResourceUnref(8), 0),
    ],
}


DEAR = 10
"""Rounds that make contexts or new pictures take milliseconds: there are fewer of them."""


async def has_room(victim: Victim, room: int) -> bool:
    """Pictures on their way to the VMM's display take some for a moment."""
    for _ in range(100):
        if await victim.room() >= room:
            return True
    return False


@pytest.mark.parametrize("name", LOOPS)
async def test_loops_that_leaked_elsewhere(name: str) -> None:
    """Budget, descriptors, threads and memory are what they were."""
    rounds = ROUNDS // (DEAR if "contexts" in name or "2D" in name or "scanouts" in name else 1)
    async with victims() as victim:
        for _ in range(rounds // 20):
            await victim.answers(*LOOPS[name] * 10)
        fds, threads, room, resident = victim.fds(), victim.threads(), await victim.room(), victim.resident()
        for _ in range(rounds // 10):
            await victim.answers(*LOOPS[name] * 10)
        assert victim.fds() - fds < 4  # pictures on their way to the VMM's display
        assert victim.threads() == threads
        assert victim.resident() - resident < 2 << 20
        assert await has_room(victim, room)
