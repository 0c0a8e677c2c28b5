"""VirGL's command stream, read for people: names, sizes, fields, the text of shaders.

`decode_stream` never fails: what is malformed is described where it stands. Fields carry the names of
`protocol.virgl.CommandStream`'s arguments.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from enum import IntEnum, IntFlag
from typing import Any

from protocol.errors import PeerError
from protocol.virgl import BlitSide, BufferRange, Data, Scissor, ShaderImage, VertexBuffer, Viewport
from protocol.virgl_const import (
    Barrier,
    ClearBuffer,
    ColorMask,
    Command,
    CopyTransferFlag,
    ImageAccess,
    ObjectType,
    Primitive,
    RenderCondition,
    ResultType,
    ShaderType,
    TexFilter,
    TextureBarrier,
    TransferDirection,
    Tweak,
    Usage,
)
from protocol.virgl_format import VirglFormat
from protocol.virgl_shader import ShaderChunk
from protocol.virgl_state import (
    Blend,
    BufferView,
    DepthStencilAlpha,
    Query,
    Rasterizer,
    SamplerState,
    SamplerView,
    State,
    StreamoutTarget,
    Surface,
    VertexElements,
    named,
    unpack,
)
from protocol.virtio_gpu import Rect
from protocol.virtio_gpu_3d import Box

SHOWN_ITEMS = 16
"""Items of a list, and bytes of data, that are printed."""
UNSAID = {
    "indexed": False,
    "instances": 1,
    "index_bias": 0,
    "start_instance": 0,
    "restart": False,
    "restart_index": 0,
    "min_index": 0,
    "max_index": 0xFFFFFFFF,
    "count_from": 0,
    "draw_id": 0,
    "usage": 0,
    "layer_stride": 0,
    "render_condition": False,
    "alpha_blend": False,
}
"""Fields that are not printed when they have the value that they nearly always have."""

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One command of a stream. str() is for people."""

    offset: int
    """Where it begins, in bytes."""
    name: str
    """Such as "DRAW_VBO" or "CREATE_OBJECT BLEND"."""
    words: int
    """After the header, as the header has it."""
    fields: Fields = field(default_factory=dict)
    text: str = ""
    """A shader's text."""
    problem: str = ""
    """What is wrong with it."""

    def __str__(self) -> str:
        parts = [f"{self.offset:6} {self.name} [{self.words}]"]
        said = ((name, value) for name, value in self.fields.items() if name not in UNSAID or value != UNSAID[name])
        parts += [f"{name}={show(value)}" for name, value in said]
        parts += [f"!! {self.problem}"] if self.problem else []
        return "\n".join([" ".join(parts), *("           | " + line for line in self.text.splitlines())])


def decode_stream(data: Data) -> list[Decoded]:
    """The commands of a stream, in order. It ends where a command announces more words than there are."""
    return list(_commands(bytes(data)))


def _commands(data: bytes) -> Iterator[Decoded]:
    at = 0
    while len(data) - at >= 4:
        command, kind, words = struct.unpack_from("<BBH", data, at)
        payload = data[at + 4 : at + 4 + words * 4]
        if len(payload) < words * 4:
            problem = f"{words} words announced, {len(payload) // 4} left: the renderer stops here"
            yield Decoded(at, _name(command, kind), words, problem=problem)
            return
        yield _decode(at, command, kind, payload)
        at += 4 + words * 4
    if at < len(data):
        yield Decoded(at, "end", 0, problem=f"{len(data) - at} bytes are no whole word")


def _name(command: int, kind: int) -> str:
    known = named(Command, command)
    name = known.name if isinstance(known, Command) else f"command {command}"
    if known in (Command.CREATE_OBJECT, Command.BIND_OBJECT, Command.DESTROY_OBJECT):
        return f"{name} {show(named(ObjectType, kind))}"
    return name


def _decode(at: int, command: int, kind: int, payload: bytes) -> Decoded:
    name, words = _name(command, kind), len(payload) // 4
    try:
        if command == Command.CREATE_OBJECT:
            found, text = _object(kind, payload)
            return Decoded(at, name, words, found, text)
        reader = _READERS.get(command)
        if not reader:
            return Decoded(at, name, words, _unread(payload))
        return Decoded(at, name, words, reader(payload))
    except PeerError as error:
        return Decoded(at, name, words, _unread(payload), problem=str(error))


def _unread(payload: bytes) -> Fields:
    return {"data": payload} if payload else {}


# Objects.

_STATES: dict[int, type[State]] = {
    state.OBJECT: state
    for state in (
        Blend,
        DepthStencilAlpha,
        Query,
        Rasterizer,
        SamplerState,
        SamplerView,
        StreamoutTarget,
        Surface,
        VertexElements,
    )
}


def _object(kind: int, payload: bytes) -> tuple[Fields, str]:
    if len(payload) < 4:
        raise PeerError("no handle")
    handle = int.from_bytes(payload[:4], "little")
    if kind == ObjectType.SHADER:
        chunk = ShaderChunk.parse(payload[4:])
        return {"handle": handle, **_of_chunk(chunk)}, chunk.text.decode("latin-1")
    state = _STATES.get(kind)
    if not state:
        return {"handle": handle, **_unread(payload[4:])}, ""
    return {"handle": handle, "state": _state(state, payload[4:])}, ""


def _state(state: type[State], payload: bytes) -> State:
    try:
        return state.parse(payload)
    except PeerError:
        if state is SamplerView:
            return BufferView.parse(payload)
        raise


def _of_chunk(chunk: ShaderChunk) -> Fields:
    place = "continues_at" if chunk.continues else "length"
    found: Fields = {"shader": chunk.shader, place: chunk.offset, "tokens": chunk.tokens}
    if chunk.stream_output:
        found["stream_output"] = chunk.stream_output
    if chunk.local_memory:
        found["local_memory"] = chunk.local_memory
    return found


# Commands with a fixed layout: struct's letters, and for each field its name, type, and how many letters it takes.

_One = tuple[str, Any]
_BOX = ("box", Box)
_COUNTS = {Box: 6, tuple: 4, BlitSide: 9, Scissor: 4}


def _fixed(layout: str, *names: _One) -> Callable[[bytes], Fields]:
    def read(payload: bytes) -> Fields:
        values = iter(unpack(layout, payload, "command"))
        return {name: _take(kind, values) for name, kind in names}

    return read


def _take(kind: Any, values: Iterator[Any]) -> Any:
    count = _COUNTS.get(kind)
    if not count:
        return named(kind, next(values))
    some = [next(values) for _ in range(count)]
    if kind is BlitSide:
        resource, level, fmt, *corners = some
        return BlitSide(resource, named(VirglFormat, fmt), Box(*map(_signed, corners)), level)
    return tuple(some) if kind is tuple else kind(*some)


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


_PLACE = (("resource", int), ("level", int), ("usage", Usage), ("stride", int), ("layer_stride", int), _BOX)
_DRAW = (
    ("start", int),
    ("count", int),
    ("mode", Primitive),
    ("indexed", bool),
    ("instances", int),
    ("index_bias", _signed),
    ("start_instance", int),
    ("restart", bool),
    ("restart_index", int),
    ("min_index", int),
    ("max_index", int),
    ("count_from", int),
)
_PATCH = (("vertices_per_patch", int), ("draw_id", int))
_INDIRECT = tuple(
    (name, int) for name in ("indirect", "offset", "stride", "draws", "draw_count_offset", "draw_count_from")
)


def _draw(payload: bytes) -> Fields:
    extra = {12: (), 14: _PATCH, 20: (*_PATCH, *_INDIRECT)}.get(len(payload) // 4)
    if extra is None:
        raise PeerError(f"a draw of {len(payload) // 4} words")
    return _fixed(f"{len(payload) // 4}I", *_DRAW, *extra)(payload)


def _blit(payload: bytes) -> Fields:
    read = _fixed("I4H18I", ("first", int), ("scissor", Scissor), ("destination", BlitSide), ("source", BlitSide))
    found = read(payload)
    first = found.pop("first")
    found["mask"], found["filter"] = ColorMask(first & 0xFF), named(TexFilter, first >> 8 & 3)
    found["scissor"] = found["scissor"] if first >> 10 & 1 else None
    return found | {"render_condition": bool(first >> 11 & 1), "alpha_blend": bool(first >> 12 & 1)}


# Commands that end in a list.


def _listed(heads: tuple[_One, ...], name: str, layout: str, make: Callable[..., Any]) -> Callable[[bytes], Fields]:
    def read(payload: bytes) -> Fields:
        size, width = 4 * len(heads), struct.calcsize("<" + layout)
        if len(payload) < size or (len(payload) - size) % width:
            raise PeerError(f"{len(payload) // 4} words are no whole number of {name}")
        found = _fixed(f"{len(heads)}I", *heads)(payload[:size])
        return found | {name: tuple(make(*some) for some in struct.iter_unpack("<" + layout, payload[size:]))}

    return read


def _viewport(*numbers: float) -> Viewport:
    sx, sy, sz, tx, ty, tz = numbers
    return Viewport((sx, sy, sz), (tx, ty, tz))


def _image(fmt: int, access: int, layers: int, level: int, resource: int) -> ShaderImage:
    return ShaderImage(named(VirglFormat, fmt), ImageAccess(access), layers, level, resource)


def _framebuffer(payload: bytes) -> Fields:
    found = _listed((("count", int), ("depth_stencil", int)), "colors", "I", int)(payload)
    if found.pop("count") != len(found["colors"]):
        raise PeerError(f"{len(found['colors'])} colour buffers, another number announced")
    return found


def _index_buffer(payload: bytes) -> Fields:
    if len(payload) == 4:
        return _fixed("I", ("resource", int))(payload)
    return _fixed("3I", ("resource", int), ("index_size", int), ("offset", int))(payload)


def _inline_write(payload: bytes) -> Fields:
    if len(payload) < 48:
        raise PeerError(f"an inline write of {len(payload) // 4} words")
    return _fixed("11I", *_PLACE)(payload[:44]) | {"data": payload[44:]}


def _debug_flags(payload: bytes) -> Fields:
    return {"flags": payload.rstrip(b"\0").decode("latin-1")}


def _marker(payload: bytes) -> Fields:
    length = int.from_bytes(payload[:4], "little")
    if len(payload) < 4 or length > len(payload) - 4:
        raise PeerError(f"a marker of {length} bytes in {len(payload) // 4} words")
    return {"text": payload[4 : 4 + length].decode(errors="replace")}


_NUMBER = _fixed("I", ("number", int))
_HANDLE = _fixed("I", ("handle", int))
_SHADER = ("shader", ShaderType)
_SLOTS = (_SHADER, ("start", int))
_START = (("start", int),)
_READERS: dict[int, Callable[[bytes], Fields]] = {
    Command.CREATE_SUB_CTX: _NUMBER,
    Command.DESTROY_SUB_CTX: _NUMBER,
    Command.SET_SUB_CTX: _NUMBER,
    Command.BIND_OBJECT: _HANDLE,
    Command.DESTROY_OBJECT: _HANDLE,
    Command.BIND_SHADER: _fixed("2I", ("handle", int), _SHADER),
    Command.LINK_SHADER: _listed((), "handles", "I", int),
    Command.SET_FRAMEBUFFER_STATE: _framebuffer,
    Command.SET_FRAMEBUFFER_STATE_NO_ATTACH: _fixed(
        "4H", ("width", int), ("height", int), ("layers", int), ("samples", int)
    ),
    Command.SET_VIEWPORT_STATE: _listed(_START, "viewports", "6f", _viewport),
    Command.SET_SCISSOR_STATE: _listed(_START, "scissors", "4H", Scissor),
    Command.SET_POLYGON_STIPPLE: _listed((), "rows", "I", int),
    Command.SET_CLIP_STATE: _listed((), "planes", "4f", lambda *plane: plane),
    Command.SET_SAMPLE_MASK: _fixed("I", ("mask", int)),
    Command.SET_MIN_SAMPLES: _fixed("I", ("samples", int)),
    Command.SET_STENCIL_REF: _fixed("BBxx", ("front", int), ("back", int)),
    Command.SET_BLEND_COLOR: _fixed("4f", ("color", tuple)),
    Command.SET_TESS_STATE: _fixed("6f", ("outer", tuple), ("inner0", float), ("inner1", float)),
    Command.SET_VERTEX_BUFFERS: _listed((), "buffers", "3I", VertexBuffer),
    Command.SET_INDEX_BUFFER: _index_buffer,
    Command.SET_CONSTANT_BUFFER: _listed((_SHADER, ("index", int)), "constants", "f", float),
    Command.SET_UNIFORM_BUFFER: _fixed(
        "5I", _SHADER, ("index", int), ("offset", int), ("length", int), ("resource", int)
    ),
    Command.SET_SAMPLER_VIEWS: _listed(_SLOTS, "handles", "I", int),
    Command.BIND_SAMPLER_STATES: _listed(_SLOTS, "handles", "I", int),
    Command.SET_SHADER_BUFFERS: _listed(_SLOTS, "buffers", "3I", BufferRange),
    Command.SET_SHADER_IMAGES: _listed(_SLOTS, "images", "5I", _image),
    Command.SET_ATOMIC_BUFFERS: _listed(_START, "buffers", "3I", BufferRange),
    Command.SET_STREAMOUT_TARGETS: _listed((("append", int),), "handles", "I", int),
    Command.CLEAR: _fixed("I4fdI", ("buffers", ClearBuffer), ("color", tuple), ("depth", float), ("stencil", int)),
    Command.CLEAR_TEXTURE: _fixed("8I16s", ("resource", int), ("level", int), _BOX, ("texel", bytes)),
    Command.DRAW_VBO: _draw,
    Command.LAUNCH_GRID: _listed((), "words", "I", int),
    Command.MEMORY_BARRIER: _fixed("I", ("flags", Barrier)),
    Command.TEXTURE_BARRIER: _fixed("I", ("flags", TextureBarrier)),
    Command.RESOURCE_INLINE_WRITE: _inline_write,
    Command.RESOURCE_COPY_REGION: _fixed(
        "13I",
        ("destination", int),
        ("destination_level", int),
        ("x", int),
        ("y", int),
        ("z", int),
        ("source", int),
        ("source_level", int),
        _BOX,
    ),
    Command.BLIT: _blit,
    Command.TRANSFER3D: _fixed("13I", *_PLACE, ("offset", int), ("direction", TransferDirection)),
    Command.END_TRANSFERS: _unread,
    Command.COPY_TRANSFER3D: _fixed("14I", *_PLACE, ("staging", int), ("offset", int), ("flags", CopyTransferFlag)),
    Command.BEGIN_QUERY: _HANDLE,
    Command.END_QUERY: _HANDLE,
    Command.GET_QUERY_RESULT: _fixed("2I", ("handle", int), ("wait", bool)),
    Command.GET_QUERY_RESULT_QBO: _fixed(
        "6I",
        ("handle", int),
        ("resource", int),
        ("wait", bool),
        ("result", ResultType),
        ("offset", int),
        ("index", int),
    ),
    Command.SET_RENDER_CONDITION: _fixed("3I", ("handle", int), ("condition", bool), ("mode", RenderCondition)),
    Command.SET_TWEAKS: _fixed("2I", ("tweak", Tweak), ("value", int)),
    Command.SET_DEBUG_FLAGS: _debug_flags,
    Command.SEND_STRING_MARKER: _marker,
}


def show(value: Any) -> str:
    """A field's value for people: names of enumerations, and of a state only what is not its default."""
    if isinstance(value, IntFlag):
        return "|".join(member.name or "" for member in value) + _unnamed(value) or "0"
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bytes):
        more = "..." if len(value) > SHOWN_ITEMS else ""
        return f"{len(value)} bytes {value[:SHOWN_ITEMS].hex(' ', 4)}{more}"
    if isinstance(value, tuple):
        rest = [f"... {len(value)} in all"] if len(value) > SHOWN_ITEMS else []
        return "(" + ", ".join([*map(show, value[:SHOWN_ITEMS]), *rest]) + ")"
    if is_dataclass(value):
        return _show_dataclass(value)
    return repr(value) if isinstance(value, str) else str(value)


def _unnamed(value: IntFlag) -> str:
    rest = int(value) & ~sum(value)
    return f"+{rest:#x}" if rest else ""


def _show_dataclass(value: Any) -> str:
    if isinstance(value, Box):
        return f"{value.x},{value.y},{value.z}+{value.width}x{value.height}x{value.depth}"
    if isinstance(value, Rect):
        return f"{value.x},{value.y}+{value.width}x{value.height}"
    parts = []
    for one in fields(value):
        content = getattr(value, one.name)
        if one.default is MISSING or content != one.default:
            parts.append(f"{one.name}={show(content)}")
    return f"{type(value).__name__}({', '.join(parts)})"
