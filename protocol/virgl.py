"""VirGL's command stream: what SUBMIT_3D carries, written (virglrenderer's virgl_protocol.h and vrend_decode.c).

A `CommandStream` appends commands to one buffer. Each is a header word (command, kind of object, words that follow)
and its words, little endian. Handles are the guest's own numbers for objects, one space for all kinds in a sub-context,
never 0; resources go by their virtio-gpu number. Misuse that is seen here is a ValueError; the rest the renderer
answers with a context in error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from protocol.virgl_const import (
    MAX_ATTRIBUTES,
    MAX_CLIP_PLANES,
    MAX_COLOR_BUFFERS,
    MAX_COMMAND_WORDS,
    MAX_CONSTANT_BUFFERS,
    MAX_SAMPLERS,
    MAX_SHADER_RESOURCES,
    MAX_STREAM_BUFFERS,
    MAX_VIEWPORTS,
    Barrier,
    ClearBuffer,
    ColorMask,
    Command,
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
)
from protocol.virgl_format import VirglFormat
from protocol.virgl_shader import MAX_CHUNK, StreamOutput, shader_chunks
from protocol.virgl_state import Color, State, pack
from protocol.virtio_gpu_3d import Box

Data = bytes | bytearray | memoryview

INLINE_WORDS = 11
"""Words of RESOURCE_INLINE_WRITE before its data."""
MAX_INLINE = (MAX_COMMAND_WORDS - INLINE_WORDS) * 4
"""Bytes that one RESOURCE_INLINE_WRITE can carry."""
BINDABLE = (ObjectType.BLEND, ObjectType.DSA, ObjectType.RASTERIZER, ObjectType.VERTEX_ELEMENTS)
"""Kinds for BIND_OBJECT; the others have commands of their own."""


@dataclass(frozen=True, slots=True)
class Viewport:
    """From clip coordinates to pixels: pixel = coordinate * scale + translate, for x, y and depth."""

    scale: tuple[float, float, float]
    translate: tuple[float, float, float]

    @classmethod
    def of_size(cls, width: float, height: float, y_up: bool = False) -> Viewport:
        """A whole surface, depth 0 to 1. Clip coordinate y = 1 is row 0, or with y_up the last row, as in OpenGL."""
        x, y = width / 2, height / 2
        return cls((x, y if y_up else -y, 0.5), (x, y, 0.5))


@dataclass(frozen=True, slots=True)
class Scissor:
    """Pixels that may be drawn: from (min_x, min_y) up to, but not with, (max_x, max_y). 16 bits each."""

    min_x: int
    min_y: int
    max_x: int
    max_y: int


@dataclass(frozen=True, slots=True)
class VertexBuffer:
    """One of SET_VERTEX_BUFFERS."""

    stride: int
    """Bytes from one vertex to the next."""
    offset: int
    """Where the first one lies, in bytes."""
    resource: int
    """The buffer; 0: none in this slot."""


@dataclass(frozen=True, slots=True)
class BufferRange:
    """A part of a buffer for SET_SHADER_BUFFERS or SET_ATOMIC_BUFFERS, in bytes."""

    offset: int
    length: int
    resource: int


@dataclass(frozen=True, slots=True)
class ShaderImage:
    """One of SET_SHADER_IMAGES."""

    format: VirglFormat
    access: ImageAccess
    layers: int
    """First layer, and the last one 16 bits higher; a buffer's offset."""
    level: int
    """The level; a buffer's size."""
    resource: int


@dataclass(frozen=True, slots=True)
class BlitSide:
    """Source or destination of a blit."""

    resource: int
    format: VirglFormat
    box: Box
    """A negative width or height turns the picture over."""
    level: int = 0


class CommandStream:
    """A stream in the making. Not for use from two threads at once."""

    __slots__ = ("data",)

    data: bytearray
    """The commands so far, a multiple of 4 bytes: `Submit3d(stream.data)`."""

    def __init__(self) -> None:
        self.data = bytearray()

    def __len__(self) -> int:
        """Bytes so far."""
        return len(self.data)

    def clear_stream(self) -> None:
        """Starts over."""
        self.data.clear()

    def extend(self, other: Self) -> None:
        """Appends the commands of another stream: one that was kept, to be sent often."""
        self.data += other.data

    def raw(self, command: int, payload: Data = b"", kind: int = 0) -> None:
        """Any command. payload: whole words, at most 65535 of them; kind: of object, in the header.

        ValueError for other sizes, and where command or kind has more than 8 bits.
        """
        words, odd = divmod(len(payload), 4)
        if odd or words > MAX_COMMAND_WORDS:
            raise ValueError(f"{len(payload)} bytes do not fit a command")
        self.data += pack("BBH", command, kind, words)
        self.data += payload

    def _emit(self, command: Command, layout: str, *values: float | bytes, kind: int = 0) -> None:
        self.raw(command, pack(layout, *values), kind)

    # Sub-contexts: each has its own state and handles. A context begins in sub-context 0.

    def create_sub_context(self, number: int) -> None:
        """CREATE_SUB_CTX; it is not made current."""
        self._emit(Command.CREATE_SUB_CTX, "I", number)

    def destroy_sub_context(self, number: int) -> None:
        """DESTROY_SUB_CTX, with all its objects."""
        self._emit(Command.DESTROY_SUB_CTX, "I", number)

    def set_sub_context(self, number: int) -> None:
        """SET_SUB_CTX: the commands that follow are for this one."""
        self._emit(Command.SET_SUB_CTX, "I", number)

    # Objects.

    def create_object(self, handle: int, state: State) -> None:
        """CREATE_OBJECT of a `protocol.virgl_state` object. Shaders have `create_shader`."""
        self.raw(Command.CREATE_OBJECT, pack("I", _handle(handle)) + state.payload(), state.OBJECT)

    def create_shader(
        self,
        handle: int,
        shader: ShaderType,
        text: str,
        *,
        stream_output: StreamOutput | None = None,
        local_memory: int = 0,
        chunk: int = MAX_CHUNK,
    ) -> None:
        """CREATE_OBJECT of a shader, in as many commands as its text needs.

        Args:
            text: TGSI as text, beginning with the word for its stage (VERT, FRAG ...).
            stream_output: what transform feedback records of it.
            local_memory: bytes shared by a work group; COMPUTE alone.
            chunk: bytes of text in one command, a multiple of 4.

        Raises:
            ValueError: another stage's text, one that is not ASCII or holds a NUL, a bad chunk size.
        """
        chunks = shader_chunks(_handle(handle), shader, text, stream_output, local_memory, chunk)
        for payload in chunks:
            self.raw(Command.CREATE_OBJECT, payload, ObjectType.SHADER)

    def bind_object(self, kind: ObjectType, handle: int) -> None:
        """BIND_OBJECT of one of BINDABLE; handle 0 binds none."""
        if kind not in BINDABLE:
            raise ValueError(f"{kind!r} is not bound with BIND_OBJECT")
        self._emit(Command.BIND_OBJECT, "I", handle, kind=kind)

    def destroy_object(self, kind: ObjectType, handle: int) -> None:
        """DESTROY_OBJECT."""
        self._emit(Command.DESTROY_OBJECT, "I", _handle(handle), kind=kind)

    def bind_shader(self, shader: ShaderType, handle: int) -> None:
        """BIND_SHADER; handle 0: no shader in this stage."""
        self._emit(Command.BIND_SHADER, "2I", handle, ShaderType(shader))

    def link_shaders(self, handles: Sequence[int]) -> None:
        """LINK_SHADER: the six stages' handles in the order of ShaderType, 0 for none."""
        if len(handles) != len(ShaderType):
            raise ValueError(f"{len(handles)} handles for {len(ShaderType)} stages")
        self._emit(Command.LINK_SHADER, "6I", *handles)

    # What is drawn on, and where.

    def set_framebuffer(self, colors: Sequence[int], depth_stencil: int = 0) -> None:
        """SET_FRAMEBUFFER_STATE: handles of surfaces, at most 8 colours (0: none in this place)."""
        _at_most(MAX_COLOR_BUFFERS, colors, "colour buffers")
        self._emit(Command.SET_FRAMEBUFFER_STATE, f"{len(colors) + 2}I", len(colors), depth_stencil, *colors)

    def set_framebuffer_no_attach(self, width: int, height: int, layers: int = 0, samples: int = 0) -> None:
        """SET_FRAMEBUFFER_STATE_NO_ATTACH: the size of a framebuffer without surfaces."""
        self._emit(Command.SET_FRAMEBUFFER_STATE_NO_ATTACH, "4H", width, height, layers, samples)

    def set_viewports(self, viewports: Sequence[Viewport], start: int = 0) -> None:
        """SET_VIEWPORT_STATE: of the slots from start on, 16 in all."""
        _slots(MAX_VIEWPORTS, start, viewports, "viewports")
        numbers = [number for viewport in viewports for number in (*viewport.scale, *viewport.translate)]
        self._emit(Command.SET_VIEWPORT_STATE, f"I{len(numbers)}f", start, *numbers)

    def set_scissors(self, scissors: Sequence[Scissor], start: int = 0) -> None:
        """SET_SCISSOR_STATE: of the slots from start on. The rasterizer state turns it on."""
        _slots(MAX_VIEWPORTS, start, scissors, "scissors")
        edges = [edge for s in scissors for edge in (s.min_x, s.min_y, s.max_x, s.max_y)]
        self._emit(Command.SET_SCISSOR_STATE, f"I{len(edges)}H", start, *edges)

    def set_polygon_stipple(self, rows: Sequence[int]) -> None:
        """SET_POLYGON_STIPPLE: 32 rows of 32 bits."""
        if len(rows) != 32:
            raise ValueError(f"{len(rows)} rows of a stipple")
        self._emit(Command.SET_POLYGON_STIPPLE, "32I", *rows)

    def set_clip_planes(self, planes: Sequence[Color]) -> None:
        """SET_CLIP_STATE: at most 8 planes of four coefficients; the rasterizer state turns them on."""
        _at_most(MAX_CLIP_PLANES, planes, "clip planes")
        numbers = [number for plane in planes for number in plane]
        numbers += [0.0] * (MAX_CLIP_PLANES * 4 - len(numbers))
        self._emit(Command.SET_CLIP_STATE, "32f", *numbers)

    def set_sample_mask(self, mask: int) -> None:
        """SET_SAMPLE_MASK: the samples of a pixel that are written."""
        self._emit(Command.SET_SAMPLE_MASK, "I", mask)

    def set_min_samples(self, samples: int) -> None:
        """SET_MIN_SAMPLES: how often a pixel is shaded at least."""
        self._emit(Command.SET_MIN_SAMPLES, "I", samples)

    def set_stencil_ref(self, front: int, back: int) -> None:
        """SET_STENCIL_REF: 0 to 255 each."""
        self._emit(Command.SET_STENCIL_REF, "BBxx", front, back)

    def set_blend_color(self, color: Color) -> None:
        """SET_BLEND_COLOR: of BlendFactor.CONST_COLOR and its kin."""
        self._emit(Command.SET_BLEND_COLOR, "4f", *color)

    def set_tess_levels(self, outer: Sequence[float], inner: Sequence[float]) -> None:
        """SET_TESS_STATE: 4 outer and 2 inner levels for want of a tessellation control shader."""
        self._emit(Command.SET_TESS_STATE, "6f", *outer, *inner)

    # What shaders read.

    def set_vertex_buffers(self, buffers: Sequence[VertexBuffer]) -> None:
        """SET_VERTEX_BUFFERS: all slots from 0 on; there is no start slot, and the others become empty."""
        _at_most(MAX_ATTRIBUTES, buffers, "vertex buffers")
        words = [word for buffer in buffers for word in (buffer.stride, buffer.offset, buffer.resource)]
        self._emit(Command.SET_VERTEX_BUFFERS, f"{len(words)}I", *words)

    def set_index_buffer(self, resource: int, index_size: int = 2, offset: int = 0) -> None:
        """SET_INDEX_BUFFER: indices of 1, 2 or 4 bytes from offset (bytes) on. resource 0: none."""
        if index_size not in (1, 2, 4):
            raise ValueError(f"indices of {index_size} bytes")
        if resource:
            self._emit(Command.SET_INDEX_BUFFER, "3I", resource, index_size, offset)
        else:
            self._emit(Command.SET_INDEX_BUFFER, "I", 0)

    def set_constants(self, shader: ShaderType, data: Data, index: int = 0) -> None:
        """SET_CONSTANT_BUFFER: constants by value, whole words; CONST[0] is the first four."""
        self.raw(Command.SET_CONSTANT_BUFFER, pack("2I", ShaderType(shader), index) + data)

    def set_uniform_buffer(self, shader: ShaderType, index: int, resource: int, offset: int, length: int) -> None:
        """SET_UNIFORM_BUFFER: constants from a part of a buffer, in bytes; resource 0: none."""
        if not 0 <= index < MAX_CONSTANT_BUFFERS:
            raise ValueError(f"constant buffer {index}")
        self._emit(Command.SET_UNIFORM_BUFFER, "5I", ShaderType(shader), index, offset, length, resource)

    def set_sampler_views(self, shader: ShaderType, handles: Sequence[int], start: int = 0) -> None:
        """SET_SAMPLER_VIEWS: of the slots from start on; those after the last become empty."""
        _slots(MAX_SAMPLERS, start, handles, "sampler views")
        self._emit(Command.SET_SAMPLER_VIEWS, f"{len(handles) + 2}I", ShaderType(shader), start, *handles)

    def bind_sampler_states(self, shader: ShaderType, handles: Sequence[int], start: int = 0) -> None:
        """BIND_SAMPLER_STATES: of the slots from start on."""
        _slots(MAX_SAMPLERS, start, handles, "sampler states")
        self._emit(Command.BIND_SAMPLER_STATES, f"{len(handles) + 2}I", ShaderType(shader), start, *handles)

    def set_shader_buffers(self, shader: ShaderType, buffers: Sequence[BufferRange], start: int = 0) -> None:
        """SET_SHADER_BUFFERS: of the slots from start on."""
        _slots(MAX_SHADER_RESOURCES, start, buffers, "shader buffers")
        words = [word for b in buffers for word in (b.offset, b.length, b.resource)]
        self._emit(Command.SET_SHADER_BUFFERS, f"{len(words) + 2}I", ShaderType(shader), start, *words)

    def set_shader_images(self, shader: ShaderType, images: Sequence[ShaderImage], start: int = 0) -> None:
        """SET_SHADER_IMAGES: of the slots from start on."""
        _slots(MAX_SHADER_RESOURCES, start, images, "shader images")
        words = [word for i in images for word in (i.format, i.access, i.layers, i.level, i.resource)]
        self._emit(Command.SET_SHADER_IMAGES, f"{len(words) + 2}I", ShaderType(shader), start, *words)

    def set_atomic_buffers(self, buffers: Sequence[BufferRange], start: int = 0) -> None:
        """SET_ATOMIC_BUFFERS: of the slots from start on."""
        _slots(MAX_SHADER_RESOURCES, start, buffers, "atomic buffers")
        words = [word for b in buffers for word in (b.offset, b.length, b.resource)]
        self._emit(Command.SET_ATOMIC_BUFFERS, f"{len(words) + 1}I", start, *words)

    def set_streamout_targets(self, handles: Sequence[int], append: int = 0) -> None:
        """SET_STREAMOUT_TARGETS. append: bits of targets that go on where they ended."""
        _at_most(MAX_STREAM_BUFFERS, handles, "stream output targets")
        self._emit(Command.SET_STREAMOUT_TARGETS, f"{len(handles) + 1}I", append, *handles)

    # Drawing.

    def clear(
        self, buffers: ClearBuffer, color: Color = (0.0, 0.0, 0.0, 1.0), depth: float = 1.0, stencil: int = 0
    ) -> None:
        """CLEAR: whole buffers of the framebuffer; scissors don't matter."""
        self._emit(Command.CLEAR, "I4fdI", buffers, *color, depth, stencil)

    def clear_texture(self, resource: int, box: Box, texel: Data, level: int = 0) -> None:
        """CLEAR_TEXTURE: texel is one texel in the texture's format, at most 16 bytes."""
        if len(texel) > 16:
            raise ValueError(f"a texel of {len(texel)} bytes")
        self._emit(Command.CLEAR_TEXTURE, "8I16s", resource, level, *_corners(box), bytes(texel))

    def draw(
        self,
        mode: Primitive,
        count: int,
        start: int = 0,
        *,
        indexed: bool = False,
        instances: int = 1,
        start_instance: int = 0,
        index_bias: int = 0,
        restart_index: int | None = None,
        min_index: int = 0,
        max_index: int = 0xFFFFFFFF,
        count_from: int = 0,
        vertices_per_patch: int | None = None,
    ) -> None:
        """DRAW_VBO: count vertices, or with indexed as many indices, from start on.

        Args:
            restart_index: an index that ends a strip or fan; None: there is none.
            min_index, max_index: what indices can be, as a hint.
            count_from: handle of a stream output target that says how many.
            vertices_per_patch: with PATCHES.
        """
        restart = (restart_index is not None, restart_index or 0)
        words = (start, count, Primitive(mode), indexed, instances, index_bias & 0xFFFFFFFF, start_instance, *restart)
        patch = () if vertices_per_patch is None else (vertices_per_patch, 0)
        self._emit(Command.DRAW_VBO, f"{12 + len(patch)}I", *words, min_index, max_index, count_from, *patch)

    def launch_grid(self, block: tuple[int, int, int], grid: tuple[int, int, int]) -> None:
        """LAUNCH_GRID: the compute shader, in grid work groups of block invocations."""
        self._emit(Command.LAUNCH_GRID, "8I", *block, *grid, 0, 0)

    def memory_barrier(self, flags: Barrier = Barrier.ALL) -> None:
        """MEMORY_BARRIER."""
        self._emit(Command.MEMORY_BARRIER, "I", flags)

    def texture_barrier(self, flags: TextureBarrier = TextureBarrier.SAMPLER) -> None:
        """TEXTURE_BARRIER."""
        self._emit(Command.TEXTURE_BARRIER, "I", flags)

    # Copies.

    def inline_write(
        self, resource: int, box: Box, data: Data, *, level: int = 0, stride: int = 0, layer_stride: int = 0
    ) -> None:
        """RESOURCE_INLINE_WRITE: texels by value. Padded to whole words; at most MAX_INLINE bytes.

        stride and layer_stride: bytes from row to row and from layer to layer in data; 0: as in the whole level, which
        is wrong for a narrower box (vrend_renderer_transfer_write_iov).
        """
        if not data:
            raise ValueError("nothing to write")
        padding = -len(data) % 4
        if len(data) + padding > MAX_INLINE:
            raise ValueError(f"{len(data)} bytes do not fit one inline write")
        body = pack("11I", resource, level, 0, stride, layer_stride, *_corners(box))
        self.raw(Command.RESOURCE_INLINE_WRITE, body + bytes(data) + bytes(padding))

    def write_buffer(self, resource: int, offset: int, data: Data) -> None:
        """Bytes into a buffer from offset on, in as many RESOURCE_INLINE_WRITE as it takes."""
        for start in range(0, len(data), MAX_INLINE):
            piece = data[start : start + MAX_INLINE]
            self.inline_write(resource, Box(offset + start, 0, 0, len(piece)), piece)

    def copy_region(
        self,
        destination: int,
        x: int,
        y: int,
        z: int,
        source: int,
        box: Box,
        *,
        destination_level: int = 0,
        source_level: int = 0,
    ) -> None:
        """RESOURCE_COPY_REGION: box of the source, as it is, to (x, y, z) of the destination."""
        to = (destination, destination_level, x, y, z)
        self._emit(Command.RESOURCE_COPY_REGION, "13I", *to, source, source_level, *_corners(box))

    def blit(
        self,
        destination: BlitSide,
        source: BlitSide,
        *,
        mask: ColorMask = ColorMask.RGBA,
        filter: TexFilter = TexFilter.NEAREST,
        scissor: Scissor | None = None,
        render_condition: bool = False,
        alpha_blend: bool = False,
    ) -> None:
        """BLIT: a picture stretched and converted."""
        first = mask | TexFilter(filter) << 8 | (scissor is not None) << 10
        first |= bool(render_condition) << 11 | bool(alpha_blend) << 12
        s = scissor or Scissor(0, 0, 0, 0)
        sides = [
            word
            for side in (destination, source)
            for word in (side.resource, side.level, side.format, *(edge & 0xFFFFFFFF for edge in _corners(side.box)))
        ]
        self._emit(Command.BLIT, "I4H18I", first, s.min_x, s.min_y, s.max_x, s.max_y, *sides)

    def transfer(
        self,
        resource: int,
        box: Box,
        offset: int,
        direction: TransferDirection,
        *,
        level: int = 0,
        stride: int = 0,
        layer_stride: int = 0,
        usage: int = 0,
    ) -> None:
        """TRANSFER3D: between the resource and its backing, from offset (bytes) of it on. usage: `Usage` bits."""
        place = (resource, level, usage, stride, layer_stride, *_corners(box))
        self._emit(Command.TRANSFER3D, "13I", *place, offset, TransferDirection(direction))

    def end_transfers(self) -> None:
        """END_TRANSFERS: the transfers at a stream's front end here."""
        self.raw(Command.END_TRANSFERS)

    def copy_transfer(
        self,
        resource: int,
        box: Box,
        staging: int,
        offset: int,
        flags: int = 0,
        *,
        level: int = 0,
        stride: int = 0,
        layer_stride: int = 0,
        usage: int = 0,
    ) -> None:
        """COPY_TRANSFER3D: between the resource and the backing of another one, made with `Bind.STAGING`.

        flags: `CopyTransferFlag` bits; the rest as in `transfer`.
        """
        place = (resource, level, usage, stride, layer_stride, *_corners(box))
        self._emit(Command.COPY_TRANSFER3D, "14I", *place, staging, offset, flags)

    # Queries.

    def begin_query(self, handle: int) -> None:
        """BEGIN_QUERY."""
        self._emit(Command.BEGIN_QUERY, "I", handle)

    def end_query(self, handle: int) -> None:
        """END_QUERY; alone for a TIMESTAMP."""
        self._emit(Command.END_QUERY, "I", handle)

    def get_query_result(self, handle: int, wait: bool = True) -> None:
        """GET_QUERY_RESULT: into the query's buffer, now or when it is there."""
        self._emit(Command.GET_QUERY_RESULT, "2I", handle, wait)

    def get_query_result_buffer(
        self, handle: int, resource: int, offset: int, result: ResultType = ResultType.U64, wait: bool = True
    ) -> None:
        """GET_QUERY_RESULT_QBO: into any buffer, for commands that read it there."""
        self._emit(Command.GET_QUERY_RESULT_QBO, "6I", handle, resource, wait, result, offset, 0)

    def set_render_condition(
        self, handle: int, condition: bool = False, mode: RenderCondition = RenderCondition.WAIT
    ) -> None:
        """SET_RENDER_CONDITION: draw only where the query's result is not condition; handle 0: always."""
        self._emit(Command.SET_RENDER_CONDITION, "3I", handle, condition, mode)

    # For people who debug, and settings.

    def set_tweak(self, tweak: Tweak, value: int) -> None:
        """SET_TWEAKS."""
        self._emit(Command.SET_TWEAKS, "2I", tweak, value)

    def set_debug_flags(self, flags: str) -> None:
        """SET_DEBUG_FLAGS: what the renderer logs of this context, such as "all" or "shader,cmd"."""
        text = flags.encode("ascii").ljust(8, b"\0")
        self.raw(Command.SET_DEBUG_FLAGS, text + bytes(-len(text) % 4))

    def string_marker(self, text: str) -> None:
        """SEND_STRING_MARKER: a note in the stream."""
        data = text.encode()
        self.raw(Command.SEND_STRING_MARKER, pack("I", len(data)) + data + bytes(-len(data) % 4 or (not data) * 4))


def _handle(handle: int) -> int:
    if not handle:
        raise ValueError("an object's handle is not 0")
    return handle


def _at_most(limit: int, items: Sequence[object], what: str) -> None:
    if len(items) > limit:
        raise ValueError(f"{len(items)} {what}, {limit} at most")


def _slots(limit: int, start: int, items: Sequence[object], what: str) -> None:
    if start < 0 or start + len(items) > limit:
        raise ValueError(f"{len(items)} {what} from slot {start} on, {limit} in all")


def _corners(box: Box) -> tuple[int, int, int, int, int, int]:
    return box.x, box.y, box.z, box.width, box.height, box.depth
