"""The decoder: what the encoder wrote comes back, lines for people, and no malformed stream stops it."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import virgl_const as vc
from protocol import virgl_state as vs
from protocol.virgl import (
    BlitSide,
    BufferRange,
    CommandStream,
    Scissor,
    ShaderImage,
    VertexBuffer,
    Viewport,
)
from protocol.virgl_const import Command, ObjectType, ShaderType
from protocol.virgl_decode import Decoded, decode_stream, show
from protocol.virgl_format import VirglFormat
from protocol.virgl_shader import StreamOutput, StreamOutputSlot
from protocol.virtio_gpu import Rect
from protocol.virtio_gpu_3d import Box

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
i32 = st.integers(-(1 << 31), (1 << 31) - 1)
handles = st.integers(1, 0xFFFFFFFF)
floats = st.floats(width=32, allow_nan=False)
threes = st.tuples(floats, floats, floats)
colors = st.tuples(floats, floats, floats, floats)
boxes = st.builds(Box, u32, u32, u32, u32, u32, u32)
shaders = st.sampled_from(ShaderType)
formats = st.sampled_from(VirglFormat)
scissors = st.builds(Scissor, u16, u16, u16, u16)
ranges = st.lists(st.builds(BufferRange, u32, u32, u32), max_size=8)
slots = st.lists(u32, max_size=16)
starts = st.integers(0, 8)
sides = st.builds(BlitSide, u32, formats, st.builds(Box, i32, i32, i32, i32, i32, i32), u32)
images = st.builds(ShaderImage, formats, st.builds(vc.ImageAccess, st.integers(0, 3)), u32, u32, u32)
bits = st.integers(0, 0xFFFFFFFF)
placed = {"level": u32, "stride": u32, "layer_stride": u32, "usage": u32}

# Methods whose arguments come back as the decoder's fields of the same names.
CALLS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "create_sub_context": {"number": u32},
    "destroy_sub_context": {"number": u32},
    "set_sub_context": {"number": u32},
    "bind_shader": {"shader": shaders, "handle": u32},
    "link_shaders": {"handles": st.tuples(*[u32] * 6)},
    "set_framebuffer": {"colors": st.lists(u32, max_size=8), "depth_stencil": u32},
    "set_framebuffer_no_attach": {"width": u16, "height": u16, "layers": u16, "samples": u16},
    "set_viewports": {"viewports": st.lists(st.builds(Viewport, threes, threes), max_size=8), "start": starts},
    "set_scissors": {"scissors": st.lists(scissors, max_size=8), "start": starts},
    "set_polygon_stipple": {"rows": st.tuples(*[u32] * 32)},
    "set_clip_planes": {"planes": st.tuples(*[colors] * 8)},
    "set_sample_mask": {"mask": u32},
    "set_min_samples": {"samples": u32},
    "set_stencil_ref": {"front": u8, "back": u8},
    "set_blend_color": {"color": colors},
    "set_vertex_buffers": {"buffers": st.lists(st.builds(VertexBuffer, u32, u32, u32), max_size=8)},
    "set_index_buffer": {"resource": handles, "index_size": st.sampled_from([1, 2, 4]), "offset": u32},
    "set_uniform_buffer": {
        "shader": shaders,
        "index": st.integers(0, 31),
        "resource": u32,
        "offset": u32,
        "length": u32,
    },
    "set_sampler_views": {"shader": shaders, "handles": slots, "start": starts},
    "bind_sampler_states": {"shader": shaders, "handles": slots, "start": starts},
    "set_shader_buffers": {"shader": shaders, "buffers": ranges, "start": starts},
    "set_shader_images": {"shader": shaders, "images": st.lists(images, max_size=8), "start": starts},
    "set_atomic_buffers": {"buffers": ranges, "start": starts},
    "set_streamout_targets": {"handles": st.lists(u32, max_size=4), "append": u32},
    "clear": {
        "buffers": st.builds(vc.ClearBuffer, st.integers(0, 0x3FF)),
        "color": colors,
        "depth": st.floats(allow_nan=False),
        "stencil": u32,
    },
    "clear_texture": {
        "resource": u32,
        "box": boxes,
        "texel": st.binary(min_size=16, max_size=16),
        "level": u32,
    },
    "draw": {
        "mode": st.sampled_from(vc.Primitive),
        "count": u32,
        "start": u32,
        "indexed": st.booleans(),
        "instances": u32,
        "start_instance": u32,
        "index_bias": i32,
        "restart_index": u32,
        "min_index": u32,
        "max_index": u32,
        "count_from": u32,
        "vertices_per_patch": u32,
    },
    "memory_barrier": {"flags": st.builds(vc.Barrier, bits)},
    "texture_barrier": {"flags": st.builds(vc.TextureBarrier, bits)},
    "inline_write": {
        "resource": u32,
        "box": boxes,
        "data": st.binary(min_size=1, max_size=9).map(lambda data: data * 4),
        "level": u32,
        "stride": u32,
        "layer_stride": u32,
    },
    "copy_region": {
        "destination": u32,
        "x": u32,
        "y": u32,
        "z": u32,
        "source": u32,
        "box": boxes,
        "destination_level": u32,
        "source_level": u32,
    },
    "blit": {
        "destination": sides,
        "source": sides,
        "mask": st.builds(vc.ColorMask, st.integers(0, 0x3F)),
        "filter": st.sampled_from(vc.TexFilter),
        "scissor": st.none() | scissors,
        "render_condition": st.booleans(),
        "alpha_blend": st.booleans(),
    },
    "transfer": {
        "resource": u32,
        "box": boxes,
        "offset": u32,
        "direction": st.sampled_from(vc.TransferDirection),
        **placed,
    },
    "end_transfers": {},
    "copy_transfer": {"resource": u32, "box": boxes, "staging": u32, "offset": u32, "flags": u32, **placed},
    "begin_query": {"handle": u32},
    "end_query": {"handle": u32},
    "get_query_result": {"handle": u32, "wait": st.booleans()},
    "get_query_result_buffer": {
        "handle": u32,
        "resource": u32,
        "offset": u32,
        "result": st.sampled_from(vc.ResultType),
        "wait": st.booleans(),
    },
    "set_render_condition": {
        "handle": u32,
        "condition": st.booleans(),
        "mode": st.sampled_from(vc.RenderCondition),
    },
    "set_tweak": {"tweak": st.sampled_from(vc.Tweak), "value": u32},
    "set_debug_flags": {"flags": st.text("abcdef,", max_size=20)},
    "string_marker": {"text": st.text(max_size=20)},
}
calls = st.sampled_from(sorted(CALLS)).flatmap(
    lambda name: st.tuples(st.just(name), st.fixed_dictionaries(CALLS[name]))
)


def decode_one(stream: CommandStream) -> Decoded:
    (decoded,) = decode_stream(stream.data)
    assert not decoded.problem
    assert str(decoded)
    return decoded


def listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@given(calls)
def test_arguments_come_back(call: tuple[str, dict[str, Any]]) -> None:
    name, arguments = call
    stream = CommandStream()
    getattr(stream, name)(**arguments)
    fields = decode_one(stream).fields
    assert {key: fields[key] for key in arguments} == {key: listed(value) for key, value in arguments.items()}


@given(st.lists(calls, max_size=6))
def test_a_stream_comes_back_in_order(several: list[tuple[str, dict[str, Any]]]) -> None:
    stream = CommandStream()
    starts = []
    for name, arguments in several:
        starts.append(len(stream))
        getattr(stream, name)(**arguments)
    assert [decoded.offset for decoded in decode_stream(stream.data)] == starts


@pytest.mark.parametrize(
    "state",
    [
        vs.Blend((vs.BlendTarget.over(),)),
        vs.DepthStencilAlpha(depth_test=True),
        vs.Rasterizer(scissor=True),
        vs.VertexElements((vs.VertexElement(0, VirglFormat.R32G32_FLOAT),)),
        vs.SamplerState(),
        vs.SamplerView(7, VirglFormat.R8_UNORM),
        vs.BufferView(7, VirglFormat.R8_UNORM, 0, 1 << 20),
        vs.Surface(7, VirglFormat.B8G8R8A8_UNORM),
        vs.Query(vc.QueryType.TIMESTAMP, 7),
        vs.StreamoutTarget(7, 0, 64),
    ],
    ids=lambda state: type(state).__name__,
)
def test_states_come_back(state: vs.State) -> None:
    stream = CommandStream()
    stream.create_object(9, state)
    decoded = decode_one(stream)
    assert decoded.name == f"CREATE_OBJECT {state.OBJECT.name}"
    assert decoded.fields == {"handle": 9, "state": state}


def test_a_shader_comes_back_with_its_text() -> None:
    text = "VERT\nDCL IN[0]\n  0: END"
    output = StreamOutput((4, 0, 0, 0), (StreamOutputSlot(1, 0, 4, 0, 0),))
    stream = CommandStream()
    stream.create_shader(9, ShaderType.VERTEX, text, stream_output=output, chunk=16)
    first, second = decode_stream(stream.data)
    assert first.fields["length"] == len(text) + 1
    assert first.fields["stream_output"] == output
    assert second.fields["continues_at"] == 16
    assert first.text + second.text == text
    assert "| VERT" in str(first)


def test_a_compute_shaders_memory_comes_back() -> None:
    stream = CommandStream()
    stream.create_shader(9, ShaderType.COMPUTE, "COMP\nEND", local_memory=64)
    assert decode_one(stream).fields["local_memory"] == 64


def test_lines_for_people() -> None:
    stream = CommandStream()
    stream.create_object(2, vs.Rasterizer(fill_front=vc.PolygonMode.POINT))
    stream.bind_object(ObjectType.RASTERIZER, 2)
    stream.clear(vc.ClearBuffer.COLOR0 | vc.ClearBuffer.DEPTH, (0.5, 0.0, 0.0, 1.0))
    stream.set_constants(ShaderType.VERTEX, struct.pack("<20f", *range(20)))
    stream.inline_write(7, Box(0, 0, 0, 20), bytes(20))
    stream.draw(vc.Primitive.TRIANGLE_FAN, 34, instances=2)
    assert list(map(str, decode_stream(stream.data))) == [
        "     0 CREATE_OBJECT RASTERIZER [9] handle=2 state=Rasterizer(fill_front=POINT)",
        "    40 BIND_OBJECT RASTERIZER [1] handle=2",
        "    48 CLEAR [8] buffers=DEPTH|COLOR0 color=(0.5, 0, 0, 1) depth=1 stencil=0",
        "    84 SET_CONSTANT_BUFFER [22] shader=VERTEX index=0 "
        "constants=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, ... 20 in all)",
        "   176 RESOURCE_INLINE_WRITE [16] resource=7 level=0 stride=0 box=0,0,0+20x1x1 "
        "data=20 bytes 00000000 00000000 00000000 00000000...",
        "   244 DRAW_VBO [12] start=0 count=34 mode=TRIANGLE_FAN instances=2",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (vc.ClearBuffer(0), "0"),
        (vc.Face(3), "FRONT|BACK"),
        (vc.TextureBarrier(0x11), "SAMPLER+0x10"),
        (True, "True"),
        ("a b", "'a b'"),
        (b"", "0 bytes "),
        (Rect(1, 2, 3, 4), "1,2+3x4"),
        ((), "()"),
    ],
)
def test_values_for_people(value: Any, text: str) -> None:
    assert show(value) == text


def raw(command: int, payload: bytes = b"", kind: int = 0) -> bytes:
    stream = CommandStream()
    stream.raw(command, payload, kind)
    return bytes(stream.data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (raw(Command.SET_VERTEX_BUFFERS, bytes(16)), "4 words are no whole number of buffers"),
        (raw(Command.CREATE_OBJECT, bytes(8), ObjectType.BLEND), "blend state of 1 words"),
        (raw(Command.CREATE_OBJECT, b"", ObjectType.BLEND), "no handle"),
        (raw(Command.CREATE_OBJECT, bytes(16), ObjectType.SHADER), "shader of 3 words"),
        (raw(Command.CREATE_OBJECT, struct.pack("<5I", 1, 0, 0, 0, 65), ObjectType.SHADER), "65 stream outputs"),
        (raw(Command.CREATE_OBJECT, struct.pack("<5I", 1, 0, 0, 0, 2), ObjectType.SHADER), "2 stream outputs in 4"),
        (raw(Command.CREATE_OBJECT, bytes(24), ObjectType.VERTEX_ELEMENTS), "vertex elements of 5 words"),
        (raw(Command.CLEAR, bytes(28)), "command of 7 words"),
        (raw(Command.DRAW_VBO, bytes(4)), "a draw of 1 words"),
        (raw(Command.RESOURCE_INLINE_WRITE, bytes(44)), "an inline write of 11 words"),
        (raw(Command.SET_FRAMEBUFFER_STATE, struct.pack("<3I", 2, 0, 1)), "1 colour buffers"),
        (raw(Command.SEND_STRING_MARKER, struct.pack("<2I", 9, 0)), "a marker of 9 bytes in 2 words"),
        (raw(Command.CLEAR, bytes(32))[:-4], "8 words announced, 7 left"),
        (b"abc", "3 bytes are no whole word"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_is_malformed_is_described(data: bytes, problem: str) -> None:
    (decoded,) = decode_stream(data)
    assert problem in decoded.problem
    assert problem in str(decoded)


def test_a_malformed_command_does_not_hide_the_next() -> None:
    first, second = decode_stream(raw(Command.CLEAR) + raw(Command.SET_SUB_CTX, bytes(4)))
    assert first.problem
    assert second.fields == {"number": 0}


def test_what_is_not_read_is_shown_as_data() -> None:
    codec, unknown, thing = decode_stream(raw(53, b"abcd") + raw(99) + raw(1, bytes(8), 77))
    assert str(codec) == "     0 CREATE_VIDEO_CODEC [1] data=4 bytes 61626364"
    assert str(unknown) == "     8 command 99 [0]"
    assert thing.name == "CREATE_OBJECT 77"


@given(st.binary(max_size=200))
def test_noise_is_described(noise: bytes) -> None:
    for decoded in decode_stream(noise):
        assert str(decoded)


@given(st.integers(0, 70), st.integers(0, 13), st.binary(max_size=160))
def test_commands_full_of_noise_are_described(command: int, kind: int, noise: bytes) -> None:
    (decoded,) = decode_stream(raw(command, noise[: len(noise) // 4 * 4], kind))
    assert str(decoded)
