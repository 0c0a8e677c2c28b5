"""Blob commands: struct sizes of linux/virtio_gpu.h, round trips, short and lying requests."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import virtio_gpu_blob as blob
from protocol.errors import PeerError
from protocol.virtio_gpu import Command, CommandType, ControlHeader, Rect
from protocol.virtio_gpu_3d import decode_any_command

u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
rects = st.builds(Rect, u32, u32, u32, u32)
fours = st.tuples(u32, u32, u32, u32)
blobs = st.integers(0, 8).flatmap(
    lambda n: st.builds(
        blob.ResourceCreateBlob, u32, u32, u32, st.just(n), u64, u64, st.binary(min_size=16 * n, max_size=16 * n)
    )
)
commands = st.one_of(
    st.builds(blob.ResourceAssignUuid, u32),
    blobs,
    st.builds(blob.SetScanoutBlob, rects, u32, u32, u32, u32, u32, fours, fours),
    st.builds(blob.ResourceMapBlob, u32, u64),
    st.builds(blob.ResourceUnmapBlob, u32),
)
SIZES = {
    CommandType.RESOURCE_ASSIGN_UUID: (blob.ResourceAssignUuid(1), 32),
    CommandType.RESOURCE_CREATE_BLOB: (blob.ResourceCreateBlob(1, 1, 0, 1, 0, 16, bytes(16)), 72),
    CommandType.SET_SCANOUT_BLOB: (blob.SetScanoutBlob(Rect(1, 2, 3, 4), 0, 1, 5, 6, 1, (1, 2, 3, 4)), 96),
    CommandType.RESOURCE_MAP_BLOB: (blob.ResourceMapBlob(1, 2), 40),
    CommandType.RESOURCE_UNMAP_BLOB: (blob.ResourceUnmapBlob(1), 32),
}


@given(commands, u64, u32)
def test_commands_survive_a_round_trip(command: Command, fence_id: int, ctx_id: int) -> None:
    data = command.encode(1, fence_id, ctx_id)
    assert decode_any_command(memoryview(data)) == command
    assert ControlHeader.decode(data) == ControlHeader(command.type, 1, fence_id, ctx_id)


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


def test_bytes_of_a_blob() -> None:
    body = blob.ResourceCreateBlob(1, blob.BlobMem.GUEST, blob.BlobFlag.USE_SHAREABLE, 0, 4, 5).encode()[24:]
    assert body == struct.pack("<IIIIQQ", 1, 1, 2, 0, 4, 5)


def test_bytes_of_a_blob_scanout() -> None:
    command = blob.SetScanoutBlob(Rect(1, 2, 3, 4), 5, 6, 7, 8, 9, (10, 11, 12, 13), (14, 15, 16, 17))
    assert struct.unpack("<18I", command.encode()[24:]) == (*range(1, 10), 0, *range(10, 18))


@pytest.mark.parametrize(("count", "supplied"), [(0xFFFFFFFF, 16), (2, 31), (1, 0)])
def test_more_entries_announced_than_supplied_are_refused(count: int, supplied: int) -> None:
    data = ControlHeader(CommandType.RESOURCE_CREATE_BLOB).encode() + struct.pack("<IIIIQQ", 1, 1, 0, count, 0, 16)
    with pytest.raises(PeerError, match="announced"):
        decode_any_command(data + bytes(supplied))


def test_a_uuid_is_16_bytes() -> None:
    uuid = bytes(range(16))
    assert blob.parse_uuid(blob.uuid_payload(uuid) + b"more") == uuid
    with pytest.raises(ValueError, match="15"):
        blob.uuid_payload(uuid[1:])
    with pytest.raises(PeerError):
        blob.parse_uuid(uuid[1:])


def test_map_information() -> None:
    assert blob.map_info_payload(blob.MapCache.WC) == struct.pack("<II", 3, 0)
    assert blob.parse_map_info(struct.pack("<II", 0xF2, 0)) == blob.MapCache.UNCACHED
    with pytest.raises(PeerError):
        blob.parse_map_info(bytes(7))
