"""Display socket codec: exact bytes, round trips, hostile replies, and an encoder that cannot send what hurts."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import vhost_user_gpu as dg
from protocol import virtio_gpu as vg
from protocol.errors import PeerError
from protocol.virtio_gpu import DisplayOne, Rect

u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
scanout_ids = st.integers(0, 15)
pixels = st.binary(min_size=dg.CURSOR_BYTES, max_size=dg.CURSOR_BYTES)
updates = st.tuples(st.integers(0, 5), st.integers(0, 5)).flatmap(
    lambda size: st.builds(
        dg.Update,
        u32,
        u32,
        u32,
        st.just(size[0]),
        st.just(size[1]),
        st.binary(min_size=size[0] * size[1] * 4, max_size=size[0] * size[1] * 4),
    )
)
requests = st.one_of(
    st.just(dg.GetProtocolFeatures()),
    st.builds(dg.SetProtocolFeatures, u64),
    st.just(dg.GetDisplayInfo()),
    st.builds(dg.GetEdid, u32),
    st.builds(dg.CursorPos, u32, u32, u32, st.booleans()),
    st.builds(dg.CursorUpdate, u32, u32, u32, u32, u32, st.just(bytes(range(256)) * 64)),
    st.builds(dg.Scanout, u32, u32, u32),
    updates,
    st.builds(dg.Unknown, st.sampled_from([0, 9, 10, 12, 13, 0xFFFFFFFF]), st.binary(max_size=48)),
)
displays = st.builds(DisplayOne, st.builds(Rect, u32, u32, u32, u32), st.booleans(), u32)
replies = st.one_of(
    st.builds(dg.ProtocolFeaturesReply, u64),
    st.builds(dg.DisplayInfoReply, st.lists(displays, min_size=16, max_size=16).map(tuple)),
    st.builds(dg.EdidReply, st.binary(max_size=1024)),
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, over and over."""
    pieces = []
    at = step = 0
    while at < len(data):
        size = sizes[step % len(sizes)]
        pieces.append(data[at : at + size])
        at, step = at + size, step + 1
    return pieces


@given(st.lists(requests, max_size=4), st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_requests_survive_a_round_trip_in_pieces(sent: list[dg.DisplayMessage], sizes: list[int]) -> None:
    decoder = dg.RequestDecoder()
    data = b"".join(message.encode() for message in sent)
    assert [message for piece in cut(data, sizes) for message in decoder.feed(piece)] == sent


@given(st.lists(replies, max_size=4), st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_replies_survive_a_round_trip_in_pieces(sent: list[dg.DisplayMessage], sizes: list[int]) -> None:
    decoder = dg.ReplyDecoder()
    data = b"".join(message.encode() for message in sent)
    assert [message for piece in cut(data, sizes) for message in decoder.feed(piece)] == sent


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (dg.GetProtocolFeatures(), "01000000 00000000 00000000"),
        (dg.SetProtocolFeatures(1), "02000000 00000000 08000000 0100000000000000"),
        (dg.GetDisplayInfo(), "03000000 00000000 00000000"),
        (dg.CursorPos(1, 2, 3), "04000000 00000000 0c000000 01000000 02000000 03000000"),
        (dg.CursorPos(1, 2, 3, False), "05000000 00000000 0c000000 01000000 02000000 03000000"),
        (dg.Scanout(1, 640, 480), "07000000 00000000 0c000000 01000000 80020000 e0010000"),
        (
            dg.Update(1, 2, 3, 1, 1, b"\1\2\3\4"),
            "08000000 00000000 18000000 01000000 02000000 03000000 01000000 01000000 01020304",
        ),
        (dg.GetEdid(2), "0b000000 00000000 04000000 02000000"),
        (dg.ProtocolFeaturesReply(3), "01000000 04000000 08000000 0300000000000000"),
    ],
)
def test_bytes_on_the_wire(message: dg.DisplayMessage, expected: str) -> None:
    assert message.encode() == bytes.fromhex(expected)


def test_sizes_of_the_structs_on_the_wire() -> None:
    assert len(dg.CursorUpdate(0, 0, 0, 0, 0, bytes(dg.CURSOR_BYTES)).encode()) == 12 + 20 + 16384
    assert len(dg.DisplayInfoReply(()).encode()) == 12 + 24 + 384
    assert len(dg.EdidReply(b"").encode()) == 12 + 1056


@pytest.mark.parametrize("flags", [0, 1, 4, 7, 0x80000000, 0xFFFFFFFF])
def test_odd_flags_of_a_reply_change_nothing(flags: int) -> None:
    data = bytearray(dg.ProtocolFeaturesReply(3).encode())
    struct.pack_into("=I", data, 4, flags)
    assert dg.ReplyDecoder().feed(data) == [dg.ProtocolFeaturesReply(3)]


@pytest.mark.parametrize("size", [1025, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_reply_with_too_large_an_edid_is_refused(size: int) -> None:
    data = bytearray(dg.EdidReply(b"").encode())
    struct.pack_into("<I", data, dg.HEADER_SIZE + vg.HEADER_SIZE, size)
    with pytest.raises(PeerError, match="GET_EDID"):
        dg.ReplyDecoder().feed(data)


@pytest.mark.parametrize("size", [1057, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("request_number", [1, 3, 11, 99])
def test_a_reply_that_announces_too_much_is_refused_at_its_header(request_number: int, size: int) -> None:
    with pytest.raises(PeerError, match="announces"):
        dg.ReplyDecoder().feed(struct.pack("=III", request_number, 4, size))


@pytest.mark.parametrize(("request_number", "size"), [(1, 0), (1, 4), (3, 0), (3, 407), (11, 0), (11, 1055)])
def test_a_reply_of_the_wrong_size_is_refused(request_number: int, size: int) -> None:
    with pytest.raises(PeerError):
        dg.ReplyDecoder().feed(struct.pack("=III", request_number, 4, size) + bytes(size))


def test_an_unknown_reply_is_handed_on_and_the_stream_goes_on() -> None:
    data = struct.pack("=III", 10, 4, 0) + struct.pack("=III", 77, 4, 3) + b"abc" + dg.EdidReply(b"x").encode()
    assert dg.ReplyDecoder().feed(data) == [dg.Unknown(10, b""), dg.Unknown(77, b"abc"), dg.EdidReply(b"x")]


@pytest.mark.parametrize(
    ("request_number", "size"), [(1, 1), (2, 4), (3, 4), (4, 8), (5, 16), (6, 20), (6, 16405), (7, 0), (8, 19), (11, 8)]
)
def test_a_request_of_the_wrong_size_is_refused(request_number: int, size: int) -> None:
    with pytest.raises(PeerError):
        dg.RequestDecoder().feed(struct.pack("=III", request_number, 0, size) + bytes(size))


@pytest.mark.parametrize(("width", "height", "size"), [(2, 2, 12), (2, 2, 20), (0xFFFFFFFF, 0xFFFFFFFF, 4), (0, 0, 4)])
def test_an_update_without_exactly_its_pixels_is_refused(width: int, height: int, size: int) -> None:
    fields = struct.pack("=IIIII", 0, 0, 0, width, height)
    data = struct.pack("=III", 8, 0, len(fields) + size) + fields + bytes(size)
    with pytest.raises(PeerError, match="UPDATE"):
        dg.RequestDecoder().feed(data)


@given(st.integers(0, 14), u32, st.integers(0, 1200), st.binary(max_size=64))
def test_noise_raises_nothing_but_peer_error(request_number: int, flags: int, size: int, noise: bytes) -> None:
    for decoder in (dg.ReplyDecoder(), dg.RequestDecoder()):
        try:
            decoder.feed(struct.pack("=III", request_number, flags, size) + noise * 19)
        except PeerError:
            continue


# ---- the encoder -------------------------------------------------------------------------------------------------


def test_an_update_is_refused_before_a_scanout() -> None:
    encoder = dg.DisplayEncoder(2)
    encoder.scanout(1, 10, 10)
    with pytest.raises(ValueError, match="outside"):
        encoder.update(0, Rect(0, 0, 1, 1), bytes(4))


def test_an_update_is_refused_after_a_scanout_is_disabled() -> None:
    encoder = dg.DisplayEncoder(1)
    encoder.scanout(0, 10, 10)
    encoder.scanout(0, 0, 0)
    with pytest.raises(ValueError, match="outside"):
        encoder.update(0, Rect(0, 0, 1, 1), bytes(4))


@pytest.mark.parametrize(
    "rect",
    [
        Rect(0, 0, 0, 0),
        Rect(0, 0, 1, 0),
        Rect(9, 0, 2, 1),
        Rect(0, 20, 1, 1),
        Rect(0, 0, 11, 1),
        Rect(-1, 0, 2, 1),
        Rect(0xFFFFFFFF, 0, 2, 1),
        Rect(0, 0, -1, -1),
    ],
)
def test_an_update_is_refused_outside_its_scanout(rect: Rect) -> None:
    encoder = dg.DisplayEncoder(1)
    encoder.scanout(0, 10, 20)
    with pytest.raises(ValueError, match="outside"):
        encoder.update(0, rect, bytes(abs(rect.width * rect.height * 4) if rect.width < 100 else 8))


@pytest.mark.parametrize("size", [0, 15, 17])
def test_an_update_is_refused_without_exactly_its_pixels(size: int) -> None:
    encoder = dg.DisplayEncoder(1)
    encoder.scanout(0, 2, 2)
    with pytest.raises(ValueError, match="bytes"):
        encoder.update(0, Rect(0, 0, 2, 2), bytes(size))


def test_an_update_does_not_copy_its_pixels() -> None:
    encoder = dg.DisplayEncoder(1)
    encoder.scanout(0, 2, 2)
    content = bytearray(range(16))
    header, view = encoder.update(0, Rect(0, 0, 2, 2), content)
    assert view.obj is content
    assert header + view == dg.Update(0, 0, 0, 2, 2, bytes(content)).encode()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((65535, 65535), (16384, 8192)),
        ((0xFFFFFFFF, 1), (16384, 1)),
        ((1, 0xFFFFFFFF), (1, 16384)),
        ((7680, 4320), (7680, 4320)),
        ((0, 5), (0, 0)),
        ((5, 0), (0, 0)),
    ],
)
def test_scanout_sizes_are_clamped(asked: tuple[int, int], told: tuple[int, int]) -> None:
    encoder = dg.DisplayEncoder(1)
    assert dg.RequestDecoder().feed(encoder.scanout(0, *asked)) == [dg.Scanout(0, *told)]
    assert encoder.size(0) == told


@given(u32, u32, st.builds(Rect, u32, u32, u32, u32))
def test_what_clip_leaves_lies_inside_the_scanout(width: int, height: int, rect: Rect) -> None:
    encoder = dg.DisplayEncoder(1)
    encoder.scanout(0, width, height)
    clipped = encoder.clip(0, rect)
    width, height = encoder.size(0)
    assert width * height <= dg.MAX_AREA
    if clipped is None:
        assert rect.x >= width or rect.y >= height or not rect.width or not rect.height
    else:
        assert (clipped.x, clipped.y) == (rect.x, rect.y)
        assert clipped.width == min(rect.width, width - rect.x) > 0
        assert clipped.height == min(rect.height, height - rect.y) > 0


@pytest.mark.parametrize("scanout", [-1, 2, 16, 0xFFFFFFFF])
def test_scanouts_that_we_do_not_have_are_refused(scanout: int) -> None:
    encoder = dg.DisplayEncoder(2)
    for call in (
        lambda: encoder.scanout(scanout, 1, 1),
        lambda: encoder.update(scanout, Rect(0, 0, 1, 1), bytes(4)),
        lambda: encoder.cursor_pos(scanout, 0, 0),
        lambda: encoder.cursor_update(scanout, 0, 0, 0, 0, bytes(dg.CURSOR_BYTES)),
        lambda: encoder.edid(scanout),
    ):
        with pytest.raises(ValueError, match=str(scanout)):
            call()


def test_an_edid_is_asked_for_only_with_the_feature_and_an_enabled_output() -> None:
    encoder = dg.DisplayEncoder(2)
    modes = [DisplayOne(Rect(0, 0, 640, 480), number != 1) for number in range(16)]
    with pytest.raises(ValueError, match="no EDID"):
        encoder.edid(0)
    encoder.note_display_info(modes)
    with pytest.raises(ValueError, match="no EDID"):
        encoder.edid(0)
    encoder.set_protocol_features(1 << dg.DisplayFeature.EDID)
    assert encoder.edid(0) == dg.GetEdid(0).encode()
    assert [encoder.has_edid(number) for number in range(3)] == [True, False, False]


def test_only_the_edid_feature_is_taken() -> None:
    encoder = dg.DisplayEncoder(1)
    assert encoder.set_protocol_features(0xFFFF) == dg.SetProtocolFeatures(1).encode()
    assert encoder.set_protocol_features(2) == dg.SetProtocolFeatures(0).encode()
    assert encoder.get_protocol_features() == dg.GetProtocolFeatures().encode()
    assert encoder.get_display_info() == dg.GetDisplayInfo().encode()


@pytest.mark.parametrize("size", [0, dg.CURSOR_BYTES - 1, dg.CURSOR_BYTES + 4])
def test_a_cursor_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="cursor"):
        dg.DisplayEncoder(1).cursor_update(0, 0, 0, 0, 0, bytes(size))


def test_the_hot_spot_is_kept_inside_the_cursor() -> None:
    data = dg.DisplayEncoder(1).cursor_update(0, 1, 2, 0xFFFFFFFF, 64, bytes(dg.CURSOR_BYTES))
    assert dg.RequestDecoder().feed(data) == [dg.CursorUpdate(0, 1, 2, 63, 63, bytes(dg.CURSOR_BYTES))]


def test_negative_cursor_positions_pass_as_the_guest_gives_them() -> None:
    data = dg.DisplayEncoder(1).cursor_pos(0, 0xFFFFFFFF, 5, visible=False)
    assert dg.RequestDecoder().feed(data) == [dg.CursorPos(0, 0xFFFFFFFF, 5, False)]
