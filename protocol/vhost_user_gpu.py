"""The display socket: vhost-user-gpu messages (QEMU's docs/interop/vhost-user-gpu, version 10.0).

The device sends requests through a `DisplayEncoder`, one per socket: it keeps what this socket's VMM has been told, and
cannot be brought to send what is known to hurt a VMM (drawing before or beside a scanout, sizes no VMM can hold, an
EDID request for an output that is not there). Replies come out of a `ReplyDecoder`. The VMM's side is here too, for
the embedded guest and for tests. Headers are in native byte order, virtio structs in little endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Protocol

from protocol.errors import PeerError
from protocol.virtio_gpu import (
    CURSOR_SIDE,
    DISPLAY_INFO_SIZE,
    EDID_SIZE,
    ControlHeader,
    Data,
    DisplayOne,
    Rect,
    ResponseType,
    display_info_payload,
    edid_payload,
    parse_display_info,
    parse_edid,
)
from protocol.virtio_gpu import HEADER_SIZE as VIRTIO_HEADER_SIZE

HEADER_SIZE = 12
"""Bytes of a message header: request, flags, size (u32 each)."""
REPLY = 1 << 2
"""Flag of a reply. Other flags are not defined, and not looked at."""
CURSOR_BYTES = CURSOR_SIDE * CURSOR_SIDE * 4
"""Bytes of a cursor's picture."""
MAX_SIDE = 16384
"""Pixels of a scanout's width or height: the largest that common compositors and GL implementations take."""
MAX_AREA = 16384 * 8192
"""Pixels of a scanout: 512 MiB at 4 bytes each. A VMM holds them in one block, QEMU aborts when it cannot have it, and
sizes below 2^31 bytes stay clear of signed overflow; four times 8K (7680x4320) still fits."""
MAX_REPLY = VIRTIO_HEADER_SIZE + EDID_SIZE
"""Payload bytes of the largest reply, GET_EDID's."""

_HEADER = struct.Struct("=III")
_U64 = struct.Struct("=Q")
_U32 = struct.Struct("=I")
_POS = struct.Struct("=III")
_CURSOR = struct.Struct("=IIIII")
_SCANOUT = struct.Struct("=III")
_UPDATE = struct.Struct("=IIIII")


class DisplayRequest(IntEnum):
    """VHOST_USER_GPU_*: requests of the device."""

    GET_PROTOCOL_FEATURES = 1
    SET_PROTOCOL_FEATURES = 2
    GET_DISPLAY_INFO = 3
    CURSOR_POS = 4
    CURSOR_POS_HIDE = 5
    CURSOR_UPDATE = 6
    SCANOUT = 7
    UPDATE = 8
    DMABUF_SCANOUT = 9
    DMABUF_UPDATE = 10
    GET_EDID = 11
    DMABUF_SCANOUT2 = 12


class DisplayFeature(IntEnum):
    """Bit numbers of VHOST_USER_GPU_PROTOCOL_F_*."""

    EDID = 0
    DMABUF2 = 1


class DisplayMessage(Protocol):
    """A request or a reply."""

    def encode(self) -> bytes:
        """The whole message."""


def _message(request: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return _HEADER.pack(request, flags, len(payload)) + payload


# ---- requests, device to VMM -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GetProtocolFeatures:
    """Asks which protocol features the VMM has."""

    def encode(self) -> bytes:
        return _message(DisplayRequest.GET_PROTOCOL_FEATURES)


@dataclass(frozen=True, slots=True)
class SetProtocolFeatures:
    """Says which of them are used."""

    features: int
    """Bits of `DisplayFeature`."""

    def encode(self) -> bytes:
        return _message(DisplayRequest.SET_PROTOCOL_FEATURES, _U64.pack(self.features))


@dataclass(frozen=True, slots=True)
class GetDisplayInfo:
    """Asks for the preferred modes of all outputs."""

    def encode(self) -> bytes:
        return _message(DisplayRequest.GET_DISPLAY_INFO)


@dataclass(frozen=True, slots=True)
class GetEdid:
    """Asks for an output's EDID. QEMU does not answer for an output that it does not have."""

    scanout: int
    """The output."""

    def encode(self) -> bytes:
        return _message(DisplayRequest.GET_EDID, _U32.pack(self.scanout))


@dataclass(frozen=True, slots=True)
class CursorPos:
    """Shows the cursor, or hides it, at a position."""

    scanout: int
    """Where the cursor is."""
    x: int
    """Position of the hot spot."""
    y: int
    """Position of the hot spot."""
    visible: bool = True
    """CURSOR_POS when it is, else CURSOR_POS_HIDE."""

    def encode(self) -> bytes:
        request = DisplayRequest.CURSOR_POS if self.visible else DisplayRequest.CURSOR_POS_HIDE
        return _message(request, _POS.pack(self.scanout, self.x, self.y))


@dataclass(frozen=True, slots=True)
class CursorUpdate:
    """A new cursor picture and its position."""

    scanout: int
    """Where the cursor is."""
    x: int
    """Position of the hot spot."""
    y: int
    """Position of the hot spot."""
    hot_x: int
    """The hot spot in the picture."""
    hot_y: int
    """The hot spot in the picture."""
    pixels: bytes
    """64 rows of 64 a8r8g8b8 pixels (bytes B G R A on a little-endian machine)."""

    def encode(self) -> bytes:
        fields = _CURSOR.pack(self.scanout, self.x, self.y, self.hot_x, self.hot_y)
        return _message(DisplayRequest.CURSOR_UPDATE, fields + self.pixels)


@dataclass(frozen=True, slots=True)
class Scanout:
    """A scanout's size."""

    scanout: int
    """Which."""
    width: int
    """In pixels; 0 disables the scanout."""
    height: int
    """In pixels; 0 disables the scanout."""

    def encode(self) -> bytes:
        return _message(DisplayRequest.SCANOUT, _SCANOUT.pack(self.scanout, self.width, self.height))


@dataclass(frozen=True, slots=True)
class Update:
    """New content for a rectangle of a scanout."""

    scanout: int
    """Which."""
    x: int
    """Left edge, relative to the scanout."""
    y: int
    """Upper edge, relative to the scanout."""
    width: int
    """Pixels in a row."""
    height: int
    """Rows."""
    pixels: bytes | memoryview
    """width * height x8r8g8b8 pixels without gaps (bytes B G R X on a little-endian machine)."""

    def header(self) -> bytes:
        """What goes before the pixels, so that they need not be copied."""
        return _update_header(self.scanout, Rect(self.x, self.y, self.width, self.height), len(self.pixels))

    def encode(self) -> bytes:
        return self.header() + bytes(self.pixels)


def _update_header(scanout: int, rect: Rect, size: int) -> bytes:
    fields = _UPDATE.pack(scanout, rect.x, rect.y, rect.width, rect.height)
    return _HEADER.pack(DisplayRequest.UPDATE, 0, _UPDATE.size + size) + fields


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message that is not decoded here."""

    request: int
    """Its number."""
    payload: bytes
    """Its payload as it came."""

    def encode(self) -> bytes:
        return _message(self.request, self.payload)


# ---- replies, VMM to device --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProtocolFeaturesReply:
    """Answers GET_PROTOCOL_FEATURES."""

    features: int
    """Bits of `DisplayFeature`, and perhaps unknown ones."""

    def encode(self) -> bytes:
        return _message(DisplayRequest.GET_PROTOCOL_FEATURES, _U64.pack(self.features), REPLY)


@dataclass(frozen=True, slots=True)
class DisplayInfoReply:
    """Answers GET_DISPLAY_INFO."""

    modes: tuple[DisplayOne, ...]
    """The preferred modes; 16 when decoded."""

    def encode(self) -> bytes:
        payload = ControlHeader(ResponseType.OK_DISPLAY_INFO).encode() + display_info_payload(self.modes)
        return _message(DisplayRequest.GET_DISPLAY_INFO, payload, REPLY)


@dataclass(frozen=True, slots=True)
class EdidReply:
    """Answers GET_EDID. It does not say for which output: replies come in the order of the requests."""

    edid: bytes
    """At most 1024 bytes."""

    def encode(self) -> bytes:
        payload = ControlHeader(ResponseType.OK_EDID).encode() + edid_payload(self.edid)
        return _message(DisplayRequest.GET_EDID, payload, REPLY)


# ---- decoding ----------------------------------------------------------------------------------------------------


def _unpack(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) != layout.size:
        raise PeerError(f"payload of {len(payload)} bytes where {layout.size} belong")
    return layout.unpack(payload)


def _virtio_payload(payload: bytes, size: int) -> bytes:
    if len(payload) != VIRTIO_HEADER_SIZE + size:
        raise PeerError(f"payload of {len(payload)} bytes where {VIRTIO_HEADER_SIZE + size} belong")
    return payload[VIRTIO_HEADER_SIZE:]


def _nothing(payload: bytes) -> None:
    if payload:
        raise PeerError(f"payload of {len(payload)} bytes where none belongs")


def _get_protocol_features(payload: bytes) -> DisplayMessage:
    _nothing(payload)
    return GetProtocolFeatures()


def _get_display_info(payload: bytes) -> DisplayMessage:
    _nothing(payload)
    return GetDisplayInfo()


def _cursor_pos(payload: bytes, visible: bool) -> DisplayMessage:
    scanout, x, y = _unpack(_POS, payload)
    return CursorPos(scanout, x, y, visible)


def _cursor_update(payload: bytes) -> DisplayMessage:
    if len(payload) != _CURSOR.size + CURSOR_BYTES:
        raise PeerError(f"cursor of {len(payload)} bytes")
    scanout, x, y, hot_x, hot_y = _CURSOR.unpack_from(payload)
    return CursorUpdate(scanout, x, y, hot_x, hot_y, payload[_CURSOR.size :])


def _update(payload: bytes) -> DisplayMessage:
    if len(payload) < _UPDATE.size:
        raise PeerError(f"update of {len(payload)} bytes")
    scanout, x, y, width, height = _UPDATE.unpack_from(payload)
    update = Update(scanout, x, y, width, height, payload[_UPDATE.size :])
    if len(update.pixels) != update.width * update.height * 4:
        raise PeerError(f"update of {update.width}x{update.height} with {len(update.pixels)} bytes")
    return update


_REPLIES: dict[int, Callable[[bytes], DisplayMessage]] = {
    DisplayRequest.GET_PROTOCOL_FEATURES: lambda payload: ProtocolFeaturesReply(*_unpack(_U64, payload)),
    DisplayRequest.GET_DISPLAY_INFO: lambda payload: DisplayInfoReply(
        parse_display_info(_virtio_payload(payload, DISPLAY_INFO_SIZE))
    ),
    DisplayRequest.GET_EDID: lambda payload: EdidReply(parse_edid(_virtio_payload(payload, EDID_SIZE))),
}
_REQUESTS: dict[int, Callable[[bytes], DisplayMessage]] = {
    DisplayRequest.GET_PROTOCOL_FEATURES: _get_protocol_features,
    DisplayRequest.SET_PROTOCOL_FEATURES: lambda payload: SetProtocolFeatures(*_unpack(_U64, payload)),
    DisplayRequest.GET_DISPLAY_INFO: _get_display_info,
    DisplayRequest.CURSOR_POS: lambda payload: _cursor_pos(payload, True),
    DisplayRequest.CURSOR_POS_HIDE: lambda payload: _cursor_pos(payload, False),
    DisplayRequest.CURSOR_UPDATE: _cursor_update,
    DisplayRequest.SCANOUT: lambda payload: Scanout(*_unpack(_SCANOUT, payload)),
    DisplayRequest.UPDATE: _update,
    DisplayRequest.GET_EDID: lambda payload: GetEdid(*_unpack(_U32, payload)),
}


class _Stream:
    """Cuts a byte stream into messages. After a PeerError its socket is to be closed."""

    _table: ClassVar[dict[int, Callable[[bytes], DisplayMessage]]]
    _largest: ClassVar[int]

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: Data) -> list[DisplayMessage]:
        """Takes what the socket gave, of any length; the messages that are complete with it."""
        self._buffer += data
        messages = []
        at = 0
        while (end := self._end(at)) is not None:
            messages.append(self._decode(at, end))
            at = end
        del self._buffer[:at]
        return messages

    def _end(self, at: int) -> int | None:
        """Where the message at this offset ends, when all of it is here."""
        if len(self._buffer) - at < HEADER_SIZE:
            return None
        request, _, size = _HEADER.unpack_from(self._buffer, at)
        if size > self._largest:
            raise PeerError(f"display message {request} announces {size} bytes")
        end = at + HEADER_SIZE + int(size)
        return end if end <= len(self._buffer) else None

    def _decode(self, at: int, end: int) -> DisplayMessage:
        request: int = _HEADER.unpack_from(self._buffer, at)[0]
        payload = bytes(memoryview(self._buffer)[at + HEADER_SIZE : end])
        decode = self._table.get(request)
        try:
            return decode(payload) if decode else Unknown(request, payload)
        except PeerError as error:
            raise PeerError(f"{DisplayRequest(request).name}: {error}") from None


class ReplyDecoder(_Stream):
    """Replies of a VMM, for the device. The largest that it takes is GET_EDID's; flags are not looked at."""

    _table = _REPLIES
    _largest = MAX_REPLY


class RequestDecoder(_Stream):
    """Requests of a device, for a VMM. The largest that it takes is an UPDATE of MAX_AREA pixels."""

    _table = _REQUESTS
    _largest = _UPDATE.size + MAX_AREA * 4


# ---- the device's side of one socket -----------------------------------------------------------------------------


class DisplayEncoder:
    """Builds the requests for one display socket, whole messages only; a new socket needs a new encoder.

    ValueError means that the caller is wrong, and that nothing was built.
    """

    def __init__(self, num_scanouts: int) -> None:
        """num_scanouts: what this device has, 1 to 16."""
        self._sizes: list[tuple[int, int]] = [(0, 0)] * num_scanouts
        self._features = 0
        self._enabled: frozenset[int] = frozenset()

    def get_protocol_features(self) -> bytes:
        """Asks which protocol features the VMM has."""
        return GetProtocolFeatures().encode()

    def set_protocol_features(self, offered: int) -> bytes:
        """Answers the VMM's offer: EDID is taken when it is there, nothing else."""
        self._features = offered & 1 << DisplayFeature.EDID
        return SetProtocolFeatures(self._features).encode()

    def get_display_info(self) -> bytes:
        """Asks for the modes."""
        return GetDisplayInfo().encode()

    def note_display_info(self, modes: Sequence[DisplayOne]) -> None:
        """The answer to get_display_info: from now on edid() is possible for these modes' enabled outputs."""
        self._enabled = frozenset(number for number, mode in enumerate(modes) if mode.enabled)

    def has_edid(self, scanout: int) -> bool:
        """Whether edid() is possible: the feature is negotiated and the last display information has this output."""
        return bool(self._features) and 0 <= scanout < len(self._sizes) and scanout in self._enabled

    def edid(self, scanout: int) -> bytes:
        """Asks for an EDID. ValueError without has_edid(): QEMU would leave it unanswered."""
        if not self.has_edid(scanout):
            raise ValueError(f"no EDID to be asked for output {scanout}")
        return GetEdid(scanout).encode()

    def size(self, scanout: int) -> tuple[int, int]:
        """Width and height that this socket was told, after clamping; (0, 0) before a scanout or when disabled."""
        self._check(scanout)
        return self._sizes[scanout]

    def clip(self, scanout: int, rect: Rect) -> Rect | None:
        """The part of a rectangle that update() takes; None when nothing is left."""
        width, height = self.size(scanout)
        x, y = min(rect.x, width), min(rect.y, height)
        clipped = Rect(x, y, min(rect.width, width - x), min(rect.height, height - y))
        return clipped if clipped.width > 0 and clipped.height > 0 else None

    def scanout(self, scanout: int, width: int, height: int) -> bytes:
        """Sets a size, clamped to MAX_SIDE and MAX_AREA (see size()); 0 by 0, or either 0, disables."""
        self._check(scanout)
        if width <= 0 or height <= 0:
            width = height = 0
        else:
            width = min(width, MAX_SIDE)
            height = min(height, MAX_SIDE, MAX_AREA // width)
        self._sizes[scanout] = (width, height)
        return Scanout(scanout, width, height).encode()

    def update(self, scanout: int, rect: Rect, pixels: bytes | bytearray | memoryview) -> tuple[bytes, memoryview]:
        """New pixels (x8r8g8b8, no gaps) for a rectangle inside size(): the message's header, and the pixels after it.

        Both are to be sent, in this order, with nothing between. ValueError when the rectangle is empty, outside the
        scanout, or has another number of bytes.
        """
        view = memoryview(pixels).cast("B")
        header = self.update_header(scanout, rect)
        if len(view) != rect.width * rect.height * 4:
            raise ValueError(f"update {rect} with {len(view)} bytes")
        return header, view

    def update_header(self, scanout: int, rect: Rect) -> bytes:
        """The header of an update alone, for pixels that do not pass through this process's memory.

        Exactly width * height * 4 bytes must follow it. ValueError when the rectangle is empty or outside the scanout.
        """
        if rect.x < 0 or rect.y < 0 or self.clip(scanout, rect) != rect:
            raise ValueError(f"update {rect} outside scanout {scanout} of {self._sizes[scanout]}")
        return _update_header(scanout, rect, rect.width * rect.height * 4)

    def cursor_pos(self, scanout: int, x: int, y: int, visible: bool = True) -> bytes:
        """Moves the cursor, or hides it; x and y as the guest gives them (u32)."""
        self._check(scanout)
        return CursorPos(scanout, x, y, visible).encode()

    def cursor_update(self, scanout: int, x: int, y: int, hot_x: int, hot_y: int, pixels: bytes) -> bytes:
        """A new picture: exactly 64x64 a8r8g8b8 pixels. The hot spot is clamped into it."""
        self._check(scanout)
        if len(pixels) != CURSOR_BYTES:
            raise ValueError(f"cursor of {len(pixels)} bytes")
        last = CURSOR_SIDE - 1
        return CursorUpdate(scanout, x, y, min(hot_x, last), min(hot_y, last), bytes(pixels)).encode()

    def _check(self, scanout: int) -> None:
        if not 0 <= scanout < len(self._sizes):
            raise ValueError(f"scanout {scanout} of {len(self._sizes)}")
