"""Shader objects: the offset word, chunks that add up, stream outputs, texts that can't be meant."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerError
from protocol.virgl_const import ShaderType
from protocol.virgl_shader import MAX_CHUNK, ShaderChunk, StreamOutput, StreamOutputSlot, shader_chunks

FRAGMENT = "FRAG\nDCL OUT[0], COLOR\nIMM[0] FLT32 { 1.0, 0.0, 0.0, 1.0 }\n  0: MOV OUT[0], IMM[0]\n  1: END\n"
slots = st.builds(
    StreamOutputSlot,
    st.integers(0, 255),
    st.integers(0, 3),
    st.integers(0, 7),
    st.integers(0, 7),
    st.integers(0, 0xFFFF),
    st.integers(0, 3),
)
strides = st.tuples(*[st.integers(0, 0xFFFFFFFF)] * 4)
outputs = st.builds(StreamOutput, strides, st.lists(slots, min_size=1, max_size=64).map(tuple))


def chunks(text: str, shader: ShaderType = ShaderType.FRAGMENT, size: int = MAX_CHUNK) -> list[bytes]:
    return list(shader_chunks(5, shader, text, None, 0, size))


def test_a_short_text_is_one_command_with_its_whole_length() -> None:
    (payload,) = chunks(FRAGMENT)
    handle, kind, offset, tokens, outputs = struct.unpack_from("<5I", payload)
    assert (handle, kind, offset, outputs) == (5, 1, len(FRAGMENT) + 1, 0)
    assert tokens >= 20
    text = payload[20:]
    assert text.rstrip(b"\0").decode() == FRAGMENT
    assert text[-1] == 0
    assert len(text) % 4 == 0
    assert len(text) - len(FRAGMENT) <= 4


@pytest.mark.parametrize("extra", range(4))
def test_the_last_word_holds_the_end_of_the_text(extra: int) -> None:
    (payload,) = chunks(FRAGMENT + " " * extra)
    assert 0 in payload[-4:]


@given(st.integers(1, 40), st.text("ADMOV[]0123, \n", max_size=300))
def test_chunks_add_up_to_the_text(words: int, body: str) -> None:
    text = "FRAG\n" + body
    at = 0
    for index, payload in enumerate(chunks(text, size=words * 4)):
        offset = struct.unpack_from("<I", payload, 8)[0]
        assert offset == (len(text) + 1 if index == 0 else at | 1 << 31)
        piece = payload[20:]
        assert (text.encode() + b"\0")[at : at + len(piece)].ljust(len(piece), b"\0") == piece
        at += len(piece)
    # The renderer rounds the length up to whole words and compiles when that much has come.
    assert at == (len(text) + 1 + 3) // 4 * 4


@given(outputs)
def test_stream_outputs_go_with_the_first_chunk_alone(output: StreamOutput) -> None:
    text = "VERT\n" + "x" * 100
    first, *rest = shader_chunks(5, ShaderType.VERTEX, text, output, 0, 64)
    parsed = ShaderChunk.parse(first[4:])
    assert parsed.stream_output == output
    assert parsed.text.decode() == text[:64]
    assert rest
    assert all(ShaderChunk.parse(payload[4:]).stream_output is None for payload in rest)


def test_words_of_a_stream_output() -> None:
    assert struct.unpack("<2I", StreamOutputSlot(1, 2, 3, 4, 5, 2).payload()) == (
        1 | 2 << 8 | 3 << 10 | 4 << 13 | 5 << 16,
        2,
    )


def test_local_memory_of_a_compute_shader_is_in_every_chunk() -> None:
    for payload in shader_chunks(5, ShaderType.COMPUTE, "COMP\n" + "x" * 20, None, 4096, 8):
        assert ShaderChunk.parse(payload[4:]).local_memory == 4096


@pytest.mark.parametrize(
    ("shader", "text"),
    [
        (ShaderType.VERTEX, FRAGMENT),
        (ShaderType.FRAGMENT, "FRAGMENT\nEND"),
        (ShaderType.FRAGMENT, ""),
        (ShaderType.FRAGMENT, "FRAG\nEND\0"),
        (ShaderType.FRAGMENT, "FRAG\nEND # ü"),
        (6, FRAGMENT),
    ],
)
def test_texts_that_can_not_be_meant_are_refused(shader: ShaderType, text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        chunks(text, shader)


@pytest.mark.parametrize("size", [0, -4, 6, MAX_CHUNK + 4])
def test_chunks_are_whole_words_that_fit_a_command(size: int) -> None:
    with pytest.raises(ValueError, match="chunks"):
        chunks(FRAGMENT, size=size)


@pytest.mark.parametrize("register", [-1, 256])
def test_stream_outputs_that_do_not_fit_are_refused(register: int) -> None:
    with pytest.raises(ValueError, match="fit"):
        StreamOutputSlot(register, 0, 4, 0, 0).payload()


def test_extras_belong_to_their_stages() -> None:
    output = StreamOutput((4, 0, 0, 0), (StreamOutputSlot(0, 0, 4, 0, 0),))
    with pytest.raises(ValueError, match="compute"):
        list(shader_chunks(1, ShaderType.COMPUTE, "COMP\nEND", output, 0, 64))
    with pytest.raises(ValueError, match="compute"):
        list(shader_chunks(1, ShaderType.FRAGMENT, FRAGMENT, None, 16, 64))
    with pytest.raises(ValueError, match="0 stream outputs"):
        StreamOutput((0, 0, 0, 0), ()).payload()


@given(st.binary(max_size=80))
def test_noise_is_a_chunk_or_refused(noise: bytes) -> None:
    try:
        ShaderChunk.parse(noise)
    except PeerError:
        return
