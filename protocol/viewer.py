"""The viewer protocol, version 1 (docs/architecture.md): frames in shared memory, everything else in small packets.

One message a packet (SOCK_SEQPACKET), little endian: header type u32 and payload size u32, then the payload. Image and
cursor descriptors ride on their message. The descriptors of a packet that fails to decode stay with the caller, who
closes them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from protocol.errors import PeerError
from protocol.virtio_gpu import Rect

VERSION = 1
"""The protocol's version. A HELLO of another one is answered with ERROR."""
MAGIC = b"VGPU"
"""First bytes of a HELLO's payload."""
MAX_NAME = 64
"""UTF-8 bytes of a session's name."""
MAX_TEXT = 512
"""UTF-8 bytes of an ERROR's text."""
MAX_RECTS = 32
"""Rectangles of one FRAME."""
MAX_PACKET = 1024
"""Bytes of the largest packet, rounded up: what to read with."""

_HEADER = struct.Struct("<II")
_TEXT = struct.Struct("<I")
_RECT = struct.Struct("<IIII")


class MessageType(IntEnum):
    """Types of messages: the viewer's below 16, the daemon's from 16."""

    HELLO = 1
    FRAME_DONE = 2
    WELCOME = 16
    ERROR = 17
    IMAGE = 18
    IMAGE_GONE = 19
    SCANOUT = 20
    FRAME = 21
    CURSOR_IMAGE = 22
    CURSOR_POS = 23


class ErrorCode(IntEnum):
    """Why the daemon closes a viewer's connection."""

    VERSION = 1
    NO_SESSION = 2
    PROTOCOL = 3
    SESSION_ENDED = 4
    TOO_SLOW = 5
    BUSY = 6


def _pack_text(text: str, limit: int) -> bytes:
    data = text.encode()
    if len(data) > limit:
        raise ValueError(f"text of {len(data)} bytes, at most {limit} fit")
    return _TEXT.pack(len(data)) + data


def _unpack_text(payload: bytes, at: int, limit: int) -> str:
    """A length and UTF-8 that fill the payload from at to its end."""
    data = payload[at + _TEXT.size :]
    if len(payload) < at + _TEXT.size or _TEXT.unpack_from(payload, at)[0] != len(data) or len(data) > limit:
        raise PeerError(f"text of {len(data)} bytes does not fit its message")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise PeerError("text is not UTF-8") from None


def _boolean(number: int) -> bool:
    if number > 1:
        raise PeerError(f"{number} where 0 or 1 belongs")
    return number == 1


class Message:
    """A message. A subclass's fields are its payload's numbers in order, unless it says otherwise."""

    __slots__: ClassVar[tuple[str, ...]] = ()
    TYPE: ClassVar[MessageType]
    _BODY: ClassVar[struct.Struct]

    @property
    def fds(self) -> int:
        """How many descriptors come with it."""
        return 0

    def _body(self) -> bytes:
        return self._BODY.pack(*(getattr(self, name) for name in self.__slots__))

    @classmethod
    def _parse(cls, payload: bytes) -> Self:
        return cls(*cls._exact(payload))

    @classmethod
    def _exact(cls, payload: bytes) -> tuple[int, ...]:
        if len(payload) != cls._BODY.size:
            raise PeerError(f"{len(payload)} bytes where {cls._BODY.size} belong")
        return cls._BODY.unpack(payload)

    @classmethod
    def _numbers(cls, payload: bytes) -> tuple[int, ...]:
        if len(payload) < cls._BODY.size:
            raise PeerError(f"{len(payload)} bytes where {cls._BODY.size} or more belong")
        return cls._BODY.unpack_from(payload)


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The viewer's first packet."""

    TYPE = MessageType.HELLO
    _BODY = struct.Struct("<4sI")
    session: str = ""
    """Name of the wanted session; empty: the newest."""
    version: int = VERSION
    """The viewer's protocol version; when it is not ours the rest is not decoded."""

    def _body(self) -> bytes:
        return self._BODY.pack(MAGIC, self.version) + _pack_text(self.session, MAX_NAME)

    @classmethod
    def _parse(cls, payload: bytes) -> Self:
        if len(payload) < cls._BODY.size:
            raise PeerError(f"hello of {len(payload)} bytes")
        magic, version = cls._BODY.unpack_from(payload)
        if magic != MAGIC:
            raise PeerError("not a viewer's hello")
        if version != VERSION:
            return cls("", version)
        return cls(_unpack_text(payload, cls._BODY.size, MAX_NAME), version)


@dataclass(frozen=True, slots=True)
class FrameDone(Message):
    """The viewer reads this frame, and all older ones of the scanout, no longer."""

    TYPE = MessageType.FRAME_DONE
    _BODY = struct.Struct("<I4xQ")
    scanout: int
    """Which scanout."""
    sequence: int
    """The frame's number."""


@dataclass(frozen=True, slots=True)
class Welcome(Message):
    """Answers HELLO."""

    TYPE = MessageType.WELCOME
    _BODY = struct.Struct("<II")
    num_scanouts: int
    """1 to 16."""
    session: str
    """The session's name."""
    version: int = VERSION
    """The daemon's protocol version."""

    def _body(self) -> bytes:
        return self._BODY.pack(self.version, self.num_scanouts) + _pack_text(self.session, MAX_NAME)

    @classmethod
    def _parse(cls, payload: bytes) -> Self:
        version, num_scanouts = cls._numbers(payload)
        return cls(num_scanouts, _unpack_text(payload, cls._BODY.size, MAX_NAME), version)


@dataclass(frozen=True, slots=True)
class Error(Message):
    """The daemon's last packet: it closes the connection."""

    TYPE = MessageType.ERROR
    _BODY = struct.Struct("<I")
    code: int
    """An `ErrorCode`, or a newer one."""
    text: str
    """What to tell the person, at most 512 bytes."""

    def _body(self) -> bytes:
        return self._BODY.pack(self.code) + _pack_text(self.text, MAX_TEXT)

    @classmethod
    def _parse(cls, payload: bytes) -> Self:
        (code,) = cls._numbers(payload)
        return cls(code, _unpack_text(payload, cls._BODY.size, MAX_TEXT))


@dataclass(frozen=True, slots=True)
class Image(Message):
    """A new image. Its descriptor is a sealed memfd of size bytes, to be mapped read-only."""

    TYPE = MessageType.IMAGE
    _BODY = struct.Struct("<QQIIII")
    image: int
    """Its number, never used again in this session."""
    size: int
    """Bytes of the memfd, at least stride * height."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""
    stride: int
    """Bytes from row to row, at least 4 * width."""
    format: int
    """A virtio-gpu `Format`."""

    @property
    def fds(self) -> int:
        return 1

    @classmethod
    def _parse(cls, payload: bytes) -> Self:
        image = cls(*cls._exact(payload))
        if image.stride < image.width * 4 or image.size < image.stride * image.height:
            raise PeerError(f"image {image.width}x{image.height} does not fit its {image.size} bytes")
        return image


@dataclass(frozen=True, slots=True)
class ImageGone(Message):
    """No later FRAME names this image."""

    TYPE = MessageType.IMAGE_GONE
    _BODY = struct.Struct("<Q")
    image: int
    """Its number."""


@dataclass(frozen=True, slots=True)
class Scanout(Message):
    """A mode change or clear: the viewer drops frames of older generations."""

    TYPE = MessageType.SCANOUT
    _BODY = struct.Struct("<IIQII")
    scanout: int
    """Which scanout."""
    enabled: bool
    """Whether it shows anything."""
    generation: int
    """Grows with each change."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""

    @classmethod
    def _parse(cls, payload: bytes) -> Self:
        scanout, enabled, generation, width, height = cls._exact(payload)
        return cls(scanout, _boolean(enabled), generation, width, height)


@dataclass(frozen=True, slots=True)
class Frame(Message):
    """New content of a scanout. Nobody writes to its image until FRAME_DONE."""

    TYPE = MessageType.FRAME
    _BODY = struct.Struct("<IIQQQQIIII")
    scanout: int
    """Which scanout."""
    format: int
    """A virtio-gpu `Format`."""
    generation: int
    """The SCANOUT it belongs to."""
    sequence: int
    """Its number, to be answered with FRAME_DONE."""
    flush_ns: int
    """CLOCK_MONOTONIC when the guest flushed it."""
    image: int
    """The image that holds it."""
    x: int
    """Where the scanout begins in the image, in pixels."""
    y: int
    """Where the scanout begins in the image, in pixels."""
    skipped: int
    """Frames that this viewer missed since the last; what the guest flushes in one go counts as one."""
    damage: tuple[Rect, ...]
    """What changed since the last frame sent to this viewer, at most 32, relative to the scanout."""

    def _body(self) -> bytes:
        if len(self.damage) > MAX_RECTS:
            raise ValueError(f"{len(self.damage)} rectangles")
        numbers = (self.scanout, self.format, self.generation, self.sequence, self.flush_ns, self.image)
        head = self._BODY.pack(*numbers, self.x, self.y, self.skipped, len(self.damage))
        return head + b"".join(rect.encode() for rect in self.damage)

    @classmethod
    def _parse(cls, payload: bytes) -> Self:
        scanout, form, generation, sequence, flush_ns, image, x, y, skipped, count = cls._numbers(payload)
        if count > MAX_RECTS or len(payload) != cls._BODY.size + count * _RECT.size:
            raise PeerError(f"frame of {len(payload)} bytes for {count} rectangles")
        damage = tuple(Rect(*rect) for rect in _RECT.iter_unpack(payload[cls._BODY.size :]))
        return cls(scanout, form, generation, sequence, flush_ns, image, x, y, skipped, damage)


@dataclass(frozen=True, slots=True)
class CursorImage(Message):
    """A new cursor picture, or none. The descriptor, when visible, is a sealed memfd of 64x64 pixels B G R A."""

    TYPE = MessageType.CURSOR_IMAGE
    _BODY = struct.Struct("<IIIIQ")
    scanout: int
    """Which scanout."""
    hot_x: int
    """The hot spot in the picture."""
    hot_y: int
    """The hot spot in the picture."""
    visible: bool
    """Whether there is a cursor, and a descriptor."""
    generation: int
    """Grows with each picture."""

    @property
    def fds(self) -> int:
        return int(self.visible)

    @classmethod
    def _parse(cls, payload: bytes) -> Self:
        scanout, hot_x, hot_y, visible, generation = cls._exact(payload)
        return cls(scanout, hot_x, hot_y, _boolean(visible), generation)


@dataclass(frozen=True, slots=True)
class CursorPos(Message):
    """Where the upper left corner of the cursor's picture is, as the guest's driver gives it (not its hot spot)."""

    TYPE = MessageType.CURSOR_POS
    _BODY = struct.Struct("<III")
    scanout: int
    """Which scanout."""
    x: int
    """In pixels; values from 2^31 are negative ones."""
    y: int
    """In pixels; values from 2^31 are negative ones."""


_FROM_VIEWER: dict[int, type[Message]] = {message.TYPE: message for message in (Hello, FrameDone)}
_FROM_DAEMON: dict[int, type[Message]] = {
    message.TYPE: message for message in (Welcome, Error, Image, ImageGone, Scanout, Frame, CursorImage, CursorPos)
}


def encode(message: Message) -> bytes:
    """The whole packet; message.fds descriptors go with it."""
    payload = message._body()
    return _HEADER.pack(message.TYPE, len(payload)) + payload


def decode_from_viewer(packet: bytes, fds: Sequence[int] = ()) -> Message:
    """A viewer's packet: Hello or FrameDone. PeerError when it is wrong, or when descriptors came with it.

    A Hello of another version decodes with that version, for the daemon to answer with an ERROR.
    """
    return _decode(_FROM_VIEWER, packet, fds)


def decode_from_daemon(packet: bytes, fds: Sequence[int] = ()) -> Message:
    """A daemon's packet. PeerError when it is wrong, or when the wrong number of descriptors came with it."""
    return _decode(_FROM_DAEMON, packet, fds)


def _decode(table: dict[int, type[Message]], packet: bytes, fds: Sequence[int]) -> Message:
    if len(packet) < _HEADER.size:
        raise PeerError(f"packet of {len(packet)} bytes")
    kind, size = _HEADER.unpack_from(packet)
    if size != len(packet) - _HEADER.size:
        raise PeerError(f"message {kind} announces {size} bytes in a packet of {len(packet)}")
    message_class = table.get(kind)
    if message_class is None:
        raise PeerError(f"unknown message {kind}")
    try:
        message = message_class._parse(packet[_HEADER.size :])
    except PeerError as error:
        raise PeerError(f"{message_class.TYPE.name}: {error}") from None
    if len(fds) != message.fds:
        raise PeerError(f"{message.TYPE.name}: {len(fds)} descriptors where {message.fds} belong")
    return message
