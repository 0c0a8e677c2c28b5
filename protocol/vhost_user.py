"""vhost-user messages (QEMU's docs/interop/vhost-user, version 10.0): requests, replies and the back-end channel.

All numbers are in native byte order, as the specification says. A `Decoder` is fed what the socket gives and returns
whole messages; after a `PeerError` its connection is to be closed, and the descriptors that it still holds with it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, NamedTuple, Protocol

from protocol.errors import PeerError

HEADER_SIZE = 12
"""Bytes of a message header: request, flags, size (u32 each)."""
MAX_PAYLOAD = 4096
"""Bytes of payload that a header may announce; the largest message of the specification has 268."""
MAX_FDS = 8
"""Descriptors that one message may carry (specification, "Communication")."""
MAX_REGIONS = 8
"""Regions of one SET_MEM_TABLE."""
F_PROTOCOL_FEATURES = 30
"""Bit of the virtio feature word that opens protocol feature negotiation (VHOST_USER_F_PROTOCOL_FEATURES)."""
NO_FD = 1 << 8
"""Bit of a SET_VRING_KICK, _CALL or _ERR payload: no descriptor comes with it."""

_HEADER = struct.Struct("=III")
_U64 = struct.Struct("=Q")
_STATE = struct.Struct("=II")
_ADDR = struct.Struct("=IIQQQQ")
_TABLE = struct.Struct("=II")
_REGION = struct.Struct("=QQQQ")
_CONFIG = struct.Struct("=III")
_FULL_TABLE = _TABLE.size + MAX_REGIONS * _REGION.size


class Request(IntEnum):
    """Requests of the VMM (specification, "Front-end message types")."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    CREATE_CRYPTO_SESSION = 26
    CLOSE_CRYPTO_SESSION = 27
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GPU_SET_SOCKET = 33
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40
    GET_SHARED_OBJECT = 41
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43


class BackendRequest(IntEnum):
    """Requests of the device on the channel of SET_BACKEND_REQ_FD (specification, "Back-end message types")."""

    IOTLB_MSG = 1
    CONFIG_CHANGE_MSG = 2
    VRING_HOST_NOTIFIER_MSG = 3
    VRING_CALL = 4
    VRING_ERR = 5
    SHARED_OBJECT_ADD = 6
    SHARED_OBJECT_REMOVE = 7
    SHARED_OBJECT_LOOKUP = 8


class ProtocolFeature(IntEnum):
    """Bit numbers of the protocol feature word."""

    MQ = 0
    LOG_SHMFD = 1
    RARP = 2
    REPLY_ACK = 3
    MTU = 4
    BACKEND_REQ = 5
    CROSS_ENDIAN = 6
    CRYPTO_SESSION = 7
    PAGEFAULT = 8
    CONFIG = 9
    BACKEND_SEND_FD = 10
    HOST_NOTIFIER = 11
    INFLIGHT_SHMFD = 12
    RESET_DEVICE = 13
    INBAND_NOTIFICATIONS = 14
    CONFIGURE_MEM_SLOTS = 15
    STATUS = 16
    XEN_MMAP = 17
    SHARED_OBJECT = 18
    DEVICE_STATE = 19


class Flag(IntFlag):
    """Bits of a header's flags; the lowest two are the protocol version."""

    VERSION = 1
    REPLY = 1 << 2
    NEED_REPLY = 1 << 3


_VERSION_MASK = 3


class Payload(Protocol):
    """What a message carries after its header."""

    def encode(self) -> bytes:
        """The payload's bytes, without a header."""


def _unpack(layout: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) != layout.size:
        raise PeerError(f"payload of {len(data)} bytes where {layout.size} belong")
    return layout.unpack(data)


@dataclass(frozen=True, slots=True)
class Empty:
    """No payload."""

    def encode(self) -> bytes:
        return b""

    @classmethod
    def decode(cls, data: bytes) -> Empty:
        if data:
            raise PeerError(f"payload of {len(data)} bytes where none belongs")
        return EMPTY


EMPTY = Empty()


@dataclass(frozen=True, slots=True)
class Raw:
    """A payload that is not interpreted: of an unknown request, or of one that we do not handle."""

    data: bytes
    """The payload's bytes as they came."""

    def encode(self) -> bytes:
        return self.data

    @classmethod
    def decode(cls, data: bytes) -> Raw:
        return cls(data)


@dataclass(frozen=True, slots=True)
class U64:
    """One 64-bit number: features, an acknowledgement (0 is success), a count."""

    value: int
    """The number."""

    def encode(self) -> bytes:
        return _U64.pack(self.value)

    @classmethod
    def decode(cls, data: bytes) -> U64:
        return cls(*_unpack(_U64, data))


@dataclass(frozen=True, slots=True)
class VringState:
    """A vring state description, also a vring's next descriptor index."""

    index: int
    """Which vring."""
    num: int
    """Its size, its base or whether it is enabled, as the request says."""

    def encode(self) -> bytes:
        return _STATE.pack(self.index, self.num)

    @classmethod
    def decode(cls, data: bytes) -> VringState:
        return cls(*_unpack(_STATE, data))


@dataclass(frozen=True, slots=True)
class VringAddr:
    """A vring address description; addresses are the VMM's virtual ones."""

    index: int
    """Which vring."""
    flags: int
    """Bit 0: log writes to the used ring."""
    desc: int
    """Address of the descriptor table."""
    used: int
    """Address of the used ring."""
    avail: int
    """Address of the available ring."""
    log: int
    """Guest address for logging."""

    def encode(self) -> bytes:
        return _ADDR.pack(self.index, self.flags, self.desc, self.used, self.avail, self.log)

    @classmethod
    def decode(cls, data: bytes) -> VringAddr:
        return cls(*_unpack(_ADDR, data))


@dataclass(frozen=True, slots=True)
class VringFd:
    """Payload of SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR."""

    index: int
    """Which vring, 0..255."""
    has_fd: bool
    """Whether one descriptor comes with the message (bit 8 says that none does)."""

    def encode(self) -> bytes:
        return _U64.pack(self.index | (0 if self.has_fd else NO_FD))

    @classmethod
    def decode(cls, data: bytes) -> VringFd:
        (value,) = _unpack(_U64, data)
        if value >> 9:
            raise PeerError(f"vring descriptor payload {value:#x} has unknown bits")
        return cls(value & 0xFF, not value & NO_FD)


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """One piece of guest memory; none of its three ranges wraps at 2^64, and it is not empty."""

    gpa: int
    """Guest-physical address of its first byte."""
    size: int
    """Its bytes."""
    uva: int
    """The VMM's virtual address of its first byte."""
    mmap_offset: int
    """Where it begins in its descriptor's file."""

    def encode(self) -> bytes:
        return _REGION.pack(self.gpa, self.size, self.uva, self.mmap_offset)

    @classmethod
    def decode(cls, data: bytes) -> MemoryRegion:
        region = cls(*_unpack(_REGION, data))
        if not region.size:
            raise PeerError(f"empty memory region at {region.gpa:#x}")
        if max(region.gpa, region.uva, region.mmap_offset) + region.size >= 1 << 64:
            raise PeerError(f"memory region at {region.gpa:#x} of {region.size:#x} bytes wraps")
        return region


@dataclass(frozen=True, slots=True)
class MemoryTable:
    """Payload of SET_MEM_TABLE."""

    regions: tuple[MemoryRegion, ...]
    """At most 8, in the order of the message's descriptors."""

    def encode(self) -> bytes:
        return _TABLE.pack(len(self.regions), 0) + b"".join(region.encode() for region in self.regions)

    @classmethod
    def decode(cls, data: bytes) -> MemoryTable:
        if len(data) < _TABLE.size:
            raise PeerError(f"memory table of {len(data)} bytes")
        count, _ = _TABLE.unpack_from(data)
        end = _TABLE.size + count * _REGION.size
        # The specification draws the table with all eight regions; VMMs send the used ones only.
        if count > MAX_REGIONS or len(data) not in (end, _FULL_TABLE):
            raise PeerError(f"memory table of {len(data)} bytes for {count} regions")
        starts = range(_TABLE.size, end, _REGION.size)
        return cls(tuple(MemoryRegion.decode(data[at : at + _REGION.size]) for at in starts))


@dataclass(frozen=True, slots=True)
class SingleMemoryRegion:
    """Payload of ADD_MEM_REG and REM_MEM_REG."""

    region: MemoryRegion
    """The region."""

    def encode(self) -> bytes:
        return _U64.pack(0) + self.region.encode()

    @classmethod
    def decode(cls, data: bytes) -> SingleMemoryRegion:
        if len(data) != _U64.size + _REGION.size:
            raise PeerError(f"memory region message of {len(data)} bytes")
        return cls(MemoryRegion.decode(data[_U64.size :]))


@dataclass(frozen=True, slots=True)
class Config:
    """A part of the device's configuration space. Whether it lies inside the space is for the device to check."""

    offset: int
    """Its first byte in the configuration space."""
    size: int
    """Its bytes."""
    flags: int
    """0: a guest's write; 1: for live migration."""
    payload: bytes
    """size bytes; empty in a GET_CONFIG request that sent the header only."""

    def encode(self) -> bytes:
        return _CONFIG.pack(self.offset, self.size, self.flags) + self.payload

    @classmethod
    def decode(cls, data: bytes) -> Config:
        config = cls._parse(data)
        if len(config.payload) != config.size:
            raise PeerError(f"configuration of {config.size} bytes with {len(config.payload)} supplied")
        return config

    @classmethod
    def decode_read(cls, data: bytes) -> Config:
        """GET_CONFIG: the place for the bytes may be left out."""
        config = cls._parse(data)
        if config.size > MAX_PAYLOAD - _CONFIG.size or len(config.payload) not in (0, config.size):
            raise PeerError(f"configuration of {config.size} bytes with {len(config.payload)} supplied")
        return config

    @classmethod
    def decode_reply(cls, data: bytes) -> Config | Empty:
        """The answer to GET_CONFIG: an empty one says that the device failed."""
        return cls.decode(data) if data else EMPTY

    @classmethod
    def _parse(cls, data: bytes) -> Config:
        if len(data) < _CONFIG.size:
            raise PeerError(f"configuration message of {len(data)} bytes")
        offset, size, flags = _CONFIG.unpack_from(data)
        return cls(offset, size, flags, data[_CONFIG.size :])


class _Decode(Protocol):
    def __call__(self, data: bytes, /) -> Payload: ...


class _Rule(NamedTuple):
    """How the payload of a request is read and how many descriptors may come with it."""

    decode: _Decode
    min_fds: int = 0
    max_fds: int = 0


_UNKNOWN = _Rule(Raw.decode, 0, MAX_FDS)  # nobody can say what an unknown request carries: the session closes it
_VRING_FD = _Rule(VringFd.decode, 0, 1)

_REQUESTS: dict[int, _Rule] = {
    Request.GET_FEATURES: _Rule(Empty.decode),
    Request.SET_FEATURES: _Rule(U64.decode),
    Request.SET_OWNER: _Rule(Empty.decode),
    Request.RESET_OWNER: _Rule(Empty.decode),
    Request.SET_MEM_TABLE: _Rule(MemoryTable.decode, 0, MAX_REGIONS),
    Request.SET_LOG_BASE: _Rule(Raw.decode, 0, 1),
    Request.SET_LOG_FD: _Rule(Raw.decode, 0, 1),
    Request.SET_VRING_NUM: _Rule(VringState.decode),
    Request.SET_VRING_ADDR: _Rule(VringAddr.decode),
    Request.SET_VRING_BASE: _Rule(VringState.decode),
    Request.GET_VRING_BASE: _Rule(VringState.decode),
    Request.SET_VRING_KICK: _VRING_FD,
    Request.SET_VRING_CALL: _VRING_FD,
    Request.SET_VRING_ERR: _VRING_FD,
    Request.GET_PROTOCOL_FEATURES: _Rule(Empty.decode),
    Request.SET_PROTOCOL_FEATURES: _Rule(U64.decode),
    Request.GET_QUEUE_NUM: _Rule(Empty.decode),
    Request.SET_VRING_ENABLE: _Rule(VringState.decode),
    Request.SEND_RARP: _Rule(U64.decode),
    Request.NET_SET_MTU: _Rule(U64.decode),
    Request.SET_BACKEND_REQ_FD: _Rule(Empty.decode, 1, 1),
    Request.IOTLB_MSG: _Rule(Raw.decode),
    Request.SET_VRING_ENDIAN: _Rule(VringState.decode),
    Request.GET_CONFIG: _Rule(Config.decode_read),
    Request.SET_CONFIG: _Rule(Config.decode),
    Request.CREATE_CRYPTO_SESSION: _Rule(Raw.decode),
    Request.CLOSE_CRYPTO_SESSION: _Rule(U64.decode),
    Request.POSTCOPY_ADVISE: _Rule(Empty.decode),
    Request.POSTCOPY_LISTEN: _Rule(Empty.decode),
    Request.POSTCOPY_END: _Rule(Empty.decode),
    Request.GET_INFLIGHT_FD: _Rule(Raw.decode),
    Request.SET_INFLIGHT_FD: _Rule(Raw.decode, 0, 1),
    Request.GPU_SET_SOCKET: _Rule(Empty.decode, 1, 1),
    Request.RESET_DEVICE: _Rule(Empty.decode),
    Request.VRING_KICK: _Rule(VringState.decode),
    Request.GET_MAX_MEM_SLOTS: _Rule(Empty.decode),
    Request.ADD_MEM_REG: _Rule(SingleMemoryRegion.decode, 1, 1),
    # "the back-end MAY accept messages with one file descriptor ... MUST close it without using it otherwise"
    Request.REM_MEM_REG: _Rule(SingleMemoryRegion.decode, 0, 1),
    Request.SET_STATUS: _Rule(U64.decode),
    Request.GET_STATUS: _Rule(Empty.decode),
    Request.GET_SHARED_OBJECT: _Rule(Raw.decode),
    Request.SET_DEVICE_STATE_FD: _Rule(Raw.decode, 0, 1),
    Request.CHECK_DEVICE_STATE: _Rule(Empty.decode),
}


def _decode_reply(data: bytes) -> Payload:
    return U64.decode(data) if len(data) == _U64.size else Raw.decode(data)


_ANY_REPLY = _Rule(_decode_reply, 0, MAX_FDS)
_REPLIES: dict[int, _Rule] = {
    Request.GET_VRING_BASE: _Rule(VringState.decode),
    Request.GET_CONFIG: _Rule(Config.decode_reply),
}
_BACKEND_REQUESTS: dict[int, _Rule] = {BackendRequest.CONFIG_CHANGE_MSG: _Rule(Empty.decode)}


@dataclass(frozen=True, slots=True)
class Message:
    """One whole message. Whoever takes it owns its descriptors."""

    request: int
    """The request's number: a `Request` (a `BackendRequest` on that channel) when it is a known one."""
    flags: int
    """The header's flags."""
    payload: Payload
    """Typed as the request says; `Raw` for an unknown request."""
    fds: tuple[int, ...] = ()
    """The descriptors that came with it."""

    @property
    def need_reply(self) -> bool:
        """Whether the sender waits for a reply to a request that has none of its own (REPLY_ACK)."""
        return bool(self.flags & Flag.NEED_REPLY)


class _Stream:
    """Framing common to all directions: a header of 12 bytes, then what it announces."""

    _rules: ClassVar[dict[int, _Rule]]
    _default: ClassVar[_Rule]
    _names: ClassVar[type[IntEnum]]
    _reply: ClassVar[bool]

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fds: list[int] = []
        self._need = HEADER_SIZE

    @property
    def idle(self) -> bool:
        """Whether the stream stands between two messages: an end of file here is a clean one."""
        return not self._buffer

    def wants(self) -> int:
        """How many bytes to read next, never 0. Reading no more keeps descriptors with their message."""
        return self._need - len(self._buffer)

    def take_fds(self) -> list[int]:
        """Hands over the descriptors of a message that is incomplete or failed, to be closed."""
        fds, self._fds = self._fds, []
        return fds

    def feed(self, data: bytes, fds: list[int]) -> Message | None:
        """Takes at most wants() bytes and the descriptors that came with them; a message when one is complete.

        Raises PeerError when the message is wrong: nothing of this stream can be understood any more then.
        """
        self._fds.extend(fds)
        if len(self._fds) > MAX_FDS:
            raise PeerError(f"{len(self._fds)} descriptors with one message")
        if len(data) > self.wants():
            raise ValueError(f"{len(data)} bytes fed, {self.wants()} wanted")
        self._buffer += data
        if len(self._buffer) == HEADER_SIZE == self._need:
            self._check_header()
        return None if len(self._buffer) < self._need else self._finish()

    def _check_header(self) -> None:
        request, flags, size = _HEADER.unpack_from(self._buffer)
        if flags & _VERSION_MASK != Flag.VERSION:
            raise PeerError(f"request {request} has protocol version {flags & _VERSION_MASK}")
        if bool(flags & Flag.REPLY) != self._reply:
            raise PeerError(f"request {request} is {'no' if self._reply else 'a'} reply")
        if size > MAX_PAYLOAD:
            raise PeerError(f"request {request} announces {size} bytes")
        self._need = HEADER_SIZE + size

    def _finish(self) -> Message:
        request, flags, _ = _HEADER.unpack_from(self._buffer)
        rule = self._rules.get(request, self._default)
        try:
            payload = rule.decode(bytes(self._buffer[HEADER_SIZE:]))
            _check_fds(rule, payload, len(self._fds))
        except PeerError as error:
            raise PeerError(f"{self._name(request)!r}: {error}") from None
        self._buffer.clear()
        self._need = HEADER_SIZE
        return Message(self._name(request), flags, payload, tuple(self.take_fds()))

    def _name(self, request: int) -> int:
        try:
            return self._names(request)
        except ValueError:
            return request


def _check_fds(rule: _Rule, payload: Payload, count: int) -> None:
    low, high = rule.min_fds, rule.max_fds
    if isinstance(payload, VringFd):
        low = high = int(payload.has_fd)
    elif isinstance(payload, MemoryTable):
        low = high = len(payload.regions)
    if not low <= count <= high:
        raise PeerError(f"{count} descriptors where {low} to {high} belong")


class Decoder(_Stream):
    """Requests of a VMM, for the device."""

    _rules = _REQUESTS
    _default = _UNKNOWN
    _names = Request
    _reply = False


class ReplyDecoder(_Stream):
    """Replies of a device, for a VMM; also a VMM's replies on the back-end channel (every one a U64)."""

    _rules = _REPLIES
    _default = _ANY_REPLY
    _names = Request
    _reply = True


class BackendDecoder(_Stream):
    """Requests of a device on the back-end channel, for a VMM."""

    _rules = _BACKEND_REQUESTS
    _default = _UNKNOWN
    _names = BackendRequest
    _reply = False


def encode(request: int, payload: Payload = EMPTY, need_reply: bool = False) -> bytes:
    """A request of either side; its descriptors travel beside it."""
    return _message(request, Flag.VERSION | (Flag.NEED_REPLY if need_reply else 0), payload)


def encode_reply(request: int, payload: Payload = EMPTY) -> bytes:
    """A reply to a request, or its acknowledgement: U64(0) for success, another number for failure."""
    return _message(request, Flag.VERSION | Flag.REPLY, payload)


def _message(request: int, flags: int, payload: Payload) -> bytes:
    data = payload.encode()
    return _HEADER.pack(request, flags, len(data)) + data
