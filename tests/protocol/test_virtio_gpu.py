"""virtio-gpu codec: struct sizes and offsets of linux/virtio_gpu.h, round trips, short and lying requests, noise."""

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import virtio_gpu as vg
from protocol.errors import PeerError
from protocol.virtio_gpu import CommandType, Rect, ResponseType

u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
rects = st.builds(Rect, u32, u32, u32, u32)
backings = st.integers(0, 8).flatmap(
    lambda count: st.builds(
        vg.ResourceAttachBacking, u32, st.just(count), st.binary(min_size=16 * count, max_size=16 * count)
    )
)
commands = st.one_of(
    st.just(vg.GetDisplayInfo()),
    st.builds(vg.GetEdid, u32),
    st.builds(vg.ResourceCreate2d, u32, u32, u32, u32),
    st.builds(vg.ResourceUnref, u32),
    st.builds(vg.SetScanout, rects, u32, u32),
    st.builds(vg.ResourceFlush, rects, u32),
    st.builds(vg.TransferToHost2d, rects, u64, u32),
    backings,
    st.builds(vg.ResourceDetachBacking, u32),
    st.builds(vg.UpdateCursor, u32, u32, u32, u32, u32, u32),
    st.builds(vg.MoveCursor, u32, u32, u32, u32, u32, u32),
    st.builds(vg.GetCapsetInfo, u32),
    st.builds(vg.GetCapset, u32, u32),
)
displays = st.builds(vg.DisplayOne, rects, st.booleans(), u32)

# sizeof() of the structs in linux/virtio_gpu.h.
SIZES = {
    CommandType.GET_DISPLAY_INFO: (vg.GetDisplayInfo(), 24),
    CommandType.RESOURCE_CREATE_2D: (vg.ResourceCreate2d(1, 2, 3, 4), 40),
    CommandType.RESOURCE_UNREF: (vg.ResourceUnref(1), 32),
    CommandType.SET_SCANOUT: (vg.SetScanout(Rect(1, 2, 3, 4), 5, 6), 48),
    CommandType.RESOURCE_FLUSH: (vg.ResourceFlush(Rect(1, 2, 3, 4), 5), 48),
    CommandType.TRANSFER_TO_HOST_2D: (vg.TransferToHost2d(Rect(1, 2, 3, 4), 5, 6), 56),
    CommandType.RESOURCE_ATTACH_BACKING: (vg.ResourceAttachBacking(1, 1, bytes(16)), 48),
    CommandType.RESOURCE_DETACH_BACKING: (vg.ResourceDetachBacking(1), 32),
    CommandType.GET_CAPSET_INFO: (vg.GetCapsetInfo(1), 32),
    CommandType.GET_CAPSET: (vg.GetCapset(1, 2), 32),
    CommandType.GET_EDID: (vg.GetEdid(1), 32),
    CommandType.UPDATE_CURSOR: (vg.UpdateCursor(1, 2, 3, 4, 5, 6), 56),
    CommandType.MOVE_CURSOR: (vg.MoveCursor(1, 2, 3), 56),
}


@given(commands, u32, u64, u32, st.integers(0, 255))
def test_commands_survive_a_round_trip(
    command: vg.Command, flags: int, fence_id: int, ctx_id: int, ring_idx: int
) -> None:
    data = command.encode(flags, fence_id, ctx_id, ring_idx)
    assert vg.decode_command(memoryview(data)) == command
    assert vg.ControlHeader.decode(data) == vg.ControlHeader(command.type, flags, fence_id, ctx_id, ring_idx)


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.name)
def test_requests_have_the_size_of_their_struct(kind: CommandType) -> None:
    command, size = SIZES[kind]
    data = command.encode()
    assert len(data) == size
    assert command.type == kind
    assert data[:4] == struct.pack("<I", kind)


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.name)
def test_a_request_one_byte_short_is_refused(kind: CommandType) -> None:
    command, size = SIZES[kind]
    with pytest.raises(PeerError):
        vg.decode_command(command.encode()[: size - 1])


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.name)
def test_bytes_after_a_request_do_not_matter(kind: CommandType) -> None:
    command, _ = SIZES[kind]
    assert vg.decode_command(command.encode() + b"more") == command


def test_bytes_of_a_transfer() -> None:
    data = vg.TransferToHost2d(Rect(1, 2, 3, 4), 0x1122334455, 7).encode(vg.HeaderFlag.FENCE, 9, 5, 6)
    assert data.hex() == (
        "05010000 01000000 0900000000000000 05000000 06000000"
        "01000000 02000000 03000000 04000000 5544332211000000 07000000 00000000"
    ).replace(" ", "")


def test_bytes_of_a_cursor_update() -> None:
    body = vg.UpdateCursor(1, 2, 3, 4, 5, 6).encode()[24:]
    assert struct.unpack("<8I", body) == (1, 2, 3, 0, 4, 5, 6, 0)


@pytest.mark.parametrize("kind", [0, 0x0110, 0x010C, 0x0207, 0x0302, 0xFFFFFFFF])
def test_other_types_are_unknown(kind: int) -> None:
    command = vg.decode_command(vg.ControlHeader(kind).encode() + b"xyz")
    assert command == vg.Unknown(kind)
    assert command.type == kind
    assert command.encode() == vg.ControlHeader(kind).encode()


@pytest.mark.parametrize("size", [0, 1, 23])
def test_less_than_a_header_is_refused(size: int) -> None:
    with pytest.raises(PeerError, match="header"):
        vg.decode_command(bytes(size))


@pytest.mark.parametrize(("count", "supplied"), [(0xFFFFFFFF, 16), (2, 31), (1, 0), (0x10000000, 0)])
def test_more_entries_announced_than_supplied_are_refused_before_anything_is_copied(count: int, supplied: int) -> None:
    data = vg.ControlHeader(CommandType.RESOURCE_ATTACH_BACKING).encode() + struct.pack("<II", 1, count)
    with pytest.raises(PeerError, match="announced"):
        vg.decode_command(data + bytes(supplied))


def test_entries_are_a_private_copy() -> None:
    data = bytearray(vg.ResourceAttachBacking(1, 1, vg.MemEntry(0x1000, 0x2000).encode()).encode())
    command = vg.decode_command(data)
    data[:] = b"\xff" * len(data)
    assert isinstance(command, vg.ResourceAttachBacking)
    assert command.entries == struct.pack("<QII", 0x1000, 0x2000, 0)


@given(st.sampled_from([*CommandType, 0x0110]), st.binary(max_size=100))
def test_noise_raises_nothing_but_peer_error(kind: int, noise: bytes) -> None:
    for data in (noise, vg.ControlHeader(kind).encode() + noise):
        try:
            vg.decode_command(data)
        except PeerError:
            continue


@given(st.lists(displays, max_size=16))
def test_display_information_survives_a_round_trip(modes: list[vg.DisplayOne]) -> None:
    payload = vg.display_info_payload(modes)
    nothing = vg.DisplayOne(Rect(0, 0, 0, 0), False)
    assert len(payload) == 16 * 24 == vg.DISPLAY_INFO_SIZE
    assert vg.parse_display_info(payload) == (*modes, *[nothing] * (16 - len(modes)))


def test_bytes_of_a_display() -> None:
    payload = vg.display_info_payload([vg.DisplayOne(Rect(1, 2, 3, 4), True, 5)])
    assert struct.unpack_from("<6I", payload) == (1, 2, 3, 4, 1, 5)


@given(st.binary(max_size=1024))
def test_an_edid_survives_a_round_trip(blob: bytes) -> None:
    payload = vg.edid_payload(blob)
    assert len(payload) == 1032 == vg.EDID_SIZE
    assert struct.unpack_from("<II", payload) == (len(blob), 0)
    assert vg.parse_edid(payload) == blob


@pytest.mark.parametrize("size", [1025, 0xFFFFFFFF])
def test_an_edid_that_announces_too_much_is_refused(size: int) -> None:
    with pytest.raises(PeerError, match="announced"):
        vg.parse_edid(struct.pack("<II", size, 0) + bytes(1024))


@pytest.mark.parametrize("parse", [vg.parse_edid, vg.parse_display_info, vg.Response.decode, vg.GpuConfig.decode])
def test_short_answers_are_refused(parse) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(PeerError):
        parse(bytes(15))


def test_too_much_for_an_answer_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="1025"):
        vg.edid_payload(bytes(1025))
    with pytest.raises(ValueError, match="17"):
        vg.display_info_payload([vg.DisplayOne(Rect(0, 0, 1, 1))] * 17)


def test_responses_decode_for_the_guest() -> None:
    header = vg.ControlHeader(ResponseType.OK_EDID, vg.HeaderFlag.FENCE, 1 << 33)
    response = vg.Response.decode(header.encode() + vg.edid_payload(b"abc"))
    assert response.header == header
    assert response.edid() == b"abc"
    with pytest.raises(PeerError, match="0x1104"):
        response.display_info()
    assert vg.Response.decode(response.encode()) == response


def test_display_information_decodes_for_the_guest() -> None:
    modes = vg.display_info_payload([vg.DisplayOne(Rect(0, 0, 640, 480))])
    response = vg.Response(vg.ControlHeader(ResponseType.OK_DISPLAY_INFO), modes)
    assert response.display_info()[0] == vg.DisplayOne(Rect(0, 0, 640, 480), True, 0)
    with pytest.raises(PeerError):
        response.edid()


@given(st.builds(vg.GpuConfig, u32, u32, u32, u32))
def test_the_configuration_space_survives_a_round_trip(config: vg.GpuConfig) -> None:
    data = config.encode()
    assert data == struct.pack("<4I", *dataclasses.astuple(config))
    assert vg.GpuConfig.decode(data) == config


def test_the_numbers_of_the_header() -> None:
    assert (CommandType.SET_SCANOUT_BLOB, CommandType.RESOURCE_UNMAP_BLOB) == (0x010D, 0x0209)
    assert (ResponseType.OK_MAP_INFO, ResponseType.ERR_INVALID_PARAMETER) == (0x1106, 0x1205)
    assert [int(pixel) for pixel in vg.Format] == [1, 2, 3, 4, 67, 68, 121, 134]
