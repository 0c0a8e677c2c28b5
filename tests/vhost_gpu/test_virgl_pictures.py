"""The mistakes that a driver without Mesa can make in a VirGL stream, as pictures: what is wrong, by hand, shows dots
or nothing; what the encoder makes shows the triangle. The bytes are tests/protocol's.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from protocol.virgl_const import Command, ObjectType, ShaderType
from tests.vhost_gpu.virglkit import (
    FRAGMENT,
    FRAGMENT_TEXT,
    RASTERIZER,
    STRIDE,
    VERTEX,
    VERTEX_TEXT,
    by_hand,
    easel,
    is_triangle,
    lit,
    parts,
    set_up,
    shader,
    shader_by_hand,
    viewer_of,
)
from vhost_gpu.guest.command_queue import DeviceStopped
from vhost_gpu.guest.driver import GuestError, GuestGpu
from vhost_gpu.guest.driver3d import VIRGL_FEATURES
from vhost_gpu.guest.processes import private_daemon

CONTINUES = 1 << 31
ONE = 0x3F800000  # 1.0
POINT = 2
TESS_EVAL = 4
LONG = FRAGMENT_TEXT.replace("  0: MOV", "\n" * 5000 + "  0: MOV")
DOTS, NOTHING = "dots", "nothing"


def fill_mode(mode):
    """A rasterizer state whose polygons are drawn in this mode, all else as OpenGL has it."""
    bits = 1 << 1 | mode << 10 | mode << 12 | 1 << 15 | 1 << 29
    create = by_hand(Command.CREATE_OBJECT, RASTERIZER, bits, ONE, 0, 0, ONE, 0, 0, 0, kind=ObjectType.RASTERIZER)
    return create + by_hand(Command.BIND_OBJECT, RASTERIZER, kind=ObjectType.RASTERIZER)


def two_chunks(flag):
    """A long fragment shader in two commands, the second with or without the mark that it goes on."""
    data = LONG.encode() + b"\0"
    half = len(data) // 2 & ~3
    head = (FRAGMENT, ShaderType.FRAGMENT)
    return (
        by_hand(Command.CREATE_OBJECT, *head, len(data), 300, 0, kind=ObjectType.SHADER, text=data[:half])
        + by_hand(Command.CREATE_OBJECT, *head, half | flag, 300, 0, kind=ObjectType.SHADER, text=data[half:])
        + by_hand(Command.BIND_SHADER, FRAGMENT, ShaderType.FRAGMENT)
    )


def vertex_buffers(resource, *, start):
    """SET_VERTEX_BUFFERS; ``start``: with the start slot that Gallium's call has and VirGL's does not."""
    return by_hand(Command.SET_VERTEX_BUFFERS, *((0,) if start else ()), STRIDE, 0, resource)


def fragment(type_, flag=0):
    return shader_by_hand(FRAGMENT, type_, flag | (len(FRAGMENT_TEXT) + 1), FRAGMENT_TEXT)


def vertex(offset):
    return shader_by_hand(VERTEX, ShaderType.VERTEX, offset, VERTEX_TEXT)


WRONG = {
    "polygons drawn as points": ("rasterizer", lambda _: fill_mode(POINT), DOTS),
    "vertex buffers with a start slot": ("vertex buffers", lambda v: vertex_buffers(v, start=True), NOTHING),
    "fragment shader of type 4": ("fragment shader", lambda _: fragment(TESS_EVAL), NOTHING),
    "fragment shader that goes on from nowhere": (
        "fragment shader",
        lambda _: fragment(ShaderType.FRAGMENT, CONTINUES),
        NOTHING,
    ),
    "vertex shader that goes on from nowhere": ("vertex shader", lambda _: vertex(CONTINUES), NOTHING),
    "second chunk that does not go on": ("fragment shader", lambda _: two_chunks(0), NOTHING),
}
RIGHT = {
    "rasterizer by hand": ("rasterizer", lambda _: fill_mode(0)),
    "vertex buffers by hand": ("vertex buffers", lambda v: vertex_buffers(v, start=False)),
    "fragment shader by hand": ("fragment shader", lambda _: fragment(ShaderType.FRAGMENT)),
    "vertex shader by hand": ("vertex shader", lambda _: vertex(len(VERTEX_TEXT) + 1)),
    "two chunks by hand": ("fragment shader", lambda _: two_chunks(CONTINUES)),
    "long shader": ("fragment shader", lambda _: shader(FRAGMENT, ShaderType.FRAGMENT, LONG)),
    "many chunks": ("fragment shader", lambda _: shader(FRAGMENT, ShaderType.FRAGMENT, LONG, chunk=512)),
}


async def test_the_encoder_draws_a_triangle():
    async with easel() as board:
        stream = b"".join(parts(board.picture.resource_id, board.vertices).values())
        assert is_triangle(await board.drawn(stream))


@pytest.mark.parametrize("name", RIGHT)
async def test_what_is_right_by_hand_draws_the_same(name):
    """So that what the wrong variants show is due to their one mistake."""
    where, make = RIGHT[name]
    async with easel() as board:
        drawing = parts(board.picture.resource_id, board.vertices) | {where: make(board.vertices)}
        assert is_triangle(await board.drawn(b"".join(drawing.values())))


@pytest.mark.parametrize("name", WRONG)
async def test_a_mistake_shows_dots_or_nothing(name):
    where, make, shows = WRONG[name]
    async with easel() as board:
        drawing = parts(board.picture.resource_id, board.vertices) | {where: make(board.vertices)}
        places = lit(await board.drawn(b"".join(drawing.values())))
        assert 0 < len(places) < 16 if shows == DOTS else places == []


async def test_a_stream_that_crashes_the_renderer_hurts_no_other_session():
    """Drawing with a shader whose text never becomes whole kills virglrenderer 0.10.4; a newer one may refuse it."""
    async with private_daemon(options=["--virgl"]) as daemon:
        victim = await GuestGpu.open(daemon.socket_path, features=VIRGL_FEATURES)
        with viewer_of(daemon.display_socket) as watching:
            board = await set_up(victim, watching)
            other = await GuestGpu.open(daemon.socket_path, features=VIRGL_FEATURES)
            with viewer_of(daemon.display_socket, "session-2") as viewer:
                neighbour = await set_up(other, viewer)
                drawing = parts(board.picture.resource_id, board.vertices)
                killing = drawing | {"vertex shader": vertex(2 * len(VERTEX_TEXT))}
                sent = board.context.post(b"".join(killing.values()))
                victim.kick()
                gone = asyncio.ensure_future(victim.vmm.wait_gone())
                await asyncio.wait([gone, sent.reply], return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                victim.close()
                with contextlib.suppress(DeviceStopped, GuestError):
                    await sent.done()
                assert is_triangle(await neighbour.drawn(b"".join(drawing.values())))
            other.close()


async def test_a_mistake_in_one_context_leaves_the_next_one_alone():
    async with easel() as board:
        wrong = parts(board.picture.resource_id, board.vertices) | {"draw": by_hand(Command.DRAW_VBO)}
        assert lit(await board.drawn(b"".join(wrong.values()))) == []
        other = await board.picture.gpu3d.context("other")
        await other.attach(board.picture.resource_id, board.vertices)
        await other.submit(b"".join(parts(board.picture.resource_id, board.vertices).values()))
        assert is_triangle(await board.drawn(b""))
