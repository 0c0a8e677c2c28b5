"""State objects of VirGL (CREATE_OBJECT; virglrenderer's virgl_protocol.h, VIRGL_OBJ_*): made once, bound often.

`payload` is what follows the handle in CREATE_OBJECT, `parse` its inverse. Defaults are OpenGL's own, so that an object
made without arguments changes nothing about a plain opaque triangle.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from protocol.errors import PeerError
from protocol.virgl_const import (
    MAX_ATTRIBUTES,
    MAX_COLOR_BUFFERS,
    BlendFactor,
    BlendFunc,
    ColorMask,
    CompareFunc,
    Face,
    LogicOp,
    MipFilter,
    ObjectType,
    PolygonMode,
    QueryType,
    StencilOp,
    Swizzle,
    TexFilter,
    TexWrap,
)
from protocol.virgl_format import VirglFormat

Color = tuple[float, float, float, float]
"""Red, green, blue, alpha."""
_BLACK: Color = (0.0, 0.0, 0.0, 0.0)


class State:
    """What `protocol.virgl.CommandStream.create_object` takes."""

    __slots__: ClassVar[tuple[str, ...]] = ()
    OBJECT: ClassVar[ObjectType]

    def payload(self) -> bytes:
        """The words after the handle. ValueError for values that their fields cannot hold."""
        raise NotImplementedError

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From the words after the handle. PeerError when they are not those of such an object."""
        raise NotImplementedError


def pack(layout: str, *values: Any) -> bytes:
    """As struct.pack, little endian; ValueError for what does not fit."""
    try:
        return struct.pack("<" + layout, *values)
    except (struct.error, OverflowError) as error:
        raise ValueError(f"{values} do not fit: {error}") from None


def unpack(layout: str, payload: bytes, what: str) -> tuple[Any, ...]:
    """As struct.unpack, little endian; PeerError for another size."""
    if len(payload) != struct.calcsize("<" + layout):
        raise PeerError(f"{what} of {len(payload) // 4} words")
    return struct.unpack("<" + layout, payload)


def named(kind: type[Any], number: int) -> Any:
    """The member of an enumeration, or the number where it has none."""
    try:
        return kind(number)
    except ValueError:
        return number


class _Bits:
    """Fields of a word: name, lowest bit, width, type."""

    def __init__(self, *fields: tuple[str, int, int, type[Any]]) -> None:
        self._fields = fields

    def pack(self, owner: object) -> int:
        word = 0
        for name, shift, width, _ in self._fields:
            value = int(getattr(owner, name))
            if not 0 <= value < 1 << width:
                raise ValueError(f"{name} {value} has more than {width} bits")
            word |= value << shift
        return word

    def unpack(self, word: int) -> dict[str, Any]:
        return {name: named(kind, word >> shift & (1 << width) - 1) for name, shift, width, kind in self._fields}


def _flags(first: int, *names: str) -> list[tuple[str, int, int, type[Any]]]:
    return [(name, first + bit, 1, bool) for bit, name in enumerate(names)]


_BLEND = _Bits(*_flags(2, "dither", "alpha_to_coverage", "alpha_to_one"))
_BLEND_INDEPENDENT = 1 << 0
_BLEND_LOGIC_OP = 1 << 1
_BLEND_TARGET = _Bits(
    ("enabled", 0, 1, bool),
    ("rgb_func", 1, 3, BlendFunc),
    ("rgb_src", 4, 5, BlendFactor),
    ("rgb_dst", 9, 5, BlendFactor),
    ("alpha_func", 14, 3, BlendFunc),
    ("alpha_src", 17, 5, BlendFactor),
    ("alpha_dst", 22, 5, BlendFactor),
    ("mask", 27, 4, ColorMask),
)
_DSA = _Bits(
    ("depth_test", 0, 1, bool),
    ("depth_write", 1, 1, bool),
    ("depth_func", 2, 3, CompareFunc),
    ("alpha_test", 8, 1, bool),
    ("alpha_func", 9, 3, CompareFunc),
)
_STENCIL = _Bits(
    ("enabled", 0, 1, bool),
    ("func", 1, 3, CompareFunc),
    ("fail_op", 4, 3, StencilOp),
    ("zpass_op", 7, 3, StencilOp),
    ("zfail_op", 10, 3, StencilOp),
    ("value_mask", 13, 8, int),
    ("write_mask", 21, 8, int),
)
_RASTERIZER = _Bits(
    *_flags(0, "flatshade", "depth_clip", "clip_halfz", "rasterizer_discard", "flatshade_first", "light_twoside"),
    *_flags(6, "sprite_coord_lower_left", "point_quad_rasterization"),
    ("cull_face", 8, 2, Face),
    ("fill_front", 10, 2, PolygonMode),
    ("fill_back", 12, 2, PolygonMode),
    *_flags(14, "scissor", "front_ccw", "clamp_vertex_color", "clamp_fragment_color"),
    *_flags(18, "offset_line", "offset_point", "offset_tri", "poly_smooth", "poly_stipple", "point_smooth"),
    *_flags(24, "point_size_per_vertex", "multisample", "line_smooth", "line_stipple", "line_last_pixel"),
    *_flags(29, "half_pixel_center", "bottom_edge_rule", "force_persample_interp"),
)
_RASTERIZER_LINES = _Bits(
    ("line_stipple_pattern", 0, 16, int), ("line_stipple_factor", 16, 8, int), ("clip_plane_enable", 24, 8, int)
)
_SAMPLER = _Bits(
    ("wrap_s", 0, 3, TexWrap),
    ("wrap_t", 3, 3, TexWrap),
    ("wrap_r", 6, 3, TexWrap),
    ("min_filter", 9, 2, TexFilter),
    ("mip_filter", 11, 2, MipFilter),
    ("mag_filter", 13, 2, TexFilter),
    ("compare", 15, 1, bool),
    ("compare_func", 16, 3, CompareFunc),
    ("seamless_cube_map", 19, 1, bool),
    ("max_anisotropy", 20, 5, int),
)
_VIEW_FORMAT = _Bits(("format", 0, 24, VirglFormat), ("target", 24, 8, int))
_LAYERS = _Bits(("first_layer", 0, 16, int), ("last_layer", 16, 16, int))
_LEVELS = _Bits(("first_level", 0, 8, int), ("last_level", 8, 8, int))
_QUERY = _Bits(("type", 0, 16, QueryType), ("index", 16, 16, int))


@dataclass(frozen=True, slots=True)
class BlendTarget:
    """How one colour buffer takes a fragment: func(source * src, destination * dst), where enabled."""

    enabled: bool = False
    """Off: the fragment replaces what was there."""
    rgb_func: BlendFunc = BlendFunc.ADD
    rgb_src: BlendFactor = BlendFactor.ONE
    rgb_dst: BlendFactor = BlendFactor.ZERO
    alpha_func: BlendFunc = BlendFunc.ADD
    alpha_src: BlendFactor = BlendFactor.ONE
    alpha_dst: BlendFactor = BlendFactor.ZERO
    mask: ColorMask = ColorMask.RGBA
    """Channels that are written."""

    @classmethod
    def over(cls) -> BlendTarget:
        """Transparency by the source's alpha, colours not multiplied by it."""
        src, dst, one = BlendFactor.SRC_ALPHA, BlendFactor.INV_SRC_ALPHA, BlendFactor.ONE
        return cls(True, BlendFunc.ADD, src, dst, BlendFunc.ADD, one, dst)


@dataclass(frozen=True, slots=True)
class Blend(State):
    """VIRGL_OBJECT_BLEND."""

    OBJECT = ObjectType.BLEND
    targets: tuple[BlendTarget, ...] = (BlendTarget(),)
    """Of the colour buffers, at most 8; the first is for all of them unless independent. Missing ones are plain."""
    independent: bool = False
    """Each colour buffer has its own."""
    logic_op: LogicOp | None = None
    """Instead of blending."""
    dither: bool = False
    alpha_to_coverage: bool = False
    alpha_to_one: bool = False

    def payload(self) -> bytes:
        """10 words."""
        if len(self.targets) > MAX_COLOR_BUFFERS:
            raise ValueError(f"{len(self.targets)} blend targets")
        first = _BLEND.pack(self) | (_BLEND_INDEPENDENT if self.independent else 0)
        first |= 0 if self.logic_op is None else _BLEND_LOGIC_OP
        plain = [BlendTarget()] * (MAX_COLOR_BUFFERS - len(self.targets))
        return pack("10I", first, self.logic_op or 0, *map(_BLEND_TARGET.pack, [*self.targets, *plain]))

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Targets that are plain are left out at the end, but for the first."""
        first, logic_op, *words = unpack("10I", payload, "blend state")
        targets = [BlendTarget(**_BLEND_TARGET.unpack(word)) for word in words]
        while len(targets) > 1 and targets[-1] == BlendTarget():
            targets.pop()
        operation = named(LogicOp, logic_op & 0xF) if first & _BLEND_LOGIC_OP else None
        return cls(tuple(targets), bool(first & _BLEND_INDEPENDENT), operation, **_BLEND.unpack(first))


@dataclass(frozen=True, slots=True)
class Stencil:
    """The stencil test of one side of polygons."""

    enabled: bool = False
    """On the back: whether it has a test of its own."""
    func: CompareFunc = CompareFunc.ALWAYS
    fail_op: StencilOp = StencilOp.KEEP
    zpass_op: StencilOp = StencilOp.KEEP
    zfail_op: StencilOp = StencilOp.KEEP
    value_mask: int = 0xFF
    write_mask: int = 0xFF


@dataclass(frozen=True, slots=True)
class DepthStencilAlpha(State):
    """VIRGL_OBJECT_DSA: the tests of a fragment."""

    OBJECT = ObjectType.DSA
    depth_test: bool = False
    depth_write: bool = False
    depth_func: CompareFunc = CompareFunc.LESS
    alpha_test: bool = False
    alpha_func: CompareFunc = CompareFunc.ALWAYS
    alpha_ref: float = 0.0
    front: Stencil = Stencil()
    back: Stencil = Stencil()

    def payload(self) -> bytes:
        """4 words."""
        return pack("3If", _DSA.pack(self), _STENCIL.pack(self.front), _STENCIL.pack(self.back), self.alpha_ref)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From 4 words."""
        first, front, back, alpha_ref = unpack("3If", payload, "depth, stencil and alpha state")
        sides = (Stencil(**_STENCIL.unpack(front)), Stencil(**_STENCIL.unpack(back)))
        return cls(**_DSA.unpack(first), alpha_ref=alpha_ref, front=sides[0], back=sides[1])


@dataclass(frozen=True, slots=True)
class Rasterizer(State):
    """VIRGL_OBJECT_RASTERIZER: from primitives to fragments. Polygons are filled unless told otherwise."""

    OBJECT = ObjectType.RASTERIZER
    flatshade: bool = False
    depth_clip: bool = True
    clip_halfz: bool = False
    """Depth goes from 0 to 1, not from -1."""
    rasterizer_discard: bool = False
    flatshade_first: bool = False
    """The first vertex gives a flat primitive its colour, not the last."""
    light_twoside: bool = False
    sprite_coord_lower_left: bool = False
    point_quad_rasterization: bool = False
    cull_face: Face = Face.NONE
    fill_front: PolygonMode = PolygonMode.FILL
    fill_back: PolygonMode = PolygonMode.FILL
    scissor: bool = False
    """SET_SCISSOR_STATE has effect."""
    front_ccw: bool = True
    """Counter-clockwise polygons show their front."""
    clamp_vertex_color: bool = False
    clamp_fragment_color: bool = False
    offset_line: bool = False
    offset_point: bool = False
    offset_tri: bool = False
    poly_smooth: bool = False
    poly_stipple: bool = False
    point_smooth: bool = False
    point_size_per_vertex: bool = False
    multisample: bool = False
    line_smooth: bool = False
    line_stipple: bool = False
    line_last_pixel: bool = False
    half_pixel_center: bool = True
    bottom_edge_rule: bool = False
    force_persample_interp: bool = False
    point_size: float = 1.0
    sprite_coord_enable: int = 0
    """Bits: generic varyings that become a point's coordinates."""
    line_stipple_pattern: int = 0
    line_stipple_factor: int = 0
    """Repetitions of each bit of the pattern, less one."""
    clip_plane_enable: int = 0
    """Bits: planes of SET_CLIP_STATE."""
    line_width: float = 1.0
    offset_units: float = 0.0
    offset_scale: float = 0.0
    offset_clamp: float = 0.0

    def payload(self) -> bytes:
        """8 words."""
        lines = _RASTERIZER_LINES.pack(self)
        floats = (self.line_width, self.offset_units, self.offset_scale, self.offset_clamp)
        return pack("IfII4f", _RASTERIZER.pack(self), self.point_size, self.sprite_coord_enable, lines, *floats)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From 8 words."""
        first, size, sprites, lines, width, units, scale, clamp = unpack("IfII4f", payload, "rasterizer state")
        bits = _RASTERIZER.unpack(first) | _RASTERIZER_LINES.unpack(lines)
        offsets = {"offset_units": units, "offset_scale": scale, "offset_clamp": clamp}
        return cls(**bits, **offsets, point_size=size, sprite_coord_enable=sprites, line_width=width)


@dataclass(frozen=True, slots=True)
class VertexElement:
    """Where a vertex shader's input comes from. Inputs are numbered in order."""

    offset: int
    """Bytes from the start of a vertex."""
    format: VirglFormat
    buffer: int = 0
    """Which of SET_VERTEX_BUFFERS, 0 to 31."""
    divisor: int = 0
    """Instances that share a value; 0: each vertex has its own."""


@dataclass(frozen=True, slots=True)
class VertexElements(State):
    """VIRGL_OBJECT_VERTEX_ELEMENTS: how vertices lie in their buffers."""

    OBJECT = ObjectType.VERTEX_ELEMENTS
    elements: tuple[VertexElement, ...]
    """At most 32."""

    def payload(self) -> bytes:
        """4 words for each."""
        if len(self.elements) > MAX_ATTRIBUTES:
            raise ValueError(f"{len(self.elements)} vertex elements")
        if any(not 0 <= element.buffer < MAX_ATTRIBUTES for element in self.elements):
            raise ValueError("a vertex element's buffer is 0 to 31")
        return b"".join(pack("4I", e.offset, e.divisor, e.buffer, e.format) for e in self.elements)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From any multiple of 4 words."""
        if len(payload) % 16:
            raise PeerError(f"vertex elements of {len(payload) // 4} words")
        words = struct.iter_unpack("<4I", payload)
        return cls(tuple(VertexElement(at, named(VirglFormat, fmt), buf, div) for at, div, buf, fmt in words))


@dataclass(frozen=True, slots=True)
class SamplerState(State):
    """VIRGL_OBJECT_SAMPLER_STATE: how texels are read."""

    OBJECT = ObjectType.SAMPLER_STATE
    wrap_s: TexWrap = TexWrap.REPEAT
    wrap_t: TexWrap = TexWrap.REPEAT
    wrap_r: TexWrap = TexWrap.REPEAT
    min_filter: TexFilter = TexFilter.NEAREST
    mip_filter: MipFilter = MipFilter.NONE
    mag_filter: TexFilter = TexFilter.NEAREST
    compare: bool = False
    """A shadow map."""
    compare_func: CompareFunc = CompareFunc.NEVER
    seamless_cube_map: bool = False
    max_anisotropy: int = 0
    lod_bias: float = 0.0
    min_lod: float = 0.0
    max_lod: float = 1000.0
    border_color: Color = _BLACK

    def payload(self) -> bytes:
        """8 words."""
        return pack("I7f", _SAMPLER.pack(self), self.lod_bias, self.min_lod, self.max_lod, *self.border_color)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From 8 words."""
        first, bias, low, high, *border = unpack("I7f", payload, "sampler state")
        red, green, blue, alpha = border
        rest = {"lod_bias": bias, "min_lod": low, "max_lod": high, "border_color": (red, green, blue, alpha)}
        return cls(**_SAMPLER.unpack(first), **rest)


@dataclass(frozen=True, slots=True)
class SamplerView(State):
    """VIRGL_OBJECT_SAMPLER_VIEW of a texture: what a shader reads."""

    OBJECT = ObjectType.SAMPLER_VIEW
    resource: int
    format: VirglFormat
    first_layer: int = 0
    last_layer: int = 0
    first_level: int = 0
    last_level: int = 0
    swizzle: tuple[Swizzle, Swizzle, Swizzle, Swizzle] = (Swizzle.RED, Swizzle.GREEN, Swizzle.BLUE, Swizzle.ALPHA)
    """Where the shader's four channels come from."""
    target: int = 0
    """A `virgl_const.Target` to see the texture as, with VIRGL_CAP_TEXTURE_VIEW; 0: its own."""

    def payload(self) -> bytes:
        """5 words."""
        places = (_VIEW_FORMAT.pack(self), _LAYERS.pack(self), _LEVELS.pack(self))
        return pack("5I", self.resource, *places, _pack_swizzle(self.swizzle))

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From 5 words; PeerError for those of a buffer's view that can't be a texture's."""
        resource, fmt, layers, levels, swizzle = unpack("5I", payload, "sampler view")
        if levels >> 16:
            raise PeerError(f"levels {levels:#x}")
        bits = _VIEW_FORMAT.unpack(fmt) | _LAYERS.unpack(layers) | _LEVELS.unpack(levels)
        return cls(resource, **bits, swizzle=_unpack_swizzle(swizzle))


@dataclass(frozen=True, slots=True)
class BufferView(State):
    """VIRGL_OBJECT_SAMPLER_VIEW of a buffer."""

    OBJECT = ObjectType.SAMPLER_VIEW
    resource: int
    format: VirglFormat
    first_element: int
    last_element: int
    """The last that is seen, not the one after it."""
    swizzle: tuple[Swizzle, Swizzle, Swizzle, Swizzle] = (Swizzle.RED, Swizzle.GREEN, Swizzle.BLUE, Swizzle.ALPHA)
    target: int = 0
    """As in SamplerView."""

    def payload(self) -> bytes:
        """5 words."""
        places = (_VIEW_FORMAT.pack(self), self.first_element, self.last_element)
        return pack("5I", self.resource, *places, _pack_swizzle(self.swizzle))

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From 5 words."""
        resource, fmt, first, last, swizzle = unpack("5I", payload, "sampler view")
        bits = _VIEW_FORMAT.unpack(fmt)
        return cls(resource, bits["format"], first, last, _unpack_swizzle(swizzle), bits["target"])


def _pack_swizzle(swizzle: Sequence[int]) -> int:
    if len(swizzle) != 4 or any(not 0 <= channel <= 7 for channel in swizzle):
        raise ValueError(f"swizzle {swizzle}")
    return sum(channel << 3 * index for index, channel in enumerate(swizzle))


def _unpack_swizzle(word: int) -> tuple[Swizzle, Swizzle, Swizzle, Swizzle]:
    red, green, blue, alpha = (named(Swizzle, word >> shift & 7) for shift in (0, 3, 6, 9))
    return red, green, blue, alpha


@dataclass(frozen=True, slots=True)
class Surface(State):
    """VIRGL_OBJECT_SURFACE: a level of a texture, to be drawn on."""

    OBJECT = ObjectType.SURFACE
    resource: int
    format: VirglFormat
    level: int = 0
    first_layer: int = 0
    last_layer: int = 0

    def payload(self) -> bytes:
        """4 words."""
        return pack("4I", self.resource, self.format, self.level, _LAYERS.pack(self))

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From 4 words."""
        resource, fmt, level, layers = unpack("4I", payload, "surface")
        return cls(resource, named(VirglFormat, fmt), level, **_LAYERS.unpack(layers))


@dataclass(frozen=True, slots=True)
class Query(State):
    """VIRGL_OBJECT_QUERY."""

    OBJECT = ObjectType.QUERY
    type: QueryType
    resource: int
    """A buffer with `Bind.CUSTOM` where GET_QUERY_RESULT writes struct virgl_host_query_state."""
    offset: int = 0
    index: int = 0
    """Which stream or statistic."""

    def payload(self) -> bytes:
        """3 words."""
        return pack("3I", _QUERY.pack(self), self.offset, self.resource)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From 3 words."""
        first, offset, resource = unpack("3I", payload, "query")
        return cls(resource=resource, offset=offset, **_QUERY.unpack(first))


@dataclass(frozen=True, slots=True)
class StreamoutTarget(State):
    """VIRGL_OBJECT_STREAMOUT_TARGET: where transform feedback writes."""

    OBJECT = ObjectType.STREAMOUT_TARGET
    resource: int
    offset: int
    """In bytes."""
    size: int
    """In bytes."""

    def payload(self) -> bytes:
        """3 words."""
        return pack("3I", self.resource, self.offset, self.size)

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From 3 words."""
        return cls(*unpack("3I", payload, "stream output target"))
