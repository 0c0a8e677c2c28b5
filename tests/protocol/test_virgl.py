"""The encoder: the words of each command (virgl_protocol.h, vrend_decode.c), misuse, and the mistakes it rules out."""

import struct
from collections.abc import Callable
from typing import Any

import pytest

from protocol import virgl_const as vc
from protocol.virgl import (
    MAX_INLINE,
    BlitSide,
    BufferRange,
    CommandStream,
    Scissor,
    ShaderImage,
    VertexBuffer,
    Viewport,
)
from protocol.virgl_const import Command, ObjectType, ShaderType
from protocol.virgl_format import VirglFormat
from protocol.virgl_state import Rasterizer, Surface
from protocol.virtio_gpu_3d import Box, Submit3d

BGRA = VirglFormat.B8G8R8A8_UNORM
FRAGMENT = "FRAG\nDCL OUT[0], COLOR\nIMM[0] FLT32 { 1.0, 0.0, 0.0, 1.0 }\n  0: MOV OUT[0], IMM[0]\n  1: END\n"
BOX = Box(1, 2, 3, 4, 5, 6)
BLIT_SOURCE = [8, 0, 64, 0, 4, 0, 4, 0xFFFFFFFC, 1]


def stream_of(call: Callable[[CommandStream], Any]) -> bytes:
    stream = CommandStream()
    call(stream)
    return bytes(stream.data)


def words(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 4}I", data))


def f32(*numbers: float) -> list[int]:
    return words(struct.pack(f"<{len(numbers)}f", *numbers))


# A call, the command and kind in the header, and the words after it.
COMMANDS: list[tuple[Callable[[CommandStream], None], int, int, list[int]]] = [
    (lambda s: s.create_sub_context(3), 29, 0, [3]),
    (lambda s: s.destroy_sub_context(3), 30, 0, [3]),
    (lambda s: s.set_sub_context(3), 28, 0, [3]),
    (lambda s: s.create_object(9, Surface(7, BGRA)), 1, 8, [9, 7, 1, 0, 0]),
    (lambda s: s.bind_object(ObjectType.RASTERIZER, 9), 2, 2, [9]),
    (lambda s: s.bind_object(ObjectType.BLEND, 0), 2, 1, [0]),
    (lambda s: s.destroy_object(ObjectType.SURFACE, 9), 3, 8, [9]),
    (lambda s: s.bind_shader(ShaderType.FRAGMENT, 9), 31, 0, [9, 1]),
    (lambda s: s.link_shaders([1, 2, 0, 0, 0, 0]), 52, 0, [1, 2, 0, 0, 0, 0]),
    (lambda s: s.set_framebuffer([5, 6], 7), 5, 0, [2, 7, 5, 6]),
    (lambda s: s.set_framebuffer_no_attach(640, 480, 1, 4), 38, 0, [640 | 480 << 16, 1 | 4 << 16]),
    (
        lambda s: s.set_viewports([Viewport((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))], 2),
        4,
        0,
        [2, *f32(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)],
    ),
    (lambda s: s.set_scissors([Scissor(1, 2, 3, 4)], 5), 15, 0, [5, 1 | 2 << 16, 3 | 4 << 16]),
    (lambda s: s.set_polygon_stipple(range(32)), 22, 0, list(range(32))),
    (lambda s: s.set_clip_planes([(1.0, 2.0, 3.0, 4.0)]), 23, 0, [*f32(1.0, 2.0, 3.0, 4.0), *[0] * 28]),
    (lambda s: s.set_sample_mask(0xFFFFFFFF), 24, 0, [0xFFFFFFFF]),
    (lambda s: s.set_min_samples(4), 33, 0, [4]),
    (lambda s: s.set_stencil_ref(1, 2), 13, 0, [0x0201]),
    (lambda s: s.set_blend_color((1.0, 2.0, 3.0, 4.0)), 14, 0, f32(1.0, 2.0, 3.0, 4.0)),
    (lambda s: s.set_tess_levels([1.0, 2.0, 3.0, 4.0], [5.0, 6.0]), 32, 0, f32(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)),
    (lambda s: s.set_vertex_buffers([VertexBuffer(32, 8, 7), VertexBuffer(4, 0, 6)]), 6, 0, [32, 8, 7, 4, 0, 6]),
    (lambda s: s.set_vertex_buffers([]), 6, 0, []),
    (lambda s: s.set_index_buffer(7, 4, 8), 11, 0, [7, 4, 8]),
    (lambda s: s.set_index_buffer(0), 11, 0, [0]),
    (lambda s: s.set_constants(ShaderType.FRAGMENT, struct.pack("<2f", 1.0, 2.0)), 12, 0, [1, 0, *f32(1.0, 2.0)]),
    (lambda s: s.set_uniform_buffer(ShaderType.VERTEX, 1, 7, 16, 64), 27, 0, [0, 1, 16, 64, 7]),
    (lambda s: s.set_sampler_views(ShaderType.FRAGMENT, [8, 9], 1), 10, 0, [1, 1, 8, 9]),
    (lambda s: s.bind_sampler_states(ShaderType.FRAGMENT, [8, 9], 1), 18, 0, [1, 1, 8, 9]),
    (lambda s: s.set_shader_buffers(ShaderType.COMPUTE, [BufferRange(1, 2, 3)], 4), 34, 0, [5, 4, 1, 2, 3]),
    (
        lambda s: s.set_shader_images(ShaderType.COMPUTE, [ShaderImage(BGRA, vc.ImageAccess.WRITE, 1, 2, 3)], 4),
        35,
        0,
        [5, 4, 1, 2, 1, 2, 3],
    ),
    (lambda s: s.set_atomic_buffers([BufferRange(1, 2, 3)], 4), 40, 0, [4, 1, 2, 3]),
    (lambda s: s.set_streamout_targets([8, 9], 2), 25, 0, [2, 8, 9]),
    (
        lambda s: s.clear(vc.ClearBuffer.COLOR0 | vc.ClearBuffer.DEPTH, (0.5, 0.25, 0.0, 1.0), 1.0, 3),
        7,
        0,
        [5, *f32(0.5, 0.25, 0.0, 1.0), 0, 0x3FF00000, 3],
    ),
    (lambda s: s.clear_texture(7, BOX, b"abcd", 1), 47, 0, [7, 1, 1, 2, 3, 4, 5, 6, 0x64636261, 0, 0, 0]),
    (
        lambda s: s.draw(vc.Primitive.TRIANGLE_FAN, 34, 2),
        8,
        0,
        [2, 34, 6, 0, 1, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0],
    ),
    (
        lambda s: s.draw(
            vc.Primitive.PATCHES,
            1,
            indexed=True,
            instances=2,
            start_instance=3,
            index_bias=-1,
            restart_index=0xFFFF,
            min_index=5,
            max_index=6,
            count_from=7,
            vertices_per_patch=8,
        ),
        8,
        0,
        [0, 1, 14, 1, 2, 0xFFFFFFFF, 3, 1, 0xFFFF, 5, 6, 7, 8, 0],
    ),
    (lambda s: s.launch_grid((1, 2, 3), (4, 5, 6)), 37, 0, [1, 2, 3, 4, 5, 6, 0, 0]),
    (lambda s: s.memory_barrier(), 36, 0, [0x3FFF]),
    (lambda s: s.texture_barrier(), 39, 0, [1]),
    (
        lambda s: s.inline_write(7, BOX, b"abcde", level=1, stride=20, layer_stride=100),
        9,
        0,
        [7, 1, 0, 20, 100, 1, 2, 3, 4, 5, 6, 0x64636261, 0x65],
    ),
    (lambda s: s.write_buffer(7, 16, b"abcd"), 9, 0, [7, 0, 0, 0, 0, 16, 0, 0, 4, 1, 1, 0x64636261]),
    (
        lambda s: s.copy_region(7, 10, 11, 12, 8, BOX, destination_level=1, source_level=2),
        17,
        0,
        [7, 1, 10, 11, 12, 8, 2, 1, 2, 3, 4, 5, 6],
    ),
    (
        lambda s: s.blit(
            BlitSide(7, BGRA, BOX, 1),
            BlitSide(8, VirglFormat.R8_UNORM, Box(0, 4, 0, 4, -4)),
            mask=vc.ColorMask.R,
            filter=vc.TexFilter.LINEAR,
            scissor=Scissor(1, 2, 3, 4),
            render_condition=True,
            alpha_blend=True,
        ),
        16,
        0,
        [1 | 1 << 8 | 7 << 10, 1 | 2 << 16, 3 | 4 << 16, *[7, 1, 1, 1, 2, 3, 4, 5, 6], *BLIT_SOURCE],
    ),
    (
        lambda s: s.transfer(7, BOX, 64, vc.TransferDirection.FROM_HOST, level=1, stride=2, layer_stride=3, usage=4),
        43,
        0,
        [7, 1, 4, 2, 3, 1, 2, 3, 4, 5, 6, 64, 2],
    ),
    (lambda s: s.end_transfers(), 44, 0, []),
    (
        lambda s: s.copy_transfer(7, BOX, 8, 64, vc.CopyTransferFlag.SYNCHRONIZED, level=1, stride=2, layer_stride=3),
        45,
        0,
        [7, 1, 0, 2, 3, 1, 2, 3, 4, 5, 6, 8, 64, 1],
    ),
    (lambda s: s.begin_query(9), 19, 0, [9]),
    (lambda s: s.end_query(9), 20, 0, [9]),
    (lambda s: s.get_query_result(9, False), 21, 0, [9, 0]),
    (lambda s: s.get_query_result_buffer(9, 7, 16), 42, 0, [9, 7, 1, 3, 16, 0]),
    (lambda s: s.set_render_condition(9, True, vc.RenderCondition.NO_WAIT), 26, 0, [9, 1, 1]),
    (lambda s: s.set_tweak(vc.Tweak.GLES_BGRA_EMULATE, 1), 46, 0, [0, 1]),
    (lambda s: s.set_debug_flags("all"), 41, 0, [0x006C6C61, 0]),
    (lambda s: s.string_marker("abcde"), 51, 0, [5, 0x64636261, 0x65]),
]


@pytest.mark.parametrize(("call", "command", "kind", "payload"), COMMANDS, ids=lambda v: str(v)[:30])
def test_words_of_each_command(
    call: Callable[[CommandStream], None], command: int, kind: int, payload: list[int]
) -> None:
    assert words(stream_of(call)) == [command | kind << 8 | len(payload) << 16, *payload]


def test_every_command_is_in_the_table() -> None:
    covered = {Command(command) for _, command, _, _ in COMMANDS}
    video = range(Command.CREATE_VIDEO_CODEC, Command.END_FRAME + 1)
    others = {Command.NOP, Command.PIPE_RESOURCE_CREATE, Command.PIPE_RESOURCE_SET_TYPE, Command.GET_MEMORY_INFO}
    others |= {Command.CLEAR_SURFACE, Command.GET_PIPE_RESOURCE_LAYOUT}
    assert set(Command) - covered - set(video) == others


# The four mistakes of an encoder that drew nothing: the bytes by hand, and ours beside them.


def test_polygons_are_filled_not_dotted() -> None:
    dots = [
        1 | 2 << 8 | 9 << 16,
        9,
        1 << 1 | 2 << 10 | 2 << 12 | 1 << 15 | 1 << 29,
        *f32(1.0),
        0,
        0,
        *f32(1.0, 0, 0, 0),
    ]
    ours = words(stream_of(lambda s: s.create_object(9, Rasterizer())))
    assert len(ours) == len(dots)
    assert (ours[2] >> 10 & 3, ours[2] >> 12 & 3) == (0, 0)
    point = vc.PolygonMode.POINT
    assert words(stream_of(lambda s: s.create_object(9, Rasterizer(fill_front=point, fill_back=point)))) == dots


def test_vertex_buffers_have_no_start_slot() -> None:
    with_slot = [6 | 4 << 16, 0, 32, 0, 7]
    ours = words(stream_of(lambda s: s.set_vertex_buffers([VertexBuffer(32, 0, 7)])))
    assert ours == [6 | 3 << 16, 32, 0, 7]
    assert (with_slot[0] >> 16) % 3 == 1, "which the renderer refuses"
    assert (ours[0] >> 16) % 3 == 0


def test_a_fragment_shader_is_type_1() -> None:
    tess_eval = [31 | 2 << 16, 9, 4]
    assert words(stream_of(lambda s: s.bind_shader(ShaderType.FRAGMENT, 9))) == [31 | 2 << 16, 9, 1]
    assert words(stream_of(lambda s: s.bind_shader(ShaderType.TESS_EVAL, 9))) == tess_eval
    assert words(stream_of(lambda s: s.create_shader(9, ShaderType.FRAGMENT, FRAGMENT)))[2] == 1
    with pytest.raises(ValueError, match="TESS_EVAL"):
        CommandStream().create_shader(9, ShaderType.TESS_EVAL, FRAGMENT)


def test_a_shader_says_how_long_it_is_so_that_it_compiles() -> None:
    ours = words(stream_of(lambda s: s.create_shader(9, ShaderType.FRAGMENT, FRAGMENT)))
    size = len(FRAGMENT) + 1
    text = words(FRAGMENT.encode() + bytes(4 - len(FRAGMENT) % 4))
    head = 1 | 4 << 8 | 5 + len(text) << 16
    assert ours == [head, 9, 1, size, size, 0, *text]
    continues_nothing = [head, 9, 1, 1 << 31, size, 0, *text]
    waits_for_more = [head, 9, 1, size + 4, size, 0, *text]
    assert ours[3] not in (continues_nothing[3], waits_for_more[3])
    assert (ours[3] + 3) // 4 == len(text), "all of it has come: compiled at once"
    assert ours[3] >> 31 == 0, "a first chunk continues nothing"


def test_a_long_shader_continues_where_it_stopped() -> None:
    long = FRAGMENT + "\n" * 300_000
    stream = CommandStream()
    stream.create_shader(9, ShaderType.FRAGMENT, long)
    data, offsets, sizes, at = bytes(stream.data), [], [], 0
    while at < len(data):
        length = struct.unpack_from("<H", data, at + 2)[0]
        offsets.append(struct.unpack_from("<I", data, at + 12)[0])
        sizes.append((length - 5) * 4)
        at += 4 + length * 4
    assert offsets == [len(long) + 1, 1 << 31 | sizes[0]]
    assert sum(sizes) == (len(long) + 4) // 4 * 4


MISUSE: list[Callable[[CommandStream], None]] = [
    lambda s: s.create_object(0, Rasterizer()),
    lambda s: s.create_shader(0, ShaderType.FRAGMENT, FRAGMENT),
    lambda s: s.destroy_object(ObjectType.BLEND, 0),
    lambda s: s.bind_object(ObjectType.SHADER, 1),
    lambda s: s.bind_object(ObjectType.SURFACE, 1),
    lambda s: s.bind_shader(6, 1),  # type: ignore[arg-type]
    lambda s: s.link_shaders([1, 2]),
    lambda s: s.set_framebuffer([1] * 9),
    lambda s: s.set_framebuffer([-1]),
    lambda s: s.set_framebuffer_no_attach(65536, 1),
    lambda s: s.set_viewports([Viewport.of_size(1, 1)] * 2, 15),
    lambda s: s.set_viewports([Viewport.of_size(1e39, 1)]),
    lambda s: s.set_scissors([Scissor(0, 0, 65536, 1)]),
    lambda s: s.set_scissors([Scissor(0, 0, 1, 1)], -1),
    lambda s: s.set_polygon_stipple([0] * 31),
    lambda s: s.set_clip_planes([(0.0, 0.0, 0.0, 0.0)] * 9),
    lambda s: s.set_stencil_ref(256, 0),
    lambda s: s.set_tess_levels([1.0], [1.0]),
    lambda s: s.set_vertex_buffers([VertexBuffer(1, 0, 1)] * 33),
    lambda s: s.set_index_buffer(7, 3),
    lambda s: s.set_constants(ShaderType.VERTEX, b"abc"),
    lambda s: s.set_constants(ShaderType.VERTEX, bytes(65534 * 4)),
    lambda s: s.set_uniform_buffer(ShaderType.VERTEX, 32, 1, 0, 16),
    lambda s: s.set_sampler_views(ShaderType.FRAGMENT, [1] * 2, 31),
    lambda s: s.bind_sampler_states(ShaderType.FRAGMENT, [1] * 33),
    lambda s: s.set_shader_buffers(ShaderType.FRAGMENT, [BufferRange(0, 0, 0)] * 33),
    lambda s: s.set_streamout_targets([1] * 5),
    lambda s: s.clear_texture(7, BOX, bytes(17)),
    lambda s: s.draw(15, 3),  # type: ignore[arg-type]
    lambda s: s.draw(vc.Primitive.TRIANGLES, -1),
    lambda s: s.inline_write(7, BOX, b""),
    lambda s: s.inline_write(7, BOX, bytes(MAX_INLINE + 1)),
    lambda s: s.transfer(7, BOX, 0, 3),  # type: ignore[arg-type]
    lambda s: s.raw(256),
    lambda s: s.raw(0, bytes(65536 * 4)),
    lambda s: s.raw(0, b"abc"),
]


@pytest.mark.parametrize("call", MISUSE)
def test_misuse_is_refused_and_leaves_no_trace(call: Callable[[CommandStream], None]) -> None:
    stream = CommandStream()
    with pytest.raises(ValueError, match=r"."):
        call(stream)
    assert not stream.data


def test_the_longest_command_fits() -> None:
    data = stream_of(lambda s: s.inline_write(7, Box(0, 0, 0, MAX_INLINE), bytes(MAX_INLINE)))
    assert struct.unpack_from("<H", data, 2) == (0xFFFF,)
    assert len(data) == 4 + 0xFFFF * 4


def test_a_large_buffer_is_written_in_pieces() -> None:
    content = bytes(range(256)) * 2048
    data = stream_of(lambda s: s.write_buffer(7, 12, content))
    seen, at = bytearray(), 0
    while at < len(data):
        length = struct.unpack_from("<H", data, at + 2)[0]
        x, _, _, width = struct.unpack_from("<4I", data, at + 24)
        assert x == 12 + len(seen)
        seen += data[at + 48 : at + 48 + width]
        at += 4 + length * 4
    assert seen == content


def test_a_stream_is_reused_and_holds_others() -> None:
    kept, stream = CommandStream(), CommandStream()
    kept.set_sub_context(1)
    stream.begin_query(9)
    stream.extend(kept)
    assert words(stream.data) == [19 | 1 << 16, 9, 28 | 1 << 16, 1]
    assert len(stream) == 16
    assert Submit3d(stream.data).encode()[32:] == stream.data
    stream.clear_stream()
    assert len(stream) == 0
    assert len(kept) == 8


@pytest.mark.parametrize(("y_up", "top"), [(False, 0.0), (True, 480.0)])
def test_a_viewport_covers_its_surface(y_up: bool, top: float) -> None:
    view = Viewport.of_size(640, 480, y_up)
    corner = [c * s + t for c, s, t in zip((-1.0, 1.0, -1.0), view.scale, view.translate, strict=True)]
    assert corner == [0.0, top, 0.0]
