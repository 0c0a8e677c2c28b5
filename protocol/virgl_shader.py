"""VirGL shader objects: TGSI text in chunks (VIRGL_OBJECT_SHADER; virglrenderer's vrend_create_shader).

The offset word decides whether a shader is ever compiled. In the first command it holds the length of the whole text
with its NUL, bit 31 clear; the renderer compiles when that much has come. In each further one it holds where the chunk
begins, and bit 31, which says that it continues a shader. With bit 31 in the first command, or a length that never
comes, nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from protocol.errors import PeerError
from protocol.virgl_const import (
    MAX_COMMAND_WORDS,
    MAX_STREAM_BUFFERS,
    MAX_STREAM_OUTPUTS,
    ShaderType,
)
from protocol.virgl_state import named, pack, unpack

CONTINUES = 1 << 31
"""VIRGL_OBJ_SHADER_OFFSET_CONT: bit of the offset word."""
HEADER_WORDS = 5
"""Handle, type, offset, number of tokens, number of stream outputs."""
_STREAM_WORDS = MAX_STREAM_BUFFERS + 2 * MAX_STREAM_OUTPUTS
MAX_CHUNK = (MAX_COMMAND_WORDS - HEADER_WORDS - _STREAM_WORDS) * 4
"""Bytes of text that always fit one command."""
STAGES = {
    ShaderType.VERTEX: "VERT",
    ShaderType.FRAGMENT: "FRAG",
    ShaderType.GEOMETRY: "GEOM",
    ShaderType.TESS_CTRL: "TESS_CTRL",
    ShaderType.TESS_EVAL: "TESS_EVAL",
    ShaderType.COMPUTE: "COMP",
}
"""The first word of a stage's TGSI text."""


@dataclass(frozen=True, slots=True)
class StreamOutputSlot:
    """One output that transform feedback records."""

    register: int
    """Of the shader's outputs."""
    start_component: int
    """0 to 3."""
    components: int
    """1 to 4."""
    buffer: int
    """Which target, 0 to 3."""
    offset: int
    """In the vertex' record, in words."""
    stream: int = 0
    """0 to 3."""

    def payload(self) -> bytes:
        """2 words."""
        widths = ((self.register, 8), (self.start_component, 2), (self.components, 3), (self.buffer, 3))
        word, shift = 0, 0
        for value, width in (*widths, (self.offset, 16)):
            if not 0 <= value < 1 << width:
                raise ValueError(f"{self} does not fit")
            word |= value << shift
            shift += width
        return pack("2I", word, self.stream)

    @classmethod
    def of_words(cls, word: int, stream: int) -> Self:
        """The inverse of payload."""
        return cls(word & 0xFF, word >> 8 & 3, word >> 10 & 7, word >> 13 & 7, word >> 16, stream & 3)


@dataclass(frozen=True, slots=True)
class StreamOutput:
    """What transform feedback records of a shader."""

    strides: tuple[int, int, int, int]
    """Words of a vertex' record, for each target."""
    slots: tuple[StreamOutputSlot, ...]
    """1 to 64."""

    def payload(self) -> bytes:
        """4 words and 2 for each slot."""
        if not 0 < len(self.slots) <= MAX_STREAM_OUTPUTS:
            raise ValueError(f"{len(self.slots)} stream outputs")
        return pack("4I", *self.strides) + b"".join(slot.payload() for slot in self.slots)


@dataclass(frozen=True, slots=True)
class ShaderChunk:
    """What one CREATE_OBJECT of a shader holds, read back."""

    shader: ShaderType
    offset: int
    """Of the first chunk: the length of all text in bytes with its NUL. Of others: where it begins."""
    continues: bool
    tokens: int
    """How many tokens the text may become."""
    local_memory: int
    """COMPUTE alone."""
    stream_output: StreamOutput | None
    text: bytes
    """NUL and padding cut off."""

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """From the words after the handle. PeerError when they are too few."""
        if len(payload) < 16:
            raise PeerError(f"shader of {len(payload) // 4} words")
        kind, offset, tokens, extra = unpack("4I", payload[:16], "shader")
        compute = kind == ShaderType.COMPUTE
        slots = 0 if compute else extra
        if slots > MAX_STREAM_OUTPUTS:
            raise PeerError(f"{slots} stream outputs")
        start = 16 + (16 + 8 * slots if slots else 0)
        if start > len(payload):
            raise PeerError(f"{slots} stream outputs in {len(payload) // 4} words")
        output = _stream_output(payload[16:start]) if slots else None
        text = payload[start:].rstrip(b"\0")
        place = (offset & ~CONTINUES, bool(offset & CONTINUES))
        return cls(named(ShaderType, kind), *place, tokens, extra if compute else 0, output, text)


def _stream_output(payload: bytes) -> StreamOutput:
    s0, s1, s2, s3, *words = unpack(f"{len(payload) // 4}I", payload, "stream outputs")
    slots = map(StreamOutputSlot.of_words, words[::2], words[1::2])
    return StreamOutput((s0, s1, s2, s3), tuple(slots))


def shader_chunks(
    handle: int, shader: ShaderType, text: str, stream_output: StreamOutput | None, local_memory: int, chunk: int
) -> Iterator[bytes]:
    """The payloads of the commands that make a shader (`protocol.virgl.CommandStream.create_shader`)."""
    if chunk <= 0 or chunk % 4 or chunk > MAX_CHUNK:
        raise ValueError(f"chunks of {chunk} bytes")
    data = _checked_text(ShaderType(shader), text)
    extra, outputs = _extra(shader, stream_output, local_memory)
    # A TGSI token takes more than one character of text; the renderer sizes its own array by this.
    tokens = len(data)
    for start in range(0, len(data), chunk):
        piece = data[start : start + chunk]
        head = pack("4I", handle, shader, start | CONTINUES if start else len(data), tokens)
        if start and shader != ShaderType.COMPUTE:
            extra, outputs = 0, b""
        yield head + pack("I", extra) + outputs + piece + bytes(-len(piece) % 4)


def _checked_text(shader: ShaderType, text: str) -> bytes:
    if text.split(maxsplit=1)[:1] != [STAGES[shader]]:
        raise ValueError(f"text of a {shader.name} shader begins with {STAGES[shader]}, not {text[:12]!r}")
    if "\0" in text:
        raise ValueError("NUL in a shader's text")
    return text.encode("ascii") + b"\0"


def _extra(shader: ShaderType, stream_output: StreamOutput | None, local_memory: int) -> tuple[int, bytes]:
    if shader == ShaderType.COMPUTE:
        if stream_output:
            raise ValueError("a compute shader has no stream outputs")
        return local_memory, b""
    if local_memory:
        raise ValueError("local memory is for compute shaders")
    return (len(stream_output.slots), stream_output.payload()) if stream_output else (0, b"")
