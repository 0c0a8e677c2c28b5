"""Streams of VirGL commands gone wrong: valid ones, made with the encoder, that a seeded generator spoils.

Spoilt are words, lengths, kinds, the order and the end. What there is to draw stays bounded: a renderer that is busy
for seconds is another matter, and would make tests slow.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from protocol.virgl import BlitSide, BufferRange, CommandStream, Scissor, ShaderImage, VertexBuffer, Viewport
from protocol.virgl_const import (
    Bind,
    ClearBuffer,
    Command,
    ImageAccess,
    ObjectType,
    Primitive,
    QueryType,
    ShaderType,
    Target,
    TransferDirection,
)
from protocol.virgl_format import VirglFormat
from protocol.virgl_state import (
    Blend,
    BufferView,
    DepthStencilAlpha,
    Query,
    Rasterizer,
    SamplerState,
    SamplerView,
    StreamoutTarget,
    Surface,
    VertexElement,
    VertexElements,
)
from protocol.virtio_gpu_3d import Box
from tests.vhost_gpu.virglkit import FRAGMENT_TEXT, VERTEX_TEXT

BGRA = VirglFormat.B8G8R8A8_UNORM
SIDE = 64
BYTES = 4096
_WILD = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 255, 256, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000)
_HEAVY = {Command.DRAW_VBO, Command.LAUNCH_GRID}
_LIGHT = 0xFFF
"""Bits of a word of heavy commands that may be set."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources that the streams name: textures of SIDE x SIDE BGRA, buffers of BYTES bytes; ``volume`` of depth 4."""

    picture: int
    other: int
    volume: int
    depth: int
    buffer: int
    staging: int
    query: int


SHAPES: dict[str, tuple[int, int, int, int, dict[str, int]]] = {
    "picture": (
        Target.TEXTURE_2D,
        BGRA,
        Bind.RENDER_TARGET | Bind.SAMPLER_VIEW,
        SIDE,
        {"height": SIDE, "last_level": 3},
    ),
    "other": (Target.TEXTURE_2D, BGRA, Bind.RENDER_TARGET | Bind.SAMPLER_VIEW, SIDE, {"height": SIDE}),
    "volume": (Target.TEXTURE_3D, BGRA, Bind.RENDER_TARGET | Bind.SAMPLER_VIEW, SIDE, {"height": SIDE, "depth": 4}),
    "depth": (Target.TEXTURE_2D, VirglFormat.Z32_FLOAT, Bind.DEPTH_STENCIL, SIDE, {"height": SIDE}),
    "buffer": (Target.BUFFER, VirglFormat.R8_UNORM, Bind.VERTEX_BUFFER, BYTES, {}),
    "staging": (Target.BUFFER, VirglFormat.R8_UNORM, Bind.STAGING, BYTES, {}),
    "query": (Target.BUFFER, VirglFormat.R8_UNORM, Bind.CUSTOM, BYTES, {}),
}
"""Their target, format, bind, width and the rest."""


Call = Callable[[CommandStream], None]


def _targets_and_state(r: Resources) -> list[Call]:
    """Sub-context, framebuffer and fixed state."""
    return [
        lambda s: s.create_sub_context(1),
        lambda s: s.set_sub_context(1),
        lambda s: s.create_object(1, Surface(r.picture, BGRA)),
        lambda s: s.create_object(12, Surface(r.depth, VirglFormat.Z32_FLOAT)),
        lambda s: s.set_framebuffer([1], 12),
        lambda s: s.set_viewports([Viewport.of_size(SIDE, SIDE)]),
        lambda s: s.set_scissors([Scissor(0, 0, 9, 9)]),
        lambda s: s.clear(ClearBuffer.COLOR0 | ClearBuffer.DEPTH),
        lambda s: s.create_object(2, Blend()),
        lambda s: s.bind_object(ObjectType.BLEND, 2),
        lambda s: s.create_object(3, DepthStencilAlpha()),
        lambda s: s.bind_object(ObjectType.DSA, 3),
        lambda s: s.create_object(4, Rasterizer()),
        lambda s: s.bind_object(ObjectType.RASTERIZER, 4),
        lambda s: s.create_object(5, VertexElements((VertexElement(0, VirglFormat.R32G32_FLOAT),))),
        lambda s: s.bind_object(ObjectType.VERTEX_ELEMENTS, 5),
    ]


def _triangle(r: Resources) -> list[Call]:
    """Shaders, buffers, and draws with them."""
    vertex, fragment = ShaderType.VERTEX, ShaderType.FRAGMENT
    return [
        lambda s: s.create_shader(6, vertex, VERTEX_TEXT),
        lambda s: s.bind_shader(vertex, 6),
        lambda s: s.create_shader(7, fragment, FRAGMENT_TEXT),
        lambda s: s.bind_shader(fragment, 7),
        lambda s: s.link_shaders([6, 7, 0, 0, 0, 0]),
        lambda s: s.write_buffer(r.buffer, 0, struct.pack("<6f", -1, -1, 1, -1, 0, 1)),
        lambda s: s.set_vertex_buffers([VertexBuffer(8, 0, r.buffer)]),
        lambda s: s.set_index_buffer(r.buffer, 2),
        lambda s: s.draw(Primitive.TRIANGLES, 3),
        lambda s: s.draw(Primitive.TRIANGLES, 3, indexed=True, instances=2),
    ]


def _bindings(r: Resources) -> list[Call]:
    """What shaders read and write."""
    fragment = ShaderType.FRAGMENT
    return [
        lambda s: s.set_constants(fragment, bytes(64)),
        lambda s: s.set_uniform_buffer(fragment, 1, r.buffer, 0, 256),
        lambda s: s.create_object(8, SamplerView(r.other, BGRA)),
        lambda s: s.create_object(13, BufferView(r.buffer, VirglFormat.R8_UNORM, 0, 63)),
        lambda s: s.set_sampler_views(fragment, [8]),
        lambda s: s.create_object(9, SamplerState()),
        lambda s: s.bind_sampler_states(fragment, [9]),
        lambda s: s.set_shader_buffers(fragment, [BufferRange(0, 64, r.buffer)]),
        lambda s: s.set_shader_images(fragment, [ShaderImage(BGRA, ImageAccess.READ, 0, 0, r.other)]),
        lambda s: s.set_atomic_buffers([BufferRange(0, 64, r.buffer)]),
    ]


def _queries(r: Resources) -> list[Call]:
    """Streamout, and queries around draws."""
    return [
        lambda s: s.create_object(10, StreamoutTarget(r.buffer, 0, 256)),
        lambda s: s.set_streamout_targets([10]),
        lambda s: s.create_object(11, Query(QueryType.OCCLUSION_COUNTER, r.query)),
        lambda s: s.begin_query(11),
        lambda s: s.draw(Primitive.TRIANGLES, 3),
        lambda s: s.draw(Primitive.TRIANGLES, 3, indexed=True, instances=2),
        lambda s: s.end_query(11),
        lambda s: s.get_query_result(11, wait=False),
        lambda s: s.get_query_result_buffer(11, r.buffer, 0, wait=False),
        lambda s: s.set_render_condition(11),
        lambda s: s.set_render_condition(0),
    ]


def _copies(r: Resources) -> list[Call]:
    """Writes, copies, transfers."""
    box = Box(0, 0, 0, 8, 8)
    side = BlitSide(r.picture, BGRA, box)
    return [
        lambda s: s.inline_write(r.other, box, bytes(256), stride=32),
        lambda s: s.inline_write(r.volume, Box(0, 0, 1, 8, 8), bytes(256), stride=32),
        lambda s: s.copy_region(r.picture, 1, 1, 0, r.other, box),
        lambda s: s.copy_region(r.buffer, 64, 0, 0, r.buffer, Box(0, 0, 0, 64)),
        lambda s: s.blit(side, BlitSide(r.other, BGRA, Box(0, 0, 0, 16, 16))),
        lambda s: s.clear_texture(r.other, box, bytes(4)),
        lambda s: s.transfer(r.picture, box, 0, TransferDirection.TO_HOST),
        lambda s: s.transfer(r.picture, box, 0, TransferDirection.FROM_HOST),
        lambda s: s.copy_transfer(r.picture, box, r.staging, 0),
        lambda s: s.end_transfers(),
    ]


def _rest(_: Resources) -> list[Call]:
    """Other state, compute, the end."""
    return [
        lambda s: s.set_polygon_stipple(range(32)),
        lambda s: s.set_clip_planes([(1.0, 0.0, 0.0, 1.0)]),
        lambda s: s.set_sample_mask(1),
        lambda s: s.set_min_samples(1),
        lambda s: s.set_stencil_ref(1, 2),
        lambda s: s.set_blend_color((1.0, 0.0, 0.0, 1.0)),
        lambda s: s.set_tess_levels([1.0] * 4, [1.0] * 2),
        lambda s: s.set_framebuffer_no_attach(16, 16),
        lambda s: s.launch_grid((1, 1, 1), (1, 1, 1)),
        lambda s: s.memory_barrier(),
        lambda s: s.texture_barrier(),
        lambda s: s.string_marker("mark"),
        lambda s: s.destroy_object(ObjectType.SURFACE, 1),
        lambda s: s.destroy_sub_context(1),
    ]


def calls(r: Resources) -> list[Call]:
    """Valid calls of nearly every command, in an order that draws."""
    parts = (_targets_and_state, _triangle, _bindings, _queries, _copies, _rest)
    return [call for part in parts for call in part(r)]


def commands(resources: Resources) -> list[bytes]:
    """The same, each command's bytes."""
    made = []
    for call in calls(resources):
        stream = CommandStream()
        call(stream)
        made.append(bytes(stream.data))
    return made


class Wild:
    """A generator of streams, the same ones for the same seed."""

    def __init__(self, resources: Resources, seed: int) -> None:
        self._random = random.Random(seed)
        self._valid = commands(resources)
        self._ids = [getattr(resources, name) for name in SHAPES]

    def stream(self) -> bytes:
        """The next one, whole words, a few KiB at most."""
        chosen = [one for one in self._valid if self._random.random() < 0.8]
        for _ in range(self._random.randrange(4)):
            self._reorder(chosen)
        rate = self._random.choice((0.0, 0.05, 0.3))
        stream = b"".join(self._spoil(one) if self._random.random() < rate else one for one in chosen)
        if self._random.random() < 0.1:
            stream = stream[: self._random.randrange(len(stream) // 4) * 4]
        if self._random.random() < 0.1:
            stream += self._noise()
        return stream

    def _reorder(self, chosen: list[bytes]) -> None:
        at, to = self._random.randrange(len(chosen)), self._random.randrange(len(chosen))
        if self._random.random() < 0.5:
            chosen[at], chosen[to] = chosen[to], chosen[at]
        else:
            chosen.insert(at, chosen[to])

    def _word(self) -> int:
        kind = self._random.randrange(5)
        if kind == 0:
            return self._random.choice(self._ids)
        if kind == 1:
            return self._random.randrange(14)
        if kind == 2:
            return self._random.getrandbits(32)
        return self._random.choice(_WILD) if kind == 3 else 0xFFFFFFFF - self._random.choice(_WILD)

    def _spoil(self, command: bytes) -> bytes:
        words = list(struct.unpack(f"<{len(command) // 4}I", command))
        for _ in range(self._random.choice((1, 1, 1, 2, 4))):
            at = self._random.randrange(len(words))
            if at > 0:
                words[at] = self._word() if self._random.random() < 0.7 else words[at] ^ 1 << self._random.randrange(32)
            elif self._random.random() < 0.3:
                words[0] = self._header(words[0])
        if words[0] & 0xFF in _HEAVY:
            words[1:] = [word & _LIGHT for word in words[1:]]
        return struct.pack(f"<{len(words)}I", *words)

    def _header(self, header: int) -> int:
        """Another command, kind or length."""
        field = self._random.randrange(3)
        if field == 0:
            return header & ~0xFF | self._random.randrange(64)
        if field == 1:
            return header & ~0xFF00 | self._random.randrange(16) << 8
        return header & 0xFFFF | self._random.choice((0, 1, 2, 3, 16, 0xFFFF)) << 16

    def _noise(self) -> bytes:
        """A command of any number with random words."""
        count = self._random.randrange(40)
        number = self._random.choice([n for n in range(64) if n not in _HEAVY])
        words = [number | self._random.randrange(16) << 8 | count << 16, *(self._word() for _ in range(count))]
        return struct.pack(f"<{len(words)}I", *words)
