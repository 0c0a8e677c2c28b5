"""virtio-gpu commands, responses and configuration (virtio 1.3 section 5.7, /usr/include/linux/virtio_gpu.h).

All numbers are little endian. Commands decode from data that is already private to us; they also encode, for the
embedded guest's driver. What a request of an unknown type holds is not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, Self

from protocol.errors import PeerError

HEADER_SIZE = 24
"""Bytes of struct virtio_gpu_ctrl_hdr."""
MAX_SCANOUTS = 16
"""VIRTIO_GPU_MAX_SCANOUTS."""
MAX_EDID = 1024
"""Bytes of EDID in struct virtio_gpu_resp_edid."""
ENTRY_SIZE = 16
"""Bytes of struct virtio_gpu_mem_entry."""
CONFIG_SIZE = 16
"""Bytes of struct virtio_gpu_config."""
CURSOR_SIDE = 64
"""Width and height of a cursor in pixels."""
EVENT_DISPLAY = 1
"""Bit of events_read and events_clear: the display information has changed."""

_HEADER = struct.Struct("<IIQIB3x")
_RECT = struct.Struct("<IIII")
_DISPLAY_ONE = struct.Struct("<IIIIII")
_EDID = struct.Struct("<II1024s")
_ENTRY = struct.Struct("<QII")
_CONFIG = struct.Struct("<IIII")
DISPLAY_INFO_SIZE = MAX_SCANOUTS * _DISPLAY_ONE.size
"""Bytes of the modes in struct virtio_gpu_resp_display_info."""
EDID_SIZE = _EDID.size
"""Bytes of struct virtio_gpu_resp_edid after its header."""

Data = bytes | bytearray | memoryview


class Feature(IntEnum):
    """VIRTIO_GPU_F_*: bit numbers of the device's own features."""

    VIRGL = 0
    """The 3D commands and capability sets."""
    EDID = 1
    """GET_EDID."""
    RESOURCE_UUID = 2
    """RESOURCE_ASSIGN_UUID."""
    RESOURCE_BLOB = 3
    """RESOURCE_CREATE_BLOB and SET_SCANOUT_BLOB."""
    CONTEXT_INIT = 4
    """CTX_CREATE's context_init, and timelines inside a context (`HeaderFlag.INFO_RING_IDX`)."""


class CommandType(IntEnum):
    """VIRTIO_GPU_CMD_*: types of requests."""

    GET_DISPLAY_INFO = 0x0100
    RESOURCE_CREATE_2D = 0x0101
    RESOURCE_UNREF = 0x0102
    SET_SCANOUT = 0x0103
    RESOURCE_FLUSH = 0x0104
    TRANSFER_TO_HOST_2D = 0x0105
    RESOURCE_ATTACH_BACKING = 0x0106
    RESOURCE_DETACH_BACKING = 0x0107
    GET_CAPSET_INFO = 0x0108
    GET_CAPSET = 0x0109
    GET_EDID = 0x010A
    RESOURCE_ASSIGN_UUID = 0x010B
    RESOURCE_CREATE_BLOB = 0x010C
    SET_SCANOUT_BLOB = 0x010D
    CTX_CREATE = 0x0200
    CTX_DESTROY = 0x0201
    CTX_ATTACH_RESOURCE = 0x0202
    CTX_DETACH_RESOURCE = 0x0203
    RESOURCE_CREATE_3D = 0x0204
    TRANSFER_TO_HOST_3D = 0x0205
    TRANSFER_FROM_HOST_3D = 0x0206
    SUBMIT_3D = 0x0207
    RESOURCE_MAP_BLOB = 0x0208
    RESOURCE_UNMAP_BLOB = 0x0209
    UPDATE_CURSOR = 0x0300
    MOVE_CURSOR = 0x0301


class ResponseType(IntEnum):
    """VIRTIO_GPU_RESP_*: types of responses."""

    OK_NODATA = 0x1100
    OK_DISPLAY_INFO = 0x1101
    OK_CAPSET_INFO = 0x1102
    OK_CAPSET = 0x1103
    OK_EDID = 0x1104
    OK_RESOURCE_UUID = 0x1105
    OK_MAP_INFO = 0x1106
    ERR_UNSPEC = 0x1200
    ERR_OUT_OF_MEMORY = 0x1201
    ERR_INVALID_SCANOUT_ID = 0x1202
    ERR_INVALID_RESOURCE_ID = 0x1203
    ERR_INVALID_CONTEXT_ID = 0x1204
    ERR_INVALID_PARAMETER = 0x1205


class Format(IntEnum):
    """enum virtio_gpu_formats: the order of a pixel's bytes in memory."""

    B8G8R8A8_UNORM = 1
    B8G8R8X8_UNORM = 2
    A8R8G8B8_UNORM = 3
    X8R8G8B8_UNORM = 4
    R8G8B8A8_UNORM = 67
    X8B8G8R8_UNORM = 68
    A8B8G8R8_UNORM = 121
    R8G8B8X8_UNORM = 134


class HeaderFlag(IntFlag):
    """VIRTIO_GPU_FLAG_*: bits of a header's flags."""

    FENCE = 1
    """The response comes when the work is done, and carries fence_id."""
    INFO_RING_IDX = 2
    """The fence belongs to the timeline ring_idx of the context; needs CONTEXT_INIT."""


@dataclass(frozen=True, slots=True)
class ControlHeader:
    """struct virtio_gpu_ctrl_hdr."""

    type: int
    """A `CommandType` or `ResponseType`, or a number that is none."""
    flags: int = 0
    """`HeaderFlag` bits."""
    fence_id: int = 0
    """The fence, when flags has FENCE."""
    ctx_id: int = 0
    """The rendering context; 0 for 2D."""
    ring_idx: int = 0
    """The timeline inside the context, when flags has INFO_RING_IDX."""

    def encode(self) -> bytes:
        """24 bytes."""
        return _HEADER.pack(self.type, self.flags, self.fence_id, self.ctx_id, self.ring_idx)

    @classmethod
    def decode(cls, data: Data) -> ControlHeader:
        """Reads the first 24 bytes. PeerError when there are fewer."""
        if len(data) < HEADER_SIZE:
            raise PeerError(f"{len(data)} bytes are too few for a virtio-gpu header")
        return cls(*_HEADER.unpack_from(data))


@dataclass(frozen=True, slots=True)
class Rect:
    """struct virtio_gpu_rect, in pixels."""

    x: int
    """Left edge."""
    y: int
    """Upper edge."""
    width: int
    """Pixels in a row."""
    height: int
    """Rows."""

    def encode(self) -> bytes:
        """16 bytes."""
        return _RECT.pack(self.x, self.y, self.width, self.height)


class Command:
    """A request without its header. A subclass's fields are its struct's members, in order, padding left out."""

    __slots__: ClassVar[tuple[str, ...]] = ()
    _TYPE: ClassVar[CommandType]
    _BODY: ClassVar[struct.Struct]

    @property
    def type(self) -> int:
        """The type in the header."""
        return self._TYPE

    def encode(self, flags: int = 0, fence_id: int = 0, ctx_id: int = 0, ring_idx: int = 0) -> bytes:
        """The whole request, with a header of these values."""
        return ControlHeader(self.type, flags, fence_id, ctx_id, ring_idx).encode() + self._body()

    @classmethod
    def decode(cls, data: Data) -> Self:
        """From a whole request; bytes after the struct are not looked at. PeerError when it is too short."""
        return cls._build(cls._members(data))

    @classmethod
    def _members(cls, data: Data) -> tuple[int, ...]:
        if len(data) < HEADER_SIZE + cls._BODY.size:
            raise PeerError(f"{len(data)} bytes are too few for {cls._TYPE.name}")
        return cls._BODY.unpack_from(data, HEADER_SIZE)

    @classmethod
    def _build(cls, members: tuple[int, ...]) -> Self:
        return cls(*members)

    def _body(self) -> bytes:
        return self._BODY.pack(*(getattr(self, name) for name in self.__slots__))


class RectCommand(Command):
    """A request whose struct begins with a rectangle."""

    __slots__: ClassVar[tuple[str, ...]] = ()
    rect: Rect

    @classmethod
    def _build(cls, members: tuple[int, ...]) -> Self:
        make: Callable[..., Self] = cls
        return make(Rect(*members[:4]), *members[4:])

    def _body(self) -> bytes:
        rect = self.rect
        rest = (getattr(self, name) for name in self.__slots__[1:])
        return self._BODY.pack(rect.x, rect.y, rect.width, rect.height, *rest)


@dataclass(frozen=True, slots=True)
class GetDisplayInfo(Command):
    """Asks for the modes of all scanouts."""

    _TYPE = CommandType.GET_DISPLAY_INFO
    _BODY = struct.Struct("")


@dataclass(frozen=True, slots=True)
class GetEdid(Command):
    """struct virtio_gpu_cmd_get_edid."""

    _TYPE = CommandType.GET_EDID
    _BODY = struct.Struct("<I4x")
    scanout: int
    """Which scanout's EDID."""


@dataclass(frozen=True, slots=True)
class ResourceCreate2d(Command):
    """struct virtio_gpu_resource_create_2d."""

    _TYPE = CommandType.RESOURCE_CREATE_2D
    _BODY = struct.Struct("<IIII")
    resource_id: int
    """The guest's number for it, not 0."""
    format: int
    """A `Format`, or a number that is none."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""


@dataclass(frozen=True, slots=True)
class ResourceUnref(Command):
    """struct virtio_gpu_resource_unref."""

    _TYPE = CommandType.RESOURCE_UNREF
    _BODY = struct.Struct("<I4x")
    resource_id: int
    """The resource to destroy."""


@dataclass(frozen=True, slots=True)
class SetScanout(RectCommand):
    """struct virtio_gpu_set_scanout."""

    _TYPE = CommandType.SET_SCANOUT
    _BODY = struct.Struct("<IIIIII")
    rect: Rect
    """The part of the resource to show."""
    scanout_id: int
    """Where to show it."""
    resource_id: int
    """The resource; 0 disables the scanout."""


@dataclass(frozen=True, slots=True)
class ResourceFlush(RectCommand):
    """struct virtio_gpu_resource_flush."""

    _TYPE = CommandType.RESOURCE_FLUSH
    _BODY = struct.Struct("<IIIII4x")
    rect: Rect
    """The part of the resource to bring to the screens."""
    resource_id: int
    """The resource."""


@dataclass(frozen=True, slots=True)
class TransferToHost2d(RectCommand):
    """struct virtio_gpu_transfer_to_host_2d."""

    _TYPE = CommandType.TRANSFER_TO_HOST_2D
    _BODY = struct.Struct("<IIIIQI4x")
    rect: Rect
    """The part of the resource to copy from its backing."""
    offset: int
    """Where the rectangle's first pixel lies in the backing, in bytes."""
    resource_id: int
    """The resource."""


@dataclass(frozen=True, slots=True)
class ResourceAttachBacking(Command):
    """struct virtio_gpu_resource_attach_backing and its entries."""

    _TYPE = CommandType.RESOURCE_ATTACH_BACKING
    _BODY = struct.Struct("<II")
    resource_id: int
    """The resource."""
    nr_entries: int
    """How many entries follow."""
    entries: bytes
    """nr_entries times struct virtio_gpu_mem_entry: address u64, length u32, padding u32."""

    @classmethod
    def decode(cls, data: Data) -> Self:
        """As Command.decode, and PeerError when fewer entries came than are announced."""
        resource_id, nr_entries = cls._members(data)
        start = HEADER_SIZE + cls._BODY.size
        if nr_entries > (len(data) - start) // ENTRY_SIZE:
            raise PeerError(f"{nr_entries} entries announced in {len(data)} bytes")
        return cls(resource_id, nr_entries, bytes(data[start : start + nr_entries * ENTRY_SIZE]))

    def _body(self) -> bytes:
        return self._BODY.pack(self.resource_id, self.nr_entries) + self.entries


@dataclass(frozen=True, slots=True)
class ResourceDetachBacking(Command):
    """struct virtio_gpu_resource_detach_backing."""

    _TYPE = CommandType.RESOURCE_DETACH_BACKING
    _BODY = struct.Struct("<I4x")
    resource_id: int
    """The resource."""


@dataclass(frozen=True, slots=True)
class UpdateCursor(Command):
    """struct virtio_gpu_update_cursor: a new picture and position."""

    _TYPE = CommandType.UPDATE_CURSOR
    _BODY = struct.Struct("<III4xIII4x")
    scanout_id: int
    """Where the cursor is."""
    x: int
    """Position of the picture's left edge; values from 2^31 are negative ones."""
    y: int
    """Position of the picture's upper edge; values from 2^31 are negative ones."""
    resource_id: int
    """The picture, 64x64; 0 hides the cursor."""
    hot_x: int
    """The hot spot in the picture."""
    hot_y: int
    """The hot spot in the picture."""


@dataclass(frozen=True, slots=True)
class MoveCursor(Command):
    """struct virtio_gpu_update_cursor: a new position only."""

    _TYPE = CommandType.MOVE_CURSOR
    _BODY = struct.Struct("<III4xIII4x")
    scanout_id: int
    """Where the cursor is."""
    x: int
    """As in UpdateCursor."""
    y: int
    """As in UpdateCursor."""
    resource_id: int = 0
    """Not used."""
    hot_x: int = 0
    """Not used."""
    hot_y: int = 0
    """Not used."""


@dataclass(frozen=True, slots=True)
class GetCapsetInfo(Command):
    """struct virtio_gpu_get_capset_info."""

    _TYPE = CommandType.GET_CAPSET_INFO
    _BODY = struct.Struct("<I4x")
    capset_index: int
    """0 to num_capsets - 1."""


@dataclass(frozen=True, slots=True)
class GetCapset(Command):
    """struct virtio_gpu_get_capset."""

    _TYPE = CommandType.GET_CAPSET
    _BODY = struct.Struct("<II")
    capset_id: int
    """Which capability set: a `protocol.virtio_gpu_3d.Capset`."""
    capset_version: int
    """Which version of it."""


@dataclass(frozen=True, slots=True)
class Unknown(Command):
    """A request of a type that is not decoded here: ERR_UNSPEC answers it."""

    number: int
    """The type in its header."""

    @property
    def type(self) -> int:
        return self.number

    def _body(self) -> bytes:
        return b""


_COMMANDS: dict[int, type[Command]] = {
    command._TYPE: command
    for command in (
        GetDisplayInfo,
        GetEdid,
        ResourceCreate2d,
        ResourceUnref,
        SetScanout,
        ResourceFlush,
        TransferToHost2d,
        ResourceAttachBacking,
        ResourceDetachBacking,
        UpdateCursor,
        MoveCursor,
        GetCapsetInfo,
        GetCapset,
    )
}


def decode_command(data: Data) -> Command:
    """A whole request with its header. PeerError when it is shorter than its struct; `Unknown` for other types.

    The 3D and blob commands are `protocol.virtio_gpu_3d.decode_any_command`'s.
    """
    kind = ControlHeader.decode(data).type
    command = _COMMANDS.get(kind)
    return command.decode(data) if command else Unknown(kind)


@dataclass(frozen=True, slots=True)
class MemEntry:
    """struct virtio_gpu_mem_entry: one piece of a resource's backing."""

    addr: int
    """Guest-physical address."""
    length: int
    """Bytes."""

    def encode(self) -> bytes:
        """16 bytes."""
        return _ENTRY.pack(self.addr, self.length, 0)


@dataclass(frozen=True, slots=True)
class DisplayOne:
    """struct virtio_gpu_display_one: the preferred mode of a scanout."""

    rect: Rect
    """Its size and its place on the whole desktop."""
    enabled: bool = True
    """Whether something is connected."""
    flags: int = 0
    """None are defined."""

    def encode(self) -> bytes:
        """24 bytes."""
        return self.rect.encode() + struct.pack("<II", self.enabled, self.flags)


def display_info_payload(modes: Sequence[DisplayOne]) -> bytes:
    """The 16 modes of struct virtio_gpu_resp_display_info, without its header; missing ones are zero."""
    if len(modes) > MAX_SCANOUTS:
        raise ValueError(f"{len(modes)} modes")
    return b"".join(mode.encode() for mode in modes).ljust(DISPLAY_INFO_SIZE, b"\0")


def parse_display_info(payload: Data) -> tuple[DisplayOne, ...]:
    """The 16 modes, from what follows the header. PeerError when it is too short."""
    if len(payload) < DISPLAY_INFO_SIZE:
        raise PeerError(f"display information of {len(payload)} bytes")
    entries = _DISPLAY_ONE.iter_unpack(bytes(payload[:DISPLAY_INFO_SIZE]))
    return tuple(DisplayOne(Rect(x, y, w, h), bool(enabled), flags) for x, y, w, h, enabled, flags in entries)


def edid_payload(blob: bytes) -> bytes:
    """struct virtio_gpu_resp_edid without its header; blob at most 1024 bytes."""
    if len(blob) > MAX_EDID:
        raise ValueError(f"EDID of {len(blob)} bytes")
    return _EDID.pack(len(blob), 0, blob)


def parse_edid(payload: Data) -> bytes:
    """The EDID, from what follows the header. PeerError when it is too short or its size is over 1024."""
    if len(payload) < EDID_SIZE:
        raise PeerError(f"EDID response of {len(payload)} bytes")
    size, _, blob = _EDID.unpack_from(payload)
    if size > MAX_EDID:
        raise PeerError(f"EDID of {size} bytes announced")
    return bytes(blob[:size])


@dataclass(frozen=True, slots=True)
class Response:
    """A response as the guest gets it."""

    header: ControlHeader
    """Type, and the request's fence."""
    payload: bytes
    """What follows the header."""

    def encode(self) -> bytes:
        """Header and payload."""
        return self.header.encode() + self.payload

    @classmethod
    def decode(cls, data: Data) -> Response:
        """PeerError when there is no whole header."""
        return cls(ControlHeader.decode(data), bytes(data[HEADER_SIZE:]))

    def display_info(self) -> tuple[DisplayOne, ...]:
        """The modes of an OK_DISPLAY_INFO. PeerError when it is something else."""
        return parse_display_info(self.expect(ResponseType.OK_DISPLAY_INFO))

    def edid(self) -> bytes:
        """The EDID of an OK_EDID. PeerError when it is something else."""
        return parse_edid(self.expect(ResponseType.OK_EDID))

    def expect(self, kind: ResponseType) -> bytes:
        """The payload of a response of this type. PeerError when it is of another one."""
        if self.header.type != kind:
            raise PeerError(f"response {self.header.type:#x} where {kind.name} belongs")
        return self.payload


@dataclass(frozen=True, slots=True)
class GpuConfig:
    """struct virtio_gpu_config, the configuration space."""

    events_read: int = 0
    """Pending events: EVENT_DISPLAY."""
    events_clear: int = 0
    """What a driver writes to clear events; reads as 0."""
    num_scanouts: int = 1
    """1 to 16."""
    num_capsets: int = 0
    """Capability sets; 0 without 3D."""

    def encode(self) -> bytes:
        """16 bytes."""
        return _CONFIG.pack(self.events_read, self.events_clear, self.num_scanouts, self.num_capsets)

    @classmethod
    def decode(cls, data: Data) -> GpuConfig:
        """From 16 bytes; PeerError for another length."""
        if len(data) != CONFIG_SIZE:
            raise PeerError(f"configuration space of {len(data)} bytes")
        return cls(*_CONFIG.unpack(data))
