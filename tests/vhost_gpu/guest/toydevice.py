"""A device's side of both kinds of rings in a few lines, after the specification: to check the driver against."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.packed_ring import PackedRing
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

    def push(self, head: int, length: int, *skipped: int) -> None:
        """Gives a chain back, and in order those before it that are ``skipped``; interrupts if the driver wants it."""
        ring = self.ring
        self.memory.write(ring.used_gpa + 4 + 8 * (self.used_idx % ring.size), struct.pack("<II", head, length))
        old, self.used_idx = self.used_idx, (self.used_idx + 1 + len(skipped)) & 0xFFFF
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


class ToyPackedDevice:
    """The same for a packed ring."""

    def __init__(self, ring: PackedRing) -> None:
        self.memory: GuestMemory = ring.memory
        self.ring = ring
        self.avail = self.used = 0
        """Entries from the start: the place is the remainder, the wrap counter the number of turns."""
        self.slots: dict[int, int] = {}
        self.interrupts = 0

    def _wrap(self, count: int) -> int:
        return count // self.ring.size % 2 ^ 1

    def _place(self, count: int) -> int:
        return count % self.ring.size | self._wrap(count) << 15

    def _descriptor(self, count: int) -> tuple[int, int, int, int]:
        """Address, length, id and flags; the flags are 0 when it is not available."""
        at = self.ring.desc_gpa + 16 * (count % self.ring.size)
        gpa, length, number, flags = struct.unpack("<QIHH", self.memory.read(at, 16))
        owner = 1 << 7 if self._wrap(count) else 1 << 15
        return gpa, length, number, flags if flags & 0x8080 == owner else 0

    def pop(self) -> Chain | None:
        """The next chain, or None; asks to be kicked for the one after it."""
        chain, start = Chain(0, [], []), self.avail
        while True:
            gpa, length, chain.head, flags = self._descriptor(self.avail)
            if not flags:
                assert self.avail == start, "half a chain"
                return None
            self.avail += 1
            if flags & 4:
                assert not flags & 1
                self._table(chain, gpa, length)
                break
            self._take(chain, gpa, length, flags)
            if not flags & 1:
                break
        self.slots[chain.head] = self.avail - start
        kick = struct.pack("<HH", self._place(self.avail), 2 if self.ring.event_idx else 0)
        self.memory.write(self.ring.used_gpa, kick)
        return chain

    def _table(self, chain: Chain, gpa: int, length: int) -> None:
        assert length
        for piece, size, _, flags in struct.iter_unpack("<QIHH", self.memory.read(gpa, length)):
            assert not flags & ~2
            self._take(chain, piece, size, flags)

    def _take(self, chain: Chain, gpa: int, length: int, flags: int) -> None:
        assert flags & 2 or not chain.writable, "a readable descriptor after a writable one"
        (chain.writable if flags & 2 else chain.readable).append((gpa, length))

    def push(self, head: int, length: int, *skipped: int) -> None:
        """Gives a chain back, and in order those before it that are ``skipped``; interrupts if the driver wants it."""
        at = self.ring.desc_gpa + 16 * (self.used % self.ring.size)
        flags = (0x8080 if self._wrap(self.used) else 0) | (2 if length else 0)
        self.memory.write(at, struct.pack("<QIHH", 0, length, head, flags))
        passed = range(self.used, self.used + sum(self.slots.pop(chain, 1) for chain in (*skipped, head)))
        self.used = passed.stop
        place, event = struct.unpack("<HH", self.memory.read(self.ring.avail_gpa, 4))
        wanted = any(place == self._place(count) for count in passed) if event == 2 else event == 0
        self.interrupts += wanted
