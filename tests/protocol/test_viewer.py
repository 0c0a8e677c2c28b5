"""Viewer protocol codec: exact bytes, round trips, strictness, noise."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import viewer as vp
from protocol.errors import PeerError
from protocol.virtio_gpu import Rect

u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
names = st.text(max_size=16)
rects = st.builds(Rect, u32, u32, u32, u32)
images = st.tuples(st.integers(1, 20000), st.integers(1, 20000), st.integers(0, 4096)).map(
    lambda side: vp.Image(7, (side[0] * 4 + side[2]) * side[1], side[0], side[1], side[0] * 4 + side[2], 1)
)
from_viewer = st.one_of(st.builds(vp.Hello, names), st.builds(vp.FrameDone, u32, u64))
from_daemon = st.one_of(
    st.builds(vp.Welcome, st.integers(1, 16), names, u32),
    st.builds(vp.Error, u32, st.text(max_size=128)),
    images,
    st.builds(vp.ImageGone, u64),
    st.builds(vp.Scanout, u32, st.booleans(), u64, u32, u32),
    st.builds(vp.Frame, u32, u32, u64, u64, u64, u64, u32, u32, u32, st.lists(rects, max_size=32).map(tuple)),
    st.builds(vp.CursorImage, u32, u32, u32, st.booleans(), u64),
    st.builds(vp.CursorPos, u32, u32, u32),
)


def packet(kind: int, payload: bytes) -> bytes:
    return struct.pack("<II", kind, len(payload)) + payload


@given(from_viewer)
def test_a_viewers_messages_survive_a_round_trip(message: vp.Message) -> None:
    data = vp.encode(message)
    assert len(data) <= vp.MAX_PACKET
    assert vp.decode_from_viewer(data, []) == message


@given(from_daemon)
def test_a_daemons_messages_survive_a_round_trip(message: vp.Message) -> None:
    data = vp.encode(message)
    assert len(data) <= vp.MAX_PACKET
    assert vp.decode_from_daemon(data, [5] * message.fds) == message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (vp.Hello("vm"), "01000000 0e000000 56475055 01000000 02000000 766d"),
        (vp.FrameDone(1, 2), "02000000 10000000 01000000 00000000 0200000000000000"),
        (vp.Welcome(2, "a"), "10000000 0d000000 01000000 02000000 01000000 61"),
        (vp.Error(1, "no"), "11000000 0a000000 01000000 02000000 6e6f"),
        (vp.ImageGone(3), "13000000 08000000 0300000000000000"),
        (vp.Scanout(0, True, 2, 3, 4), "14000000 18000000 00000000 01000000 0200000000000000 03000000 04000000"),
        (
            vp.Frame(1, 2, 3, 4, 5, 6, 7, 8, 9, (Rect(1, 2, 3, 4),)),
            "15000000 48000000 01000000 02000000 0300000000000000 0400000000000000 0500000000000000 0600000000000000"
            "07000000 08000000 09000000 01000000 01000000 02000000 03000000 04000000",
        ),
        (
            vp.CursorImage(1, 2, 3, True, 4),
            "16000000 18000000 01000000 02000000 03000000 01000000 0400000000000000",
        ),
        (vp.CursorPos(1, 2, 3), "17000000 0c000000 01000000 02000000 03000000"),
        (
            vp.Image(1, 16, 2, 2, 8, 5),
            "12000000 20000000 0100000000000000 1000000000000000 02000000 02000000 08000000 05000000",
        ),
    ],
)
def test_bytes_on_the_wire(message: vp.Message, expected: str) -> None:
    assert vp.encode(message) == bytes.fromhex(expected)


def test_a_hello_of_another_version_decodes_whatever_follows() -> None:
    data = packet(vp.MessageType.HELLO, b"VGPU" + struct.pack("<I", 2) + b"\xff\xfe future")
    assert vp.decode_from_viewer(data, []) == vp.Hello("", 2)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"VGPU",
        b"GPUV" + struct.pack("<II", 1, 0),
        b"VGPU" + struct.pack("<I", 1),
        b"VGPU" + struct.pack("<II", 1, 3) + b"ab",
        b"VGPU" + struct.pack("<II", 1, 1) + b"ab",
        b"VGPU" + struct.pack("<II", 1, 0xFFFFFFFF) + b"ab",
        b"VGPU" + struct.pack("<II", 1, 65) + b"a" * 65,
        b"VGPU" + struct.pack("<II", 1, 2) + b"\xff\xff",
    ],
)
def test_a_wrong_hello_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerError, match="HELLO"):
        vp.decode_from_viewer(packet(vp.MessageType.HELLO, payload), [])


@pytest.mark.parametrize("data", [b"", b"\1\0\0\0", packet(2, bytes(16))[:-1], packet(2, bytes(16)) + b"x"])
def test_a_packet_whose_size_is_not_its_length_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        vp.decode_from_viewer(data, [])


def test_unknown_messages_and_those_of_the_other_side_are_refused() -> None:
    for kind in (0, 3, 15, 24, 0xFFFFFFFF):
        for decode in (vp.decode_from_viewer, vp.decode_from_daemon):
            with pytest.raises(PeerError, match="unknown"):
                decode(packet(kind, b""), [])
    with pytest.raises(PeerError, match="unknown"):
        vp.decode_from_viewer(vp.encode(vp.CursorPos(0, 0, 0)), [])
    with pytest.raises(PeerError, match="unknown"):
        vp.decode_from_daemon(vp.encode(vp.Hello()), [])


@pytest.mark.parametrize("count", [0, 2, 33, 0xFFFFFFFF])
def test_a_frame_whose_count_is_not_its_rectangles_is_refused(count: int) -> None:
    data = bytearray(vp.encode(vp.Frame(0, 1, 2, 3, 4, 5, 6, 7, 8, (Rect(1, 2, 3, 4),))))
    struct.pack_into("<I", data, 8 + 52, count)
    with pytest.raises(PeerError, match="FRAME"):
        vp.decode_from_daemon(bytes(data), [])


def test_a_frame_of_thirty_three_rectangles_is_refused_on_both_sides() -> None:
    head = vp.encode(vp.Frame(0, 1, 2, 3, 4, 5, 6, 7, 8, ()))[8:]
    payload = head[:-4] + struct.pack("<I", 33) + bytes(33 * 16)
    with pytest.raises(PeerError):
        vp.decode_from_daemon(packet(vp.MessageType.FRAME, payload), [])
    with pytest.raises(ValueError, match="33"):
        vp.encode(vp.Frame(0, 1, 2, 3, 4, 5, 6, 7, 8, (Rect(0, 0, 1, 1),) * 33))


@pytest.mark.parametrize(
    ("message", "fds"),
    [
        (vp.Image(1, 16, 2, 2, 8, 5), []),
        (vp.Image(1, 16, 2, 2, 8, 5), [3, 4]),
        (vp.CursorImage(0, 0, 0, True, 1), []),
        (vp.CursorImage(0, 0, 0, False, 1), [3]),
        (vp.CursorPos(0, 0, 0), [3]),
        (vp.Welcome(1, ""), [3]),
    ],
)
def test_a_daemons_wrong_descriptors_are_refused(message: vp.Message, fds: list[int]) -> None:
    with pytest.raises(PeerError, match="descriptors"):
        vp.decode_from_daemon(vp.encode(message), fds)


@pytest.mark.parametrize("message", [vp.Hello(), vp.FrameDone(0, 1)])
def test_a_viewer_sends_no_descriptors(message: vp.Message) -> None:
    with pytest.raises(PeerError, match="descriptors"):
        vp.decode_from_viewer(vp.encode(message), [3])


@pytest.mark.parametrize(
    "image",
    [
        vp.Image(1, 15, 2, 2, 8, 1),
        vp.Image(1, 16, 2, 2, 7, 1),
        vp.Image(1, 1 << 20, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 1),
        vp.Image(1, 0, 2, 2, 8, 1),
    ],
)
def test_an_image_larger_than_its_memory_is_refused(image: vp.Image) -> None:
    with pytest.raises(PeerError, match="IMAGE"):
        vp.decode_from_daemon(vp.encode(image), [3])


@pytest.mark.parametrize(
    ("kind", "layout"), [(vp.MessageType.SCANOUT, "<IIQII"), (vp.MessageType.CURSOR_IMAGE, "<IIIIQ")]
)
def test_booleans_are_zero_or_one(kind: vp.MessageType, layout: str) -> None:
    with pytest.raises(PeerError, match="0 or 1"):
        vp.decode_from_daemon(packet(kind, struct.pack(layout, 2, 2, 2, 2, 2)), [])


def test_too_long_a_text_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="65"):
        vp.encode(vp.Hello("a" * 65))
    with pytest.raises(ValueError, match="513"):
        vp.encode(vp.Error(1, "a" * 513))


@given(st.sampled_from(list(vp.MessageType)), st.binary(max_size=120), st.lists(st.just(3), max_size=2))
def test_noise_raises_nothing_but_peer_error(kind: int, noise: bytes, fds: list[int]) -> None:
    for decode in (vp.decode_from_viewer, vp.decode_from_daemon):
        for data in (noise, packet(kind, noise)):
            try:
                decode(data, fds)
            except PeerError:
                continue
