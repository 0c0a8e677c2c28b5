"""A device's side of a split ring in a few lines, after the specification: what the driver is checked against."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.ring import DriverRing


@dataclass
class Chain:
    """A popped chain: (gpa, length) of the readable and of the writable descriptors, in order."""

    head: int
    readable: list[tuple[int, int]]
    writable: list[tuple[int, int]]


class ToyDevice:
    """Pops chains and gives them back in any order. ``interrupts`` counts what the driver would have been told."""

    def __init__(self, ring: DriverRing) -> None:
        self.memory: GuestMemory = ring.memory
        self.ring = ring
        self.last_avail = 0
        self.used_idx = 0
        self.interrupts = 0

    def _u16(self, gpa: int) -> int:
        return int.from_bytes(self.memory.read(gpa, 2), "little")

    def pop(self) -> Chain | None:
        """The next chain, or None; asks to be kicked for the one after it."""
        ring = self.ring
        if self._u16(ring.avail_gpa + 2) == self.last_avail:
            return None
        head = self._u16(ring.avail_gpa + 4 + 2 * (self.last_avail % ring.size))
        self.last_avail = (self.last_avail + 1) & 0xFFFF
        self.memory.write(ring.used_gpa + 4 + 8 * ring.size, struct.pack("<H", self.last_avail))
        chain = Chain(head, [], [])
        self._walk(chain, ring.desc_gpa, head, ring.size)
        return chain

    def _walk(self, chain: Chain, table: int, index: int, count: int) -> None:
        for _ in range(count):
            assert index < count
            gpa, length, flags, follow = struct.unpack("<QIHH", self.memory.read(table + 16 * index, 16))
            if flags & 4:
                assert flags == 4
                assert length
                assert not length % 16
                return self._walk(chain, gpa, 0, length // 16)
            assert flags & 2 or not chain.writable, "a readable descriptor after a writable one"
            (chain.writable if flags & 2 else chain.readable).append((gpa, length))
            if not flags & 1:
                return None
            index = follow
        raise AssertionError("a loop")

    def push(self, head: int, length: int) -> None:
        """Gives a chain back and interrupts if the driver wants it."""
        ring = self.ring
        self.memory.write(ring.used_gpa + 4 + 8 * (self.used_idx % ring.size), struct.pack("<II", head, length))
        old, self.used_idx = self.used_idx, (self.used_idx + 1) & 0xFFFF
        self.memory.write(ring.used_gpa + 2, struct.pack("<H", self.used_idx))
        if ring.event_idx:
            self.interrupts += self._u16(ring.avail_gpa + 4 + 2 * ring.size) == old
        else:
            self.interrupts += not self._u16(ring.avail_gpa) & 1

    def request(self, chain: Chain) -> bytes:
        """The bytes of the readable descriptors."""
        return b"".join(self.memory.read(gpa, length) for gpa, length in chain.readable)

    def answer(self, chain: Chain, data: bytes) -> None:
        """Writes ``data`` into the writable descriptors as far as it fits, and gives the chain back."""
        done = 0
        for gpa, length in chain.writable:
            piece = data[done : done + length]
            self.memory.write(gpa, piece)
            done += len(piece)
        self.push(chain.head, done)
