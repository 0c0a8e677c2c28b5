"""The balls as VirGL streams: one SUBMIT_3D makes the objects, one more draws each frame. No device.

Each ball is a triangle fan around a bright spot. A frame states everything that it needs: framebuffer, viewport, all
objects, clear, vertices inline, a draw for each ball.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from enum import IntEnum

from protocol.virgl import CommandStream, VertexBuffer, Viewport
from protocol.virgl_const import Bind, ClearBuffer, ObjectType, Primitive, ShaderType, Target
from protocol.virgl_format import VirglFormat
from protocol.virgl_state import Blend, Color, DepthStencilAlpha, Rasterizer, Surface, VertexElement, VertexElements
from protocol.virtio_gpu import Rect
from vhost_gpu.guest.balls import BALLS, Ball

SEGMENTS = 48
"""Triangles of a ball."""
FAN = SEGMENTS + 2
"""Vertices of a ball: the spot, the rim, and its first point again."""
VERTEX_SIZE = 24
"""Bytes of a vertex: x and y as clip coordinates, red, green, blue, alpha; floats."""
FORMAT = VirglFormat.B8G8R8X8_UNORM
"""Of the picture."""
PICTURE_BIND = Bind.RENDER_TARGET | Bind.SCANOUT
PICTURE_TARGET = Target.TEXTURE_2D
BUFFER_BIND = Bind.VERTEX_BUFFER
BUFFER_TARGET = Target.BUFFER
BUFFER_FORMAT = VirglFormat.R8_UNORM
BACKGROUND: Color = (0.07, 0.09, 0.16, 1.0)

_SUB_CONTEXT = 1
_SPOT = (-0.35, -0.35)
"""Where the bright spot is, in radii from the centre."""
_RIM = [(math.cos(math.tau * i / SEGMENTS), math.sin(math.tau * i / SEGMENTS)) for i in range(SEGMENTS + 1)]
_VERTEX_SHADER = """VERT
DCL IN[0]
DCL IN[1]
DCL OUT[0], POSITION
DCL OUT[1], GENERIC[0]
  0: MOV OUT[0], IN[0]
  1: MOV OUT[1], IN[1]
  2: END
"""
_FRAGMENT_SHADER = """FRAG
DCL IN[0], GENERIC[0], LINEAR
DCL OUT[0], COLOR
  0: MOV OUT[0], IN[0]
  1: END
"""


class _Handle(IntEnum):
    """Our objects."""

    SURFACE = 1
    BLEND = 2
    DSA = 3
    RASTERIZER = 4
    ELEMENTS = 5
    VERTEX_SHADER = 6
    FRAGMENT_SHADER = 7


def buffer_size(count: int = BALLS) -> int:
    """Bytes of the vertex buffer for so many balls."""
    return count * FAN * VERTEX_SIZE


class BallsStream:
    """Streams for a picture of ``width`` x ``height`` pixels, resource ``picture``, with vertices in ``vertices``."""

    def __init__(self, picture: int, vertices: int, width: int, height: int) -> None:
        """Both are numbers of resources that the context has, made with PICTURE_* and BUFFER_*."""
        self.picture = picture
        self.vertices = vertices
        self.width = width
        self.height = height
        self._state = self._frame_state()

    def whole(self) -> Rect:
        """The rectangle of the whole picture."""
        return Rect(0, 0, self.width, self.height)

    def setup(self) -> bytes:
        """What is sent once, before the first frame."""
        stream = CommandStream()
        stream.create_sub_context(_SUB_CONTEXT)
        stream.set_sub_context(_SUB_CONTEXT)
        stream.create_object(_Handle.SURFACE, Surface(self.picture, FORMAT))
        stream.create_object(_Handle.BLEND, Blend())
        stream.create_object(_Handle.DSA, DepthStencilAlpha())
        stream.create_object(_Handle.RASTERIZER, Rasterizer())
        place = VertexElement(0, VirglFormat.R32G32_FLOAT)
        colour = VertexElement(8, VirglFormat.R32G32B32A32_FLOAT)
        stream.create_object(_Handle.ELEMENTS, VertexElements((place, colour)))
        stream.create_shader(_Handle.VERTEX_SHADER, ShaderType.VERTEX, _VERTEX_SHADER)
        stream.create_shader(_Handle.FRAGMENT_SHADER, ShaderType.FRAGMENT, _FRAGMENT_SHADER)
        return bytes(stream.data)

    def frame(self, balls: Sequence[Ball]) -> bytes:
        """A whole frame: state, clear, vertices, a draw for each ball."""
        stream = CommandStream()
        stream.extend(self._state)
        stream.write_buffer(self.vertices, 0, vertices(balls, self.width, self.height))
        stream.set_vertex_buffers([VertexBuffer(VERTEX_SIZE, 0, self.vertices)])
        for number in range(len(balls)):
            stream.draw(Primitive.TRIANGLE_FAN, FAN, number * FAN)
        return bytes(stream.data)

    def _frame_state(self) -> CommandStream:
        stream = CommandStream()
        stream.set_sub_context(_SUB_CONTEXT)
        stream.set_framebuffer([_Handle.SURFACE])
        stream.set_viewports([Viewport.of_size(self.width, self.height)])
        stream.bind_object(ObjectType.BLEND, _Handle.BLEND)
        stream.bind_object(ObjectType.DSA, _Handle.DSA)
        stream.bind_object(ObjectType.RASTERIZER, _Handle.RASTERIZER)
        stream.bind_object(ObjectType.VERTEX_ELEMENTS, _Handle.ELEMENTS)
        stream.bind_shader(ShaderType.VERTEX, _Handle.VERTEX_SHADER)
        stream.bind_shader(ShaderType.FRAGMENT, _Handle.FRAGMENT_SHADER)
        stream.clear(ClearBuffer.COLOR0, BACKGROUND)
        return stream


def vertices(balls: Sequence[Ball], width: int, height: int) -> bytes:
    """FAN vertices for each ball. Pixels become clip coordinates: y = 1 is the upper edge."""
    floats = array("f")
    for ball in balls:
        _add_fan(floats, ball, 2 / width, -2 / height)
    return floats.tobytes()


def _add_fan(floats: array[float], ball: Ball, across: float, down: float) -> None:
    """One ball's; ``across`` and ``down``: clip coordinates of a pixel."""
    red, green, blue = ball.colour
    x, y = ball.x * across - 1, ball.y * down + 1
    dx, dy = ball.radius * across, ball.radius * down
    light, shade = _brighter(ball), (red * 0.8, green * 0.8, blue * 0.8, 1.0)
    floats.extend((x + _SPOT[0] * dx, y + _SPOT[1] * dy, *light))
    for cos, sin in _RIM:
        floats.extend((x + cos * dx, y + sin * dy, *shade))


def _brighter(ball: Ball) -> Color:
    red, green, blue = (channel + (1 - channel) * 0.6 for channel in ball.colour)
    return red, green, blue, 1.0
