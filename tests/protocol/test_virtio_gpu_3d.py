"""3D commands: struct sizes and offsets of linux/virtio_gpu.h, round trips, short and lying requests, noise."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import virtio_gpu as vg
from protocol import virtio_gpu_3d as gpu3d
from protocol.errors import PeerError
from protocol.virtio_gpu import Command, CommandType, ControlHeader
from protocol.virtio_gpu_3d import Box, decode_any_command

u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
boxes = st.builds(Box, u32, u32, u32, u32, u32, u32)
commands = st.one_of(
    st.builds(gpu3d.CtxCreate, st.binary(max_size=64), u32),
    st.just(gpu3d.CtxDestroy()),
    st.builds(gpu3d.CtxAttachResource, u32),
    st.builds(gpu3d.CtxDetachResource, u32),
    st.builds(gpu3d.ResourceCreate3d, *[u32] * 11),
    st.builds(gpu3d.TransferToHost3d, boxes, u64, u32, u32, u32, u32),
    st.builds(gpu3d.TransferFromHost3d, boxes, u64, u32, u32, u32, u32),
    st.builds(gpu3d.Submit3d, st.binary(max_size=64)),
)
SIZES = {
    CommandType.CTX_CREATE: (gpu3d.CtxCreate(b"test"), 96),
    CommandType.CTX_DESTROY: (gpu3d.CtxDestroy(), 24),
    CommandType.CTX_ATTACH_RESOURCE: (gpu3d.CtxAttachResource(1), 32),
    CommandType.CTX_DETACH_RESOURCE: (gpu3d.CtxDetachResource(1), 32),
    CommandType.RESOURCE_CREATE_3D: (gpu3d.ResourceCreate3d(1, 2, 1, 2, 64, 64), 72),
    CommandType.TRANSFER_TO_HOST_3D: (gpu3d.TransferToHost3d(Box(0, 0, 0, 1), 0, 1), 72),
    CommandType.TRANSFER_FROM_HOST_3D: (gpu3d.TransferFromHost3d(Box(0, 0, 0, 1), 0, 1), 72),
    CommandType.SUBMIT_3D: (gpu3d.Submit3d(bytes(8)), 40),
}


@given(commands, u32, u64, u32, st.integers(0, 255))
def test_commands_survive_a_round_trip(command: Command, flags: int, fence_id: int, ctx_id: int, ring: int) -> None:
    data = command.encode(flags, fence_id, ctx_id, ring)
    assert decode_any_command(memoryview(data)) == command
    assert ControlHeader.decode(data) == ControlHeader(command.type, flags, fence_id, ctx_id, ring)


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.name)
def test_requests_have_the_size_of_their_struct(kind: CommandType) -> None:
    command, size = SIZES[kind]
    assert command.type == kind
    assert len(command.encode()) == size


@pytest.mark.parametrize("kind", SIZES, ids=lambda kind: kind.name)
def test_a_request_one_byte_short_is_refused(kind: CommandType) -> None:
    command, size = SIZES[kind]
    with pytest.raises(PeerError):
        decode_any_command(command.encode()[: size - 1])


def test_bytes_of_a_context() -> None:
    body = gpu3d.CtxCreate(b"balls", gpu3d.Capset.VIRGL2).encode()[24:]
    assert body == struct.pack("<II", 5, 2) + b"balls".ljust(64, b"\0")


def test_a_name_longer_than_its_field_is_refused_or_cut() -> None:
    with pytest.raises(ValueError, match="65"):
        gpu3d.CtxCreate(b"x" * 65).encode()
    lying = ControlHeader(CommandType.CTX_CREATE).encode() + struct.pack("<II64s", 0xFFFFFFFF, 0, b"x" * 64)
    assert decode_any_command(lying + b"more") == gpu3d.CtxCreate(b"x" * 64)


def test_bytes_of_a_resource() -> None:
    body = gpu3d.ResourceCreate3d(*range(1, 12)).encode()[24:]
    assert struct.unpack("<12I", body) == (*range(1, 12), 0)


def test_bytes_of_a_transfer() -> None:
    body = gpu3d.TransferToHost3d(Box(1, 2, 3, 4, 5, 6), 7, 8, 9, 10, 11).encode()[24:]
    assert struct.unpack("<6IQ4I", body) == tuple(range(1, 12))


def test_bytes_of_a_submission() -> None:
    data = gpu3d.Submit3d(bytearray(b"abcd")).encode(vg.HeaderFlag.FENCE | vg.HeaderFlag.INFO_RING_IDX, 9, 3, 1)
    assert data == struct.pack("<IIQIIII4s", 0x207, 3, 9, 3, 1, 4, 0, b"abcd")


@pytest.mark.parametrize(("size", "supplied"), [(0xFFFFFFFF, 8), (9, 8), (1, 0)])
def test_a_longer_stream_announced_than_supplied_is_refused(size: int, supplied: int) -> None:
    data = ControlHeader(CommandType.SUBMIT_3D).encode() + struct.pack("<II", size, 0)
    with pytest.raises(PeerError, match="announced"):
        decode_any_command(data + bytes(supplied))


def test_a_stream_is_a_private_copy_and_ends_where_it_says() -> None:
    data = bytearray(gpu3d.Submit3d(b"abcd").encode() + b"more")
    command = decode_any_command(data)
    data[:] = bytes(len(data))
    assert command == gpu3d.Submit3d(b"abcd")


def test_2d_commands_are_decoded_too_and_others_are_unknown() -> None:
    command = vg.ResourceUnref(1)
    assert decode_any_command(command.encode()) == command
    assert decode_any_command(ControlHeader(0x0210).encode()) == vg.Unknown(0x0210)


@given(st.sampled_from([*CommandType]), st.binary(max_size=120))
def test_noise_raises_nothing_but_peer_error(kind: int, noise: bytes) -> None:
    for data in (noise, ControlHeader(kind).encode() + noise):
        try:
            decode_any_command(data)
        except PeerError:
            continue


def test_capability_information_has_no_stray_bytes() -> None:
    info = gpu3d.CapsetInfo(1, 2, 3)
    assert info.encode() == struct.pack("<IIII", 1, 2, 3, 0)
    assert gpu3d.CapsetInfo.decode(info.encode() + b"more") == info
    with pytest.raises(PeerError):
        gpu3d.CapsetInfo.decode(bytes(15))
