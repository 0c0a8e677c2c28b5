"""Streams that hurt virglrenderer, or might: whatever they do, they do it to their own session (docs/replay.md).

virglrenderer is others' C code, and some streams do crash it. Then the session process ends, the reason is in the log,
and the daemon, the other sessions and the next one go on with 3D.
"""

import asyncio
import itertools
import os
import re
import signal
import struct
from collections.abc import Callable
from typing import NoReturn

import pytest

from protocol.virgl import BlitSide, CommandStream
from protocol.virgl_const import Bind, Command, ObjectType, ShaderType, Target, TransferDirection
from protocol.virgl_format import VirglFormat
from protocol.virtio_gpu import ResourceUnref
from protocol.virtio_gpu_3d import Box, CtxDestroy, Submit3d
from tests.vhost_gpu.hurtkit import (
    FORMAT,
    OK,
    SIDE,
    UNSPECIFIED,
    Daemon,
    Victim,
    clearing,
    daemons,
    tried,
    victims,
    wild_resources,
)
from tests.vhost_gpu.virglkit import FRAGMENT_TEXT, by_hand, shader_by_hand
from tests.vhost_gpu.wildstreams import SHAPES, Resources, Wild, commands
from vhost_gpu.guest.command_queue import DeviceStopped
from vhost_gpu.guest.driver3d import BackedResource, Context
from vhost_gpu.guest.memory import PAGE
from vhost_gpu.guest.ring import Segment

BIG = 0xFFFFFFFF
MARK = 0xA5
STREAMS = 40


async def drawing_context(victim: Victim, resources: Resources, number: int) -> Context:
    """A context that may name all of them."""
    context = await victim.gpu3d.context("wild", ctx_id=number)
    await context.attach(*(getattr(resources, name) for name in SHAPES))
    return context


# ---- boxes outside

BOXES = [
    Box(0, 0, 0, SIDE + 1, SIDE),
    Box(SIDE, SIDE, 0, 1, 1),
    Box(0, 0, 1, 4, 4),
    Box(0, 0, 0, BIG, BIG),
    Box(0, 0, 0, 0x10000, 0x10000),
    Box(BIG, 0, 0, 4, 4),
    Box(0x7FFFFFFF, 0x7FFFFFFF, 0, 4, 4),
    Box(0, 0, BIG, 4, 4, 2),
    Box(4, 4, 0, 0xFFFFFFF0, 0xFFFFFFF0),
]
STRIDES = [(0, 0), (1, 1), (BIG, BIG), (0x80000000, 0), (64, 0xFFFFFFC0)]


def _outside(target: int, source: int, staging: int) -> list[tuple[str, Callable[[CommandStream], None]]]:
    """Everything in a stream that copies, with every box."""
    calls: list[tuple[str, Callable[[CommandStream], None]]] = []
    good = Box(0, 0, 0, 4, 4)
    for box, (stride, layers) in itertools.product(BOXES, STRIDES):
        more = {"stride": stride, "layer_stride": layers}
        calls += [
            (f"inline {box} {more}", lambda s, b=box, m=more: s.inline_write(target, b, bytes([7]) * 64, **m)),
            (f"to {box} {more}", lambda s, b=box, m=more: s.transfer(target, b, 0, TransferDirection.TO_HOST, **m)),
            (f"from {box} {more}", lambda s, b=box, m=more: s.transfer(target, b, 0, TransferDirection.FROM_HOST, **m)),
            (f"staged {box} {more}", lambda s, b=box, m=more: s.copy_transfer(target, b, staging, 0, **m)),
            (f"unstaged {box} {more}", lambda s, b=box, m=more: s.copy_transfer(target, b, staging, BIG - 3, **m)),
        ]
    for box in BOXES:
        sides = [(BlitSide(target, FORMAT, box), BlitSide(source, FORMAT, good)), (BlitSide(source, FORMAT, box),) * 2]
        calls += [
            (f"copy {box}", lambda s, b=box: s.copy_region(target, 0, 0, 0, source, b)),
            (f"copy to {box}", lambda s, b=box: s.copy_region(target, b.x, b.y, b.z, source, good)),
            (f"fill {box}", lambda s, b=box: s.clear_texture(source, b, bytes([9]) * 4)),
            *((f"blit {box}", lambda s, one=one: s.blit(*one)) for one in sides),
        ]
    return calls


async def test_copies_with_boxes_and_strides_outside() -> None:
    """CVE-2019-18388..18391: the guest's memory beside the backing stays as it is, and so does the session."""
    async with victims() as victim:
        memory, size = victim.gpu.memory, SIDE * SIDE * 4
        gpa = memory.alloc(3 * PAGE)
        memory.write(gpa, bytes([MARK]) * (3 * PAGE))
        picture = await victim.texture()
        target = await victim.gpu3d.create(Target.TEXTURE_2D, FORMAT, Bind.SAMPLER_VIEW, SIDE, SIDE)
        await victim.gpu.attach_backing(target, [Segment(gpa + PAGE, size)])
        staging = await victim.gpu3d.create(Target.BUFFER, VirglFormat.R8_UNORM, Bind.STAGING, size)
        await victim.gpu.attach_backing(staging, [Segment(memory.alloc(size), size)])
        for number, (name, call) in enumerate(_outside(target, picture.resource_id, staging), 1):
            stream = CommandStream()
            call(stream)
            context = await victim.gpu3d.context(ctx_id=number)
            await context.attach(target, picture.resource_id, staging)
            try:
                await tried(context, bytes(stream.data))
                await context.destroy()
            except DeviceStopped:
                raise AssertionError(f"the session ended at {name}") from None
        assert memory.read(gpa, PAGE) == bytes([MARK]) * PAGE
        assert memory.read(gpa + PAGE + size, 2 * PAGE - size) == bytes([MARK]) * (2 * PAGE - size)


# ---- streams that end early, or are none


async def test_truncated_streams() -> None:
    """A command that announces more words than there are ends its stream, whatever the device says to it."""
    async with victims() as victim:
        resources = await wild_resources(victim)
        for number, command in enumerate(commands(resources), 1):
            async with await drawing_context(victim, resources, number) as context:
                for words in {1, len(command) // 8, len(command) // 4 - 1} - {0}:
                    if words * 4 < len(command):
                        await tried(context, command[: words * 4])


async def test_commands_without_their_words() -> None:
    """Every command, known or not, with none of its words, with a few, with far too many."""
    async with victims() as victim:
        resources = await wild_resources(victim)
        for number, words in enumerate(((), (0,), (BIG,) * 3, (1,) * 80), 1):
            context = await drawing_context(victim, resources, number)
            for command in set(range(256)) - {Command.DRAW_VBO, Command.LAUNCH_GRID}:
                stream = struct.pack(f"<{len(words) + 1}I", command | len(words) << 16, *words)
                await tried(context, stream)
            for kind in range(16):
                await tried(context, by_hand(Command.CREATE_OBJECT, *words, kind=kind))
            await context.destroy()


async def test_one_contexts_mistakes_are_its_own() -> None:
    """A context in error: those beside it draw, before and after, and it ends as any other."""
    async with victims() as victim:
        picture = await victim.texture()
        good = await victim.gpu3d.context("good")
        bad = await victim.gpu3d.context("bad")
        await good.attach(picture.resource_id)
        await bad.attach(picture.resource_id)
        for _ in range(50):
            assert not await tried(bad, by_hand(Command.CREATE_OBJECT, 99, kind=ObjectType.BLEND))
            assert not await tried(bad, struct.pack("<I", 0xFF | 0xFFFF << 16))
            assert await tried(good, clearing(picture.resource_id))
        assert await picture.download() == bytes((255, 0, 255, 255)) * (SIDE * SIDE)
        assert await victim.answers((CtxDestroy(), bad.ctx_id), (Submit3d(b""), good.ctx_id)) == [OK, OK]


async def test_streams_name_what_is_not_theirs() -> None:
    """Resources of another context, resources and handles that are gone: refused."""
    async with victims() as victim:
        picture = await victim.texture()
        # virglrenderer may take nothing more from a context that made a mistake.
        mistaken = await victim.gpu3d.context()
        assert not await tried(mistaken, clearing(picture.resource_id))
        context = await victim.gpu3d.context()
        await context.attach(picture.resource_id)
        assert await tried(context, clearing(picture.resource_id))
        assert await victim.answer(ResourceUnref(picture.resource_id)) == OK
        gone = CommandStream()
        gone.write_buffer(picture.resource_id, 0, bytes(16))
        assert await victim.answer(Submit3d(bytes(gone.data)), ctx=context.ctx_id) == UNSPECIFIED
        assert not await tried(context, clearing(picture.resource_id, 0x9001))


async def test_what_a_stream_makes_is_bounded() -> None:
    """Sub-contexts, 2 MiB each, and textures that no command of the device made."""
    async with victims() as victim:
        context = await victim.gpu3d.context()
        before = victim.resident()
        for start in range(1, 2000, 50):
            many = CommandStream()
            for number in range(start, start + 50):
                many.create_sub_context(number)
            await tried(context, bytes(many.data))
            texture = (Target.TEXTURE_2D, FORMAT, Bind.RENDER_TARGET, 4096, 4096, 1, 1, 0, 0, 0, start)
            assert not await tried(context, by_hand(Command.PIPE_RESOURCE_CREATE, *texture))
        assert victim.resident() - before < 1 << 30
        await context.destroy()


async def test_a_shaders_text_neither_breaks_nor_fills_the_log() -> None:
    """virglrenderer's parser quotes on standard error what it does not understand."""
    async with daemons("--log-level", "info") as daemon:
        victim = await daemon.connect()
        context = await victim.gpu3d.context()
        for handle in range(1, 200):
            text = FRAGMENT_TEXT.replace("COLOR", "C\x1b[2J\xcf\nerror: OR")
            await tried(context, shader_by_hand(handle, ShaderType.FRAGMENT, len(text) + 1, text))
        await victim.serves()
        lines = daemon.log.read_bytes().splitlines()
        assert 5 < len(lines) < 100
        assert all(re.match(rb"\d\d:\d\d:\d\d (info|warning) (session-1|supervisor): ", line) for line in lines)
        assert not any(b"\x1b" in line for line in lines)


# ---- streams that may crash the renderer


class Neighbour:
    """Another session of the daemon, which draws all the time."""

    def __init__(self, victim: Victim, context: Context, picture: BackedResource) -> None:
        self.victim = victim
        self.frames = 0
        self._context, self._picture = context, picture
        self._task = asyncio.ensure_future(self._draw())

    @classmethod
    async def of(cls, daemon: Daemon) -> "Neighbour":
        victim = await daemon.connect()
        picture, context = await victim.texture(), await victim.gpu3d.context("neighbour")
        await context.attach(picture.resource_id)
        return cls(victim, context, picture)

    async def _draw(self) -> None:
        while True:
            await self._context.submit(clearing(self._picture.resource_id, 1 + self.frames))
            assert await self._picture.download() == bytes((255, 0, 255, 255)) * (SIDE * SIDE)
            self.frames += 1
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        """It is well to the end, and draws one more picture."""
        assert not self._task.done(), self._task.exception()
        self._task.cancel()
        await asyncio.wait([self._task])
        await self.victim.serves()
        self.victim.gpu.close()


async def thrown(victim: Victim, seed: int) -> bool:
    """Throws spoilt streams at a session. Whether it lives."""
    try:
        resources = await wild_resources(victim)
        wild = Wild(resources, seed)
        for number in range(1, STREAMS // 4 + 1):
            context = await drawing_context(victim, resources, number)
            for _ in range(4):
                await tried(context, wild.stream())
            await context.destroy()
        await victim.serves()
    except DeviceStopped:
        return False
    return True


@pytest.mark.parametrize("seeds", [range(4), range(4, 8), range(8, 12)], ids=str)
async def test_random_streams_hurt_no_other_session(seeds: range) -> None:
    async with daemons() as daemon:
        neighbour = await Neighbour.of(daemon)
        for seed in seeds:
            victim = await daemon.connect()
            if not await thrown(victim, seed):
                await daemon.died(victim)
            victim.gpu.close()
        await (await daemon.connect()).serves()
        await neighbour.end()


async def submits(context: Context) -> NoReturn:
    """One empty stream after another."""
    while True:
        await context.submit(b"")


async def test_a_crash_in_the_middle_of_rendering_ends_one_session() -> None:
    """The process is killed as a crash would: the log says so, and everything else has 3D, the next session too."""
    async with daemons() as daemon:
        neighbour = await Neighbour.of(daemon)
        for _ in range(3):
            victim = await daemon.connect()
            picture, context = await victim.texture(64, 64), await victim.gpu3d.context()
            await context.attach(picture.resource_id)
            await picture.show()
            sent = [context.post(clearing(picture.resource_id, 1 + n)) for n in range(200)]
            victim.gpu.kick()
            await sent[10].done()
            os.kill(victim.pid, signal.SIGSEGV)
            with pytest.raises(DeviceStopped):
                await submits(context)  # the 200 may have been done before the signal came
            await daemon.died(victim)
            victim.gpu.close()
            for pending in sent:
                pending.reply.cancelled() or pending.reply.exception()
        assert daemon.words().count("killed by SIGSEGV") == 3
        await (await daemon.connect()).serves()
        await neighbour.end()
