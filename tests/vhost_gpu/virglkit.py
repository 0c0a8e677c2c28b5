"""A triangle drawn through a device with VirGL, part by part, so that a test can put something else in a part's place.

``drawn`` gives what is left on the picture, read back into the guest's memory and seen by a viewer.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from protocol import viewer as vp
from protocol.virgl import CommandStream, VertexBuffer, Viewport
from protocol.virgl_const import Bind, ClearBuffer, Command, ObjectType, Primitive, ShaderType, Target
from protocol.virgl_format import VirglFormat
from protocol.virgl_state import Blend, DepthStencilAlpha, Rasterizer, Surface, VertexElement, VertexElements
from tests.vhost_gpu.guestkit import guest_on, own_device
from tests.vhost_gpu.sessionkit import Viewer, xrgb
from vhost_gpu.guest.driver import GuestError, GuestGpu
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, BackedResource, Context, Gpu3d

SIDE = 64
FORMAT = VirglFormat.B8G8R8X8_UNORM
BACKGROUND = (0.0, 0.0, 1.0, 1.0)
INK = (1.0, 0.5, 0.0)
BACKGROUND_PIXEL = bytes((255, 0, 0))
INK_PIXEL = bytes((0, 128, 255))
CORNERS = ((-0.75, -0.75), (0.75, -0.75), (0.0, 0.75))
"""Clip coordinates; the tip is above."""
AREA = (1.5 * SIDE / 2) ** 2 / 2
"""Of the triangle, in pixels."""
STRIDE = 8
SURFACE, BLEND, DSA, RASTERIZER, ELEMENTS, VERTEX, FRAGMENT = range(1, 8)
VERTEX_TEXT = """VERT
DCL IN[0]
DCL OUT[0], POSITION
  0: MOV OUT[0], IN[0]
  1: END
"""
FRAGMENT_TEXT = f"""FRAG
DCL OUT[0], COLOR
IMM[0] FLT32 {{ {INK[0]:.4f}, {INK[1]:.4f}, {INK[2]:.4f}, 1.0000}}
  0: MOV OUT[0], IMM[0]
  1: END
"""


def part(write) -> bytes:
    """The bytes that ``write`` puts into a stream."""
    stream = CommandStream()
    write(stream)
    return bytes(stream.data)


def words(*values: int) -> bytes:
    """Little-endian words."""
    return struct.pack(f"<{len(values)}I", *values)


def by_hand(command: Command, *values: int, kind: int = 0, text: bytes = b"") -> bytes:
    """A command made without the encoder: a header, words, and bytes padded to words."""
    payload = words(*values) + text + bytes(-len(text) % 4)
    return words(command | kind << 8 | len(payload) // 4 << 16) + payload


def shader_by_hand(handle: int, type_: int, offset: int, text: str) -> bytes:
    """CREATE_OBJECT of a shader with an offset word and a type of one's own choice, bound to that type."""
    data = text.encode("latin-1") + b"\0"
    create = by_hand(Command.CREATE_OBJECT, handle, type_, offset, 300, 0, kind=ObjectType.SHADER, text=data)
    return create + by_hand(Command.BIND_SHADER, handle, type_)


def shader(handle: int, type_: ShaderType, text: str, **more: int) -> bytes:
    """The same with the encoder."""

    def write(stream: CommandStream) -> None:
        stream.create_shader(handle, type_, text, **more)
        stream.bind_shader(type_, handle)

    return part(write)


def parts(picture: int, vertices: int) -> dict[str, bytes]:
    """The whole drawing, part by part, in order, all with the encoder."""
    return {
        "target": part(lambda stream: _target(stream, picture)),
        "state": part(_state),
        "rasterizer": part(_rasterizer),
        "vertex shader": shader(VERTEX, ShaderType.VERTEX, VERTEX_TEXT),
        "fragment shader": shader(FRAGMENT, ShaderType.FRAGMENT, FRAGMENT_TEXT),
        "vertices": part(lambda stream: stream.write_buffer(vertices, 0, struct.pack("<6f", *sum(CORNERS, ())))),
        "vertex buffers": part(lambda stream: stream.set_vertex_buffers([VertexBuffer(STRIDE, 0, vertices)])),
        "draw": part(lambda stream: stream.draw(Primitive.TRIANGLES, 3)),
    }


def _target(stream: CommandStream, picture: int) -> None:
    stream.create_object(SURFACE, Surface(picture, FORMAT))
    stream.set_framebuffer([SURFACE])
    stream.set_viewports([Viewport.of_size(SIDE, SIDE)])
    stream.clear(ClearBuffer.COLOR0, BACKGROUND)


def _state(stream: CommandStream) -> None:
    stream.create_object(BLEND, Blend())
    stream.create_object(DSA, DepthStencilAlpha())
    stream.create_object(ELEMENTS, VertexElements((VertexElement(0, VirglFormat.R32G32_FLOAT),)))
    stream.bind_object(ObjectType.BLEND, BLEND)
    stream.bind_object(ObjectType.DSA, DSA)
    stream.bind_object(ObjectType.VERTEX_ELEMENTS, ELEMENTS)


def _rasterizer(stream: CommandStream) -> None:
    stream.create_object(RASTERIZER, Rasterizer())
    stream.bind_object(ObjectType.RASTERIZER, RASTERIZER)


@dataclass
class Easel:
    """A device with a context, a picture on scanout 0 and a vertex buffer; a viewer looks at it."""

    context: Context
    picture: BackedResource
    vertices: int
    viewer: Viewer

    async def drawn(self, stream: bytes) -> bytes:
        """What the picture shows after the stream: B G R 0 for each pixel, the same read back and seen.

        A device may refuse the stream; what it had drawn until then counts.
        """
        with contextlib.suppress(GuestError):
            await self.context.submit(stream)
        back = xrgb(await self.picture.download(), FORMAT)
        await self.picture.show()
        await self.picture.flush()
        await self.viewer.wait(lambda v: 0 in v.pixels and xrgb(v.pixels[0], FORMAT) == back)
        return back


@asynccontextmanager
async def easel(*options: str) -> AsyncIterator[Easel]:
    """On a daemon of our own with --virgl and more options."""
    async with own_device("--virgl", *options) as device, guest_on(device, features=VIRGL_FEATURES) as gpu:
        with viewer_of(device.display_socket) as viewer:
            yield await set_up(gpu, viewer)


async def set_up(gpu: GuestGpu, viewer: Viewer) -> Easel:
    """An easel on a device that is there."""
    gpu3d = Gpu3d(gpu)
    context = await gpu3d.context("easel")
    bind = Bind.RENDER_TARGET | Bind.SCANOUT
    picture = await BackedResource.create(gpu3d, Target.TEXTURE_2D, FORMAT, bind, SIDE, SIDE)
    vertices = await gpu3d.create(Target.BUFFER, VirglFormat.R8_UNORM, Bind.VERTEX_BUFFER, STRIDE * len(CORNERS))
    await context.attach(picture.resource_id, vertices)
    return Easel(context, picture, vertices, viewer)


def viewer_of(display_socket: str, session: str = "") -> Viewer:
    """A viewer of a daemon's session, the newest unless it is named."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(display_socket)
    sock.send(vp.encode(vp.Hello(session)))
    return Viewer(sock)


def lit(picture: bytes) -> list[tuple[int, int]]:
    """Where it is not the background: (x, y), y downwards."""
    pixels = (picture[at : at + 3] for at in range(0, len(picture), 4))
    return [divmod(i, SIDE)[::-1] for i, pixel in enumerate(pixels) if pixel != BACKGROUND_PIXEL]


def is_triangle(picture: bytes) -> bool:
    """Whether it shows the triangle, filled, in its colour, tip above."""
    places = set(lit(picture))
    middle = SIDE // 2
    inked = all(picture[4 * (y * SIDE + x) :][:3] == INK_PIXEL for x, y in places)
    above = sum(y < middle for _, y in places)
    return inked and abs(len(places) - AREA) < 0.05 * AREA and (middle, middle) in places and above < AREA / 3
