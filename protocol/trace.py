"""The file of a session's trace: what happened to each command, as records in the order of time.

The C core writes the records (backend/core/trace.c); all numbers are little endian. A file begins with the magic, a
version u32, and two times of one moment in nanoseconds (u64): of day (since 1970), and CLOCK_MONOTONIC, which the
records have. A record is size u32 (all of it), kind u16, queue u16, chain u32, value u32, extra u64, time u64, then
data. A chain's records have its id; ids come again when a chain was returned. A file may end anywhere: its session may
have died.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from protocol.errors import PeerError

MAGIC = b"VGPUTRCE"
VERSION = 1
MAX_RECORD = 1 << 26
"""Bytes of the largest record that is believed: streams have at most 16 MiB."""

_HEADER = struct.Struct("<8sIxxxxQQ")
_RECORD = struct.Struct("<IHHIIQQ")
HEADER_SIZE = _HEADER.size
"""Bytes of the file's header."""


class RecordKind(IntEnum):
    """What a record tells."""

    TAKEN = 1
    """Popped from the ring. value: bytes for the reply; extra: bytes of the request; data: its fixed struct."""
    STREAM = 2
    """data: what SUBMIT_3D brought, before it is executed."""
    ANSWERED = 3
    """Executed, as far as we are concerned. value: the response's type."""
    RETURNED = 4
    """Given back to the guest, with a fence when that was reached. value: bytes written."""


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """The beginning of a file."""

    day_ns: int
    """The time of day, in nanoseconds since 1970."""
    ns: int
    """CLOCK_MONOTONIC at the same moment."""

    def encode(self) -> bytes:
        """32 bytes."""
        return _HEADER.pack(MAGIC, VERSION, self.day_ns, self.ns)

    @classmethod
    def decode(cls, data: bytes) -> TraceHeader:
        """From the first 32 bytes. PeerError when they are no trace's, or one of another version."""
        if len(data) < HEADER_SIZE or not data.startswith(MAGIC):
            raise PeerError("this is no trace")
        _, version, day_ns, ns = _HEADER.unpack_from(data)
        if version != VERSION:
            raise PeerError(f"a trace of version {version}, not {VERSION}")
        return cls(day_ns, ns)


@dataclass(frozen=True, slots=True)
class Record:
    """One record."""

    kind: int
    """A `RecordKind`, or a number that is none."""
    queue: int
    """0: control, 1: cursor."""
    chain: int
    """The chain's id."""
    value: int
    extra: int
    ns: int
    """CLOCK_MONOTONIC."""
    data: bytes = b""

    def encode(self) -> bytes:
        """32 bytes and the data."""
        size = _RECORD.size + len(self.data)
        return _RECORD.pack(size, self.kind, self.queue, self.chain, self.value, self.extra, self.ns) + self.data


class RecordDecoder:
    """Cuts what follows the header into records."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def rest(self) -> int:
        """Bytes of a record whose end has not come."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[Record]:
        """The records that are complete now. PeerError when a size cannot be one."""
        records = []
        buffer, at = self._rest + data, 0
        while len(buffer) - at >= _RECORD.size:
            size, kind, queue, chain, value, extra, ns = _RECORD.unpack_from(buffer, at)
            if not _RECORD.size <= size <= MAX_RECORD:
                raise PeerError(f"a record of {size} bytes")
            if len(buffer) - at < size:
                break
            payload = buffer[at + _RECORD.size : at + size]
            at += size
            records.append(Record(kind, queue, chain, value, extra, ns, payload))
        self._rest = buffer[at:]
        return records
