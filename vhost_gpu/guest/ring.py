"""Driver side of a split virtqueue in pure Python (virtio 1.3, 2.7; ``linux/virtio_ring.h``).

The device runs at the same time in another process. Order of stores: CPython does not reorder its own stores and x86
keeps them in order; the one place that needs a full barrier (publish, then look at the suppression fields) takes it.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from vhost_gpu.guest.memory import GuestMemory

DESC_SIZE = 16
F_NEXT = 1
F_WRITE = 2
F_INDIRECT = 4
AVAIL_F_NO_INTERRUPT = 1
USED_F_NO_NOTIFY = 1

_DESC = struct.Struct("<QIHH")
_USED_ELEM = struct.Struct("<II")
_INDIRECT_SLOT = 8  # entries of a table that every head owns; longer chains get one of their own
_SLOT_SIZE = _INDIRECT_SLOT * DESC_SIZE

_fence = threading.Lock()


@dataclass(frozen=True, slots=True)
class Segment:
    """``length`` bytes of guest memory at ``gpa``: one descriptor."""

    gpa: int
    length: int


@dataclass(frozen=True, slots=True)
class Used:
    """A chain that came back: the head that :meth:`DriverRing.add` returned and how many bytes the device wrote."""

    head: int
    length: int


@dataclass(frozen=True, slots=True)
class Out:
    """A chain that is out: the entries of the ring that it takes, and the bytes of its writable segments."""

    entries: int
    writable: int


class RingFull(Exception):
    """There are not enough free descriptors now; there will be when chains come back."""


class RingError(Exception):
    """The device broke the ring: a head that is not out, or a used index that ran ahead."""


def full_barrier() -> None:
    """Orders earlier stores before later loads: a lock's atomic read-modify-write does on every CPU that we run on."""
    with _fence:
        pass


class IndirectTables:
    """Indirect tables by the id of their chain: small ones are made beforehand, longer ones when they are needed."""

    def __init__(self, memory: GuestMemory, count: int) -> None:
        self._memory = memory
        self._size = _SLOT_SIZE * count
        self._gpa = memory.alloc(self._size) if count else 0
        self._own: dict[int, tuple[int, int]] = {}

    def take(self, number: int, length: int) -> int:
        """The gpa of ``length`` bytes for a table."""
        if length <= _SLOT_SIZE:
            return self._gpa + number * _SLOT_SIZE
        gpa = self._memory.alloc(length)
        self._own[number] = (gpa, length)
        return gpa

    def give(self, number: int) -> None:
        """The chain came back."""
        table = self._own.pop(number, None)
        if table is not None:
            self._memory.free(*table)

    def clear(self) -> None:
        """No chain is out any more."""
        for number in list(self._own):
            self.give(number)

    def release(self) -> None:
        """Gives all memory back to the allocator."""
        self.clear()
        if self._size:
            self._memory.free(self._gpa, self._size)


class RingInMemory:
    """What both kinds of ring have: their size and features, three areas in guest memory, and the chains that are out.

    The areas are named as in SET_VRING_ADDR; a packed ring's ``avail`` and ``used`` are the driver's and the device's
    event suppression structure. What tells chains apart is their ``number``: a head, or a buffer id.
    """

    number_is = "number"
    """What it is called in errors."""

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        areas: tuple[int, int, int],
        *,
        indirect: bool,
        event_idx: bool,
        in_order: bool,
    ) -> None:
        """``areas``: bytes of each."""
        self.memory = memory
        self.size = size
        self.indirect = indirect
        self.event_idx = event_idx
        self.in_order = in_order
        self.desc_gpa, self.avail_gpa, self.used_gpa = map(memory.alloc, areas)
        self._areas = list(zip((self.desc_gpa, self.avail_gpa, self.used_gpa), areas, strict=True))
        self._desc, self._avail_bytes, self._used_bytes = (memory.view(*area) for area in self._areas)
        self._views = [self._desc, self._avail_bytes, self._used_bytes]
        self._tables = IndirectTables(memory, size if indirect else 0)
        self._out: dict[int, Out] = {}

    def _cast(self, view: memoryview, format_: Literal["H", "I"]) -> memoryview[int]:
        """The same bytes as items of another size; ends with the ring."""
        cast = view.cast(format_)
        self._views.insert(0, cast)
        return cast

    def _forget(self) -> None:
        """All is zero, and no chain is out."""
        for view in (self._desc, self._avail_bytes, self._used_bytes):
            view[:] = bytes(len(view))
        self._out.clear()
        self._tables.clear()

    def release(self) -> None:
        """Gives the ring's memory back to the allocator; the ring is not to be used any more."""
        for view in self._views:
            view.release()
        for area in self._areas:
            self.memory.free(*area)
        self._tables.release()

    # ---- what SET_VRING_ADDR carries ----

    @property
    def desc_uva(self) -> int:
        """VMM address of the descriptors."""
        return self.memory.uva(self.desc_gpa)

    @property
    def avail_uva(self) -> int:
        """VMM address of the avail ring, or of the driver's event suppression structure."""
        return self.memory.uva(self.avail_gpa)

    @property
    def used_uva(self) -> int:
        """VMM address of the used ring, or of the device's event suppression structure."""
        return self.memory.uva(self.used_gpa)

    # ---- chains ----

    @property
    def in_flight(self) -> int:
        """Chains that have not come back."""
        return len(self._out)

    def _note(self, number: int, entries: int, writable: Sequence[Segment]) -> None:
        self._out[number] = Out(entries, sum(s.length for s in writable))

    def _skipped(self, number: int) -> list[Used]:
        """Chains that this one stands for: in order, those before it count as written completely (2.7.9, 2.8.8)."""
        if number not in self._out:
            raise RingError(f"the device returned {self.number_is} {number}, which is not out")
        if not self.in_order:
            return []
        return [Used(other, self._out[other].writable) for other in takewhile(lambda o: o != number, self._out)]


class DriverRing(RingInMemory):
    """A split virtqueue of ``size`` entries (a power of two), laid out in ``memory``.

    :meth:`add` chains, :meth:`publish` them (true: kick the device), :meth:`harvest` what came back; :meth:`arm` asks
    for an interrupt at the next used entry and tells whether something has come in meanwhile. ``in_order``: chains come
    back in order, one used entry may stand for many (2.7.9).
    """

    number_is = "head"
    first_base = 0
    """What SET_VRING_BASE carries for an empty ring."""

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        *,
        indirect: bool = False,
        event_idx: bool = False,
        in_order: bool = False,
    ) -> None:
        if size < 1 or size & (size - 1) or size > 32768:
            raise ValueError(f"queue size {size} is no power of two up to 32768")
        areas = DESC_SIZE * size, 6 + 2 * size, 6 + 8 * size
        super().__init__(memory, size, areas, indirect=indirect, event_idx=event_idx, in_order=in_order)
        self._avail = self._cast(self._avail_bytes, "H")
        self._used = self._cast(self._used_bytes, "H")
        self.reset()

    def reset(self) -> None:
        """Back to an empty ring, as after a device reset; chains that are out are forgotten."""
        self._forget()
        self._free = deque(range(self.size))
        self._ids: dict[int, list[int]] = {}  # of the chains that are out, by their heads
        self._next_avail = 0
        self._published = 0
        self._last_used = 0

    # ---- how it stands ----

    @property
    def free_descriptors(self) -> int:
        """Descriptors that no chain holds."""
        return len(self._free)

    @property
    def avail_idx(self) -> int:
        """The published avail index, as the device sees it."""
        return self._avail[1]

    @property
    def last_used(self) -> int:
        """The used index up to which chains have been harvested (16 bits, wrapping)."""
        return self._last_used

    @property
    def next_descriptor(self) -> int:
        """The table entry that the next chain begins with. IndexError when there is none free."""
        return self._free[0]

    # ---- adding ----

    def add(self, readable: Sequence[Segment], writable: Sequence[Segment] = ()) -> int:
        """Queues a chain of device-readable, then device-writable segments; returns its head. Raises RingFull.

        The device sees it at the next :meth:`publish`.
        """
        segments = [(s, 0) for s in readable] + [(s, F_WRITE) for s in writable]
        indirect = self.indirect and len(segments) > 1
        if not segments or (len(segments) > self.size and not indirect):
            raise ValueError(f"a chain of {len(segments)} descriptors on a queue of {self.size}")
        ids = self._add_indirect(segments) if indirect else self._add_direct(segments)
        self._ids[ids[0]] = ids
        self._note(ids[0], len(ids), writable)
        self._avail[2 + self._next_avail % self.size] = ids[0]
        self._next_avail = (self._next_avail + 1) & 0xFFFF
        return ids[0]

    def _add_direct(self, segments: list[tuple[Segment, int]]) -> list[int]:
        if len(segments) > len(self._free):
            raise RingFull(f"{len(segments)} descriptors wanted, {len(self._free)} free")
        ids = [self._free.popleft() for _ in segments]
        _write_chain(self._desc, ids, segments)
        return ids

    def _add_indirect(self, segments: list[tuple[Segment, int]]) -> list[int]:
        if not self._free:
            raise RingFull("1 descriptor wanted, 0 free")
        head = self._free.popleft()
        length = len(segments) * DESC_SIZE
        gpa = self._tables.take(head, length)
        _write_chain(self.memory.view(gpa, length), range(len(segments)), segments)
        _DESC.pack_into(self._desc, head * DESC_SIZE, gpa, length, F_INDIRECT, 0)
        return [head]

    def publish(self) -> bool:
        """Makes every added chain visible to the device; true when it wants a kick for them."""
        old, new = self._published, self._next_avail
        self._avail[1] = new
        self._published = new
        full_barrier()
        if old == new:
            return False
        if self.event_idx:
            event = self._used[2 + 4 * self.size]
            return (new - event - 1) & 0xFFFF < (new - old) & 0xFFFF
        return not self._used[0] & USED_F_NO_NOTIFY

    # ---- completion ----

    def harvest(self) -> list[Used]:
        """Takes every chain that came back; their descriptors are free again. Raises RingError."""
        done = []
        while ahead := (self._used[1] - self._last_used) & 0xFFFF:
            head, length = _USED_ELEM.unpack_from(self._used_bytes, 4 + 8 * (self._last_used % self.size))
            batch = [*self._skipped(head), Used(head, length)]
            if len(batch) > ahead:
                raise RingError(f"the device returned {len(batch)} chains and counts {ahead}")
            for used in batch:
                self._recycle(used.head)
            self._last_used = (self._last_used + len(batch)) & 0xFFFF
            done += batch
        return done

    def _recycle(self, head: int) -> None:
        del self._out[head]
        ids = self._ids.pop(head)
        if self.in_order:
            self._free.extend(ids)  # so that the next ones follow in the table, as the device may expect (2.7.5.2)
        else:
            self._free.extendleft(reversed(ids))
        self._tables.give(head)

    def arm(self) -> bool:
        """Asks for an interrupt with the next used entry; true when one is there already (harvest again)."""
        if self.event_idx:
            self._avail[2 + self.size] = self._last_used
        else:
            self._avail[0] = 0
        full_barrier()
        return self._last_used != self._used[1]

    def suppress(self) -> None:
        """Asks for no interrupts (a hint): for a driver that polls."""
        if self.event_idx:
            self._avail[2 + self.size] = (self._last_used - 1) & 0xFFFF
        else:
            self._avail[0] = AVAIL_F_NO_INTERRUPT


def _write_chain(table: memoryview, ids: Sequence[int], segments: list[tuple[Segment, int]]) -> None:
    last = len(segments) - 1
    for i, (segment, flags) in enumerate(segments):
        follow, flags = (ids[i + 1], flags | F_NEXT) if i < last else (0, flags)
        _DESC.pack_into(table, ids[i] * DESC_SIZE, segment.gpa, segment.length, flags, follow)
