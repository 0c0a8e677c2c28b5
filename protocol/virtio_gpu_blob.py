"""virtio-gpu commands of blob resources and of sharing (virtio 1.3 section 5.7.6.8, /usr/include/linux/virtio_gpu.h).

RESOURCE_ASSIGN_UUID needs the feature RESOURCE_UUID, the others RESOURCE_BLOB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Self

from protocol.errors import PeerError
from protocol.virtio_gpu import ENTRY_SIZE, HEADER_SIZE, Command, CommandType, Data, Rect, RectCommand

UUID_SIZE = 16
"""Bytes of a resource's UUID."""
MAX_PLANES = 4
"""Strides and offsets in struct virtio_gpu_set_scanout_blob."""

_MAP_INFO = struct.Struct("<I4x")


class BlobMem(IntEnum):
    """VIRTIO_GPU_BLOB_MEM_*: where a blob's bytes are."""

    GUEST = 1
    """In guest memory only: the entries of RESOURCE_CREATE_BLOB."""
    HOST3D = 2
    """Made by the renderer from blob_id."""
    HOST3D_GUEST = 3
    """Made by the renderer, and shadowed in guest memory."""


class BlobFlag(IntFlag):
    """VIRTIO_GPU_BLOB_FLAG_*: what a blob will be used for."""

    USE_MAPPABLE = 1
    """RESOURCE_MAP_BLOB."""
    USE_SHAREABLE = 2
    """Other devices of the guest, by its UUID."""
    USE_CROSS_DEVICE = 4
    """Other devices, with a layout that they understand."""


class MapCache(IntEnum):
    """VIRTIO_GPU_MAP_CACHE_*: how a guest must map a blob."""

    NONE = 0
    CACHED = 1
    UNCACHED = 2
    WC = 3
    """Write combining."""


@dataclass(frozen=True, slots=True)
class ResourceAssignUuid(Command):
    """struct virtio_gpu_resource_assign_uuid: asks for a name under which other devices know the resource."""

    _TYPE = CommandType.RESOURCE_ASSIGN_UUID
    _BODY = struct.Struct("<I4x")
    resource_id: int
    """The resource."""


@dataclass(frozen=True, slots=True)
class ResourceCreateBlob(Command):
    """struct virtio_gpu_resource_create_blob and its entries. The header's ctx_id is the context that knows blob_id."""

    _TYPE = CommandType.RESOURCE_CREATE_BLOB
    _BODY = struct.Struct("<IIIIQQ")
    resource_id: int
    """The guest's number for it, not 0."""
    blob_mem: int
    """A `BlobMem`, or a number that is none."""
    blob_flags: int
    """`BlobFlag` bits."""
    nr_entries: int
    """How many entries follow."""
    blob_id: int
    """What the context calls it; 0 with GUEST."""
    size: int
    """Bytes."""
    entries: bytes = b""
    """nr_entries times struct virtio_gpu_mem_entry: address u64, length u32, padding u32."""

    @classmethod
    def decode(cls, data: Data) -> Self:
        """As Command.decode, and PeerError when fewer entries came than are announced."""
        resource_id, blob_mem, blob_flags, nr_entries, blob_id, size = cls._members(data)
        start = HEADER_SIZE + cls._BODY.size
        if nr_entries > (len(data) - start) // ENTRY_SIZE:
            raise PeerError(f"{nr_entries} entries announced in {len(data)} bytes")
        entries = bytes(data[start : start + nr_entries * ENTRY_SIZE])
        return cls(resource_id, blob_mem, blob_flags, nr_entries, blob_id, size, entries)

    def _body(self) -> bytes:
        fixed = (self.resource_id, self.blob_mem, self.blob_flags, self.nr_entries, self.blob_id, self.size)
        return self._BODY.pack(*fixed) + self.entries


@dataclass(frozen=True, slots=True)
class SetScanoutBlob(RectCommand):
    """struct virtio_gpu_set_scanout_blob: SET_SCANOUT that says how a blob's bytes are pixels."""

    _TYPE = CommandType.SET_SCANOUT_BLOB
    _BODY = struct.Struct("<IIIIIIIII4x4I4I")
    rect: Rect
    """The part of the picture to show."""
    scanout_id: int
    """Where to show it."""
    resource_id: int
    """The blob; 0 disables the scanout."""
    width: int
    """Of the picture, in pixels."""
    height: int
    """Of the picture, in pixels."""
    format: int
    """A `protocol.virtio_gpu.Format`, or a number that is none."""
    strides: tuple[int, int, int, int]
    """Bytes from one row to the next, for each plane."""
    offsets: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Where a plane begins in the blob, in bytes."""

    @classmethod
    def _build(cls, members: tuple[int, ...]) -> Self:
        sid, rid, width, height, fmt, s0, s1, s2, s3, o0, o1, o2, o3 = members[4:]
        return cls(Rect(*members[:4]), sid, rid, width, height, fmt, (s0, s1, s2, s3), (o0, o1, o2, o3))

    def _body(self) -> bytes:
        r = self.rect
        place = (r.x, r.y, r.width, r.height, self.scanout_id, self.resource_id)
        return self._BODY.pack(*place, self.width, self.height, self.format, *self.strides, *self.offsets)


@dataclass(frozen=True, slots=True)
class ResourceMapBlob(Command):
    """struct virtio_gpu_resource_map_blob: the blob into the host-visible shared memory region."""

    _TYPE = CommandType.RESOURCE_MAP_BLOB
    _BODY = struct.Struct("<I4xQ")
    resource_id: int
    """The blob."""
    offset: int
    """Where in the region, in bytes."""


@dataclass(frozen=True, slots=True)
class ResourceUnmapBlob(Command):
    """struct virtio_gpu_resource_unmap_blob."""

    _TYPE = CommandType.RESOURCE_UNMAP_BLOB
    _BODY = struct.Struct("<I4x")
    resource_id: int
    """The blob."""


def uuid_payload(uuid: bytes) -> bytes:
    """struct virtio_gpu_resp_resource_uuid without its header. ValueError when it is not 16 bytes."""
    if len(uuid) != UUID_SIZE:
        raise ValueError(f"UUID of {len(uuid)} bytes")
    return uuid


def parse_uuid(payload: Data) -> bytes:
    """The 16 bytes of an OK_RESOURCE_UUID, from what follows the header. PeerError when there are fewer."""
    if len(payload) < UUID_SIZE:
        raise PeerError(f"UUID response of {len(payload)} bytes")
    return bytes(payload[:UUID_SIZE])


def map_info_payload(cache: MapCache) -> bytes:
    """struct virtio_gpu_resp_map_info without its header."""
    return _MAP_INFO.pack(cache)


def parse_map_info(payload: Data) -> int:
    """The caching of an OK_MAP_INFO (`MapCache`, or a number that is none). PeerError when it is too short."""
    if len(payload) < _MAP_INFO.size:
        raise PeerError(f"map information of {len(payload)} bytes")
    map_info: int = _MAP_INFO.unpack_from(payload)[0]
    return map_info & 0x0F
