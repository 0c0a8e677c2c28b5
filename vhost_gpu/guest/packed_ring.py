"""Driver side of a packed virtqueue in pure Python (virtio 1.3, 2.8; ``linux/virtio_ring.h``).

Order of stores: as in :mod:`vhost_gpu.guest.ring`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.ring import (
    DESC_SIZE,
    F_INDIRECT,
    F_NEXT,
    F_WRITE,
    DriverRing,
    RingFull,
    RingInMemory,
    Segment,
    Used,
    full_barrier,
)

F_AVAIL = 1 << 7
F_USED = 1 << 15
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = 0, 1, 2
"""Flags of an event suppression structure."""

_EVENT_SIZE = 4
_BODY = struct.Struct("<QIH")  # address, length, id: a descriptor without its flags
_DESC = struct.Struct("<QIHH")


@dataclass(slots=True)
class _Place:
    """A place in the ring, with the wrap counter there."""

    size: int
    index: int = 0
    wrap: int = 1

    def skip(self, count: int) -> None:
        """Goes on by ``count`` entries, one turn at most."""
        self.index += count
        if self.index >= self.size:
            self.index -= self.size
            self.wrap ^= 1


class PackedRing(RingInMemory):
    """A packed virtqueue of ``size`` entries (1..32768); its methods are those of the split ``DriverRing``.

    ``head`` in what is returned is the buffer id.
    """

    number_is = "id"
    first_base = 0x80008000
    """What SET_VRING_BASE carries for an empty ring: both wrap counters are 1."""

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        *,
        indirect: bool = False,
        event_idx: bool = False,
        in_order: bool = False,
    ) -> None:
        if not 1 <= size <= 32768:
            raise ValueError(f"queue size {size} is not in 1..32768")
        areas = DESC_SIZE * size, _EVENT_SIZE, _EVENT_SIZE
        super().__init__(memory, size, areas, indirect=indirect, event_idx=event_idx, in_order=in_order)
        self._flags = self._cast(self._desc, "H")
        self._driver_event = self._cast(self._avail_bytes, "I")
        self._device_event = self._cast(self._used_bytes, "I")
        self.reset()

    def reset(self) -> None:
        """Back to an empty ring, as after a device reset; chains that are out are forgotten."""
        self._forget()
        self._ids = list(range(self.size - 1, -1, -1))
        self.free_descriptors = self.size
        self._next = _Place(self.size)
        self._last_used = _Place(self.size)
        self._unpublished: list[tuple[int, int]] = []  # chains' first entries and the flags that make them available
        self._added = 0  # entries since the last publish

    @property
    def next_place(self) -> tuple[int, int]:
        """Index and wrap counter of the next chain's first descriptor."""
        return self._next.index, self._next.wrap

    # ---- adding ----

    def add(self, readable: Sequence[Segment], writable: Sequence[Segment] = ()) -> int:
        """Queues a chain of device-readable, then device-writable segments; returns its id. Raises RingFull.

        The device sees it at the next :meth:`publish`.
        """
        segments = [(s, 0) for s in readable] + [(s, F_WRITE) for s in writable]
        indirect = self.indirect and len(segments) > 1
        slots = 1 if indirect else len(segments)
        if not segments or slots > self.size:
            raise ValueError(f"a chain of {len(segments)} descriptors on a queue of {self.size}")
        if slots > self.free_descriptors:
            raise RingFull(f"{slots} descriptors wanted, {self.free_descriptors} free")
        number = self._ids.pop()
        if indirect:
            segments = [self._table(number, segments)]
        self._write_chain(number, segments)
        self._note(number, slots, writable)
        self.free_descriptors -= slots
        self._added += slots
        return number

    def _table(self, number: int, segments: list[tuple[Segment, int]]) -> tuple[Segment, int]:
        length = len(segments) * DESC_SIZE
        gpa = self._tables.take(number, length)
        table = self.memory.view(gpa, length)
        for i, (segment, flags) in enumerate(segments):
            _DESC.pack_into(table, i * DESC_SIZE, segment.gpa, segment.length, 0, flags)
        return Segment(gpa, length), F_INDIRECT

    def _write_chain(self, number: int, segments: list[tuple[Segment, int]]) -> None:
        """Everything but the flags of the first descriptor, which stays the device's until it is published."""
        last = len(segments) - 1
        for i, (segment, flags) in enumerate(segments):
            at = self._next.index
            flags |= (F_NEXT if i < last else 0) | (F_AVAIL if self._next.wrap else F_USED)
            _BODY.pack_into(self._desc, at * DESC_SIZE, segment.gpa, segment.length, number)
            if i == 0:
                self._unpublished.append((at, flags))
            else:
                self._set_flags(at, flags)
            self._next.skip(1)

    def _set_flags(self, index: int, flags: int) -> None:
        self._flags[8 * index + 7] = flags

    def publish(self) -> bool:
        """Makes every added chain visible to the device, the first one last; true when it wants a kick for them."""
        added, self._added = self._added, 0
        for index, flags in reversed(self._unpublished):
            self._set_flags(index, flags)
        self._unpublished.clear()
        full_barrier()
        return added > 0 and self._wants_kick(added)

    def _wants_kick(self, added: int) -> bool:
        event = self._device_event[0]
        flags = event >> 16
        if flags != EVENT_DESC:
            return flags != EVENT_DISABLE
        at = (event & 0x7FFF) - (self.size if event >> 15 & 1 != self._next.wrap else 0)
        return (self._next.index - at - 1) & 0xFFFF < added

    # ---- completion ----

    def harvest(self) -> list[Used]:
        """Takes every chain that came back; their descriptors are free again. Raises RingError."""
        done = []
        while self._is_used():
            _, length, number, flags = _DESC.unpack_from(self._desc, self._last_used.index * DESC_SIZE)
            batch = [*self._skipped(number), Used(number, length if flags & F_WRITE else 0)]
            self._last_used.skip(sum(self._recycle(used.head) for used in batch))
            done += batch
        return done

    def _is_used(self) -> bool:
        owner = self._flags[8 * self._last_used.index + 7] & (F_AVAIL | F_USED)
        return owner == (F_AVAIL | F_USED if self._last_used.wrap else 0)

    def _recycle(self, number: int) -> int:
        slots = self._out.pop(number).entries
        self.free_descriptors += slots
        self._ids.append(number)
        self._tables.give(number)
        return slots

    def arm(self) -> bool:
        """Asks for an interrupt with the next used descriptor; true when one is there already (harvest again)."""
        place = self._last_used
        self._driver_event[0] = EVENT_DESC << 16 | place.wrap << 15 | place.index if self.event_idx else EVENT_ENABLE
        full_barrier()
        return self._is_used()

    def suppress(self) -> None:
        """Asks for no interrupts (a hint): for a driver that polls."""
        self._driver_event[0] = EVENT_DISABLE << 16


Ring = DriverRing | PackedRing
"""Either kind."""
