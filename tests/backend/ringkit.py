"""A guest in miniature for tests of the C core: memory in a memfd, rings of both kinds filled by hand, right or wrong.

It gives full control over every byte of a ring; the real driver for whole sessions is ``vhost_gpu.guest``.
"""

import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from backend._core import ffi, lib

F_NEXT = 1
F_WRITE = 2
F_INDIRECT = 4
NO_INTERRUPT = 1
NO_NOTIFY = 1

INDIRECT_DESC = 1 << 28
EVENT_IDX = 1 << 29
VERSION_1 = 1 << 32
RING_PACKED = 1 << 34
IN_ORDER = 1 << 35

PACKED_AVAIL = 1 << 7
PACKED_USED = 1 << 15
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = 0, 1, 2

FEATURES = INDIRECT_DESC | EVENT_IDX | VERSION_1

KINDS = {
    "split": 0,
    "packed": RING_PACKED,
    "split, in order": IN_ORDER,
    "packed, in order": RING_PACKED | IN_ORDER,
}
"""Kinds of rings, by the features that make them."""

UVA = 0x7F00_0000_0000
"""VMM address minus guest-physical address: the two must never be mixed up."""
RAM_GPA = 0x10_0000
RAM_SIZE = 1 << 20
BUDGET_NS = 1_000_000_000

OK = 0x1100
ERR_UNSPEC = 0x1200
ERR_OUT_OF_MEMORY = 0x1201
ERR_INVALID_SCANOUT_ID = 0x1202
ERR_INVALID_RESOURCE_ID = 0x1203
ERR_INVALID_PARAMETER = 0x1205

FLAG_FENCE = 1
FLAG_RING_IDX = 2


def header(type_: int, flags: int = 0, fence_id: int = 0, ctx_id: int = 0, ring_idx: int = 0) -> bytes:
    """``struct virtio_gpu_ctrl_hdr``."""
    return struct.pack("<IIQIB3x", type_, flags, fence_id, ctx_id, ring_idx)


def get_display_info() -> bytes:
    return header(0x100)


def create_2d(resource: int, width: int, height: int, format_: int = 2) -> bytes:
    return header(0x101) + struct.pack("<IIII", resource, format_, width, height)


def set_scanout(scanout: int, resource: int, width: int, height: int, flags: int = 0) -> bytes:
    return header(0x103, flags) + struct.pack("<IIIIII", 0, 0, width, height, scanout, resource)


def flush(resource: int, width: int, height: int, **fence: int) -> bytes:
    return header(0x104, **fence) + struct.pack("<IIIIII", 0, 0, width, height, resource, 0)


def transfer(resource: int, width: int, height: int, offset: int = 0, **fence: int) -> bytes:
    return header(0x105, **fence) + struct.pack("<IIIIQII", 0, 0, width, height, offset, resource, 0)


def attach_backing(resource: int, entries: Sequence[tuple[int, int]], count: int | None = None) -> bytes:
    """count: what the command claims, when it is not the number of entries."""
    fixed = struct.pack("<II", resource, len(entries) if count is None else count)
    return header(0x106) + fixed + b"".join(struct.pack("<QII", gpa, length, 0) for gpa, length in entries)


def update_cursor(scanout: int, x: int, y: int, resource: int) -> bytes:
    return header(0x300) + struct.pack("<IIIIIIII", scanout, x, y, 0, resource, 0, 0, 0)


def move_cursor(scanout: int, x: int, y: int) -> bytes:
    return header(0x301) + struct.pack("<IIIIIIII", scanout, x, y, 0, 0, 0, 0, 0)


class Ram:
    """One region of guest memory in a memfd of its own."""

    def __init__(self, core: Any, gpa: int, size: int, offset: int = 0) -> None:
        self.core, self.gpa, self.size, self.offset = core, gpa, size, offset
        self.fd = os.memfd_create("guest")
        os.ftruncate(self.fd, offset + size)
        self.map = mmap.mmap(self.fd, offset + size)
        self.added = self.add()

    def add(self) -> int:
        return lib.vg_mem_add(self.core, self.fd, self.gpa, self.size, self.gpa + UVA, self.offset)

    def remove(self) -> int:
        return lib.vg_mem_remove(self.core, self.gpa, self.size, self.gpa + UVA)

    def shrink(self, size: int) -> None:
        """The file ends so early from now on; this end of the mapping goes with it."""
        self.map.close()
        os.ftruncate(self.fd, self.offset + size)
        self.map = mmap.mmap(self.fd, self.offset + size)

    def write(self, gpa: int, data: bytes) -> None:
        start = gpa - self.gpa + self.offset
        self.map[start : start + len(data)] = data

    def read(self, gpa: int, length: int) -> bytes:
        start = gpa - self.gpa + self.offset
        return self.map[start : start + length]

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


@dataclass
class Chain:
    """A chain that a test put in a ring: its head and where its reply goes."""

    head: int
    writable: list[tuple[int, int]] = field(default_factory=list)


class Ring:
    """The driver's side of one queue; ``SplitRing`` and ``PackedRing`` are its kinds."""

    desc: int
    avail: int
    used: int

    def __init__(self, kit: "Kit", index: int, num: int) -> None:
        self.kit, self.index, self.num = kit, index, num
        self.event_idx = bool(kit.features & EVENT_IDX)
        self.in_order = bool(kit.features & IN_ORDER)
        self.kick, self.call, self.err = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(3))
        self.out: dict[int, tuple[int, int]] = {}
        """Chains made by ``add`` that are not back: entries of the ring and writable bytes."""
        self.request = ffi.new("vg_request *")

    def base(self) -> int:
        """Where the device is to go on, as in SET_VRING_BASE."""
        raise NotImplementedError

    def start(self) -> None:
        core, index = self.kit.core, self.index
        assert lib.vg_queue_set_num(core, index, self.num) == 0
        assert lib.vg_queue_set_addr(core, index, self.desc + UVA, self.avail + UVA, self.used + UVA) == 0
        assert lib.vg_queue_set_base(core, index, self.base()) == 0
        lib.vg_queue_set_kick(core, index, self.kick)
        lib.vg_queue_set_call(core, index, self.call)
        lib.vg_queue_set_err(core, index, self.err)
        lib.vg_queue_set_started(core, index, 1)
        lib.vg_queue_set_enabled(core, index, 1)

    # -- chains

    def add(self, buffers: Sequence[tuple[int, int, int]], *, indirect: bool = False) -> int:
        """Makes a chain of (gpa, length, flags) available. Returns its id."""
        writable = sum(length for _, length, flags in buffers if flags & F_WRITE)
        if indirect:
            table = self.kit.place(self.pack_table(buffers))
            buffers = [(table, 16 * len(buffers), F_INDIRECT)]
        id_ = self._put_chain(buffers)
        self.out[id_] = (self._slots(buffers), writable)
        return id_

    @staticmethod
    def pack_table(buffers: Sequence[tuple[int, int, int]]) -> bytes:
        """An indirect table whose entries follow one another."""
        raise NotImplementedError

    def _put_chain(self, buffers: Sequence[tuple[int, int, int]]) -> int:
        raise NotImplementedError

    def _slots(self, buffers: Sequence[tuple[int, int, int]]) -> int:
        raise NotImplementedError

    def send(self, request: bytes | Sequence[bytes], reply: int | Sequence[int] = 24, indirect: bool = False) -> Chain:
        """Publishes a request (in pieces, if given so) with room for a reply (likewise)."""
        pieces = [request] if isinstance(request, bytes) else request
        rooms = [reply] if isinstance(reply, int) else reply
        readable = [(self.kit.place(piece), len(piece), 0) for piece in pieces]
        writable = [(self.kit.alloc(room), room) for room in rooms if room]
        head = self.add(readable + [(gpa, room, F_WRITE) for gpa, room in writable], indirect=indirect)
        return Chain(head, writable)

    # -- notifications

    def kick_wanted(self) -> bool:
        """Whether the device asked to be told of the chain that was added last, which took one entry."""
        raise NotImplementedError

    def ask_call(self) -> None:
        """Asks to be interrupted at the next used entry."""
        raise NotImplementedError

    # -- what came back

    def take_used(self) -> list[tuple[int, int]]:
        """(id, bytes written) of chains that came back since last asked."""
        back = []
        while (used := self._next_used()) is not None:
            batch = self._skipped(used[0])
            back += [(id_, self.out[id_][1]) for id_ in batch] + [used]
            self._skip([*batch, used[0]])
        return back

    def _skipped(self, id_: int) -> list[int]:
        """In order, chains before the one that came back are back too, and full."""
        ids = list(self.out)
        return ids[: ids.index(id_)] if self.in_order and id_ in ids else []

    def take_entries(self) -> list[tuple[int, int]]:
        """As ``take_used``, but only what was told: the used entries themselves."""
        entries = []
        while (used := self._next_used()) is not None:
            self._skip([*self._skipped(used[0]), used[0]])
            entries.append(used)
        return entries

    def _next_used(self) -> tuple[int, int] | None:
        raise NotImplementedError

    def _skip(self, ids: Sequence[int]) -> None:
        raise NotImplementedError

    # -- the device

    def reply(self, chain: Chain) -> bytes:
        return b"".join(self.kit.read(gpa, room) for gpa, room in chain.writable)

    def drain(self, budget_ns: int = BUDGET_NS) -> int:
        return lib.vg_queue_drain(self.kit.core, self.index, budget_ns, self.request)

    def complete(self, type_: int = OK, payload: bytes = b"") -> None:
        lib.vg_request_complete(self.kit.core, self.request, type_, payload, len(payload))

    def data(self) -> bytes:
        return bytes(ffi.buffer(self.request.data, self.request.size))

    def info(self) -> Any:
        out = ffi.new("vg_queue_info *")
        assert lib.vg_queue_describe(self.kit.core, self.index, out) == 0
        return out

    @property
    def reason(self) -> str:
        info = self.info()  # owns the array below
        return ffi.string(info.reason).decode()

    def call_count(self) -> int:
        return take_eventfd(self.call)

    def err_count(self) -> int:
        return take_eventfd(self.err)

    def close(self) -> None:
        for fd in (self.kick, self.call, self.err):
            os.close(fd)


class SplitRing(Ring):
    """virtio 1.3, 2.7."""

    def __init__(self, kit: "Kit", index: int, num: int) -> None:
        super().__init__(kit, index, num)
        self.desc = kit.alloc(16 * num)
        self.avail = kit.alloc(6 + 2 * num)
        self.used = kit.alloc(6 + 8 * num)
        self.free = 0
        self.avail_idx = self.seen_used = 0

    def base(self) -> int:
        return self.avail_idx

    def put(self, slot: int, gpa: int, length: int, flags: int = 0, next_: int = 0) -> None:
        self.kit.write(self.desc + 16 * slot, struct.pack("<QIHH", gpa, length, flags, next_))

    def publish(self, head: int) -> None:
        self.kit.write(self.avail + 4 + 2 * (self.avail_idx % self.num), struct.pack("<H", head))
        self.set_avail_idx(self.avail_idx + 1)

    def set_avail_idx(self, value: int) -> None:
        self.avail_idx = value & 0xFFFF
        self.kit.write(self.avail + 2, struct.pack("<H", self.avail_idx))

    def _put_chain(self, buffers: Sequence[tuple[int, int, int]]) -> int:
        head = self.free
        slots = [(head + i) % self.num for i in range(len(buffers))]
        for i, (gpa, length, flags) in enumerate(buffers):
            last = i == len(buffers) - 1
            self.put(slots[i], gpa, length, flags | (0 if last else F_NEXT), 0 if last else slots[i + 1])
        self.free = (head + len(buffers)) % self.num
        self.publish(head)
        return head

    def _slots(self, buffers: Sequence[tuple[int, int, int]]) -> int:  # noqa: ARG002
        return 1

    @staticmethod
    def pack_table(buffers: Sequence[tuple[int, int, int]]) -> bytes:
        last = len(buffers) - 1
        return b"".join(
            struct.pack("<QIHH", gpa, length, flags | (F_NEXT if i < last else 0), i + 1 if i < last else 0)
            for i, (gpa, length, flags) in enumerate(buffers)
        )

    def set_used_event(self, value: int) -> None:
        self.kit.write(self.avail + 4 + 2 * self.num, struct.pack("<H", value & 0xFFFF))

    def avail_event(self) -> int:
        return struct.unpack("<H", self.kit.read(self.used + 4 + 8 * self.num, 2))[0]

    def kick_wanted(self) -> bool:
        if self.event_idx:
            return self.avail_event() == (self.avail_idx - 1) & 0xFFFF
        return not self.kit.read(self.used, 1)[0] & NO_NOTIFY

    def ask_call(self) -> None:
        self.set_used_event(self.seen_used)

    def _next_used(self) -> tuple[int, int] | None:
        (now,) = struct.unpack("<H", self.kit.read(self.used + 2, 2))
        if self.seen_used == now:
            return None
        return struct.unpack("<II", self.kit.read(self.used + 4 + 8 * (self.seen_used % self.num), 8))

    def _skip(self, ids: Sequence[int]) -> None:
        self.seen_used = (self.seen_used + len(ids)) & 0xFFFF
        for id_ in ids:
            self.out.pop(id_, None)


class PackedRing(Ring):
    """virtio 1.3, 2.8. ``next`` and ``seen`` count entries from the start; each turn flips the wrap counter.

    Buffer ids count up without regard to the ring's size.
    """

    def __init__(self, kit: "Kit", index: int, num: int) -> None:
        super().__init__(kit, index, num)
        self.desc = kit.alloc(16 * num)
        self.avail = kit.alloc(4)
        self.used = kit.alloc(4)
        self.next = self.seen = 0
        self.next_id = 0

    def place(self, count: int) -> int:
        """Index and wrap counter after so many entries, as a base has them."""
        return count % self.num | (count // self.num % 2 ^ 1) << 15

    def base(self) -> int:
        return self.place(self.next) | self.place(self.seen) << 16

    def available(self, count: int) -> int:
        """The flags that make an entry available."""
        return PACKED_AVAIL if self.place(count) >> 15 else PACKED_USED

    def put(self, slot: int, gpa: int, length: int, flags: int = 0, id_: int = 0) -> None:
        self.kit.write(self.desc + 16 * slot, struct.pack("<QIHH", gpa, length, id_, flags))

    def _put_chain(self, buffers: Sequence[tuple[int, int, int]]) -> int:
        id_ = self.next_id
        self.next_id = (id_ + 1) & 0xFFFF
        last = len(buffers) - 1
        for i in reversed(range(len(buffers))):
            gpa, length, flags = buffers[i]
            flags |= (F_NEXT if i < last else 0) | self.available(self.next + i)
            self.put((self.next + i) % self.num, gpa, length, flags, id_ if i == last else 0xDEAD)
        self.next += len(buffers)
        return id_

    def _slots(self, buffers: Sequence[tuple[int, int, int]]) -> int:
        return len(buffers)

    @staticmethod
    def pack_table(buffers: Sequence[tuple[int, int, int]]) -> bytes:
        return b"".join(struct.pack("<QIHH", gpa, length, 0, flags) for gpa, length, flags in buffers)

    def set_driver_event(self, flags: int, at: int = 0) -> None:
        """``at``: an entry, counted from the start."""
        self.kit.write(self.avail, struct.pack("<HH", self.place(at), flags))

    def device_event(self) -> tuple[int, int]:
        """Place and flags."""
        return struct.unpack("<HH", self.kit.read(self.used, 4))

    def kick_wanted(self) -> bool:
        place, flags = self.device_event()
        return place == self.place(self.next - 1) if flags == EVENT_DESC else flags == EVENT_ENABLE

    def ask_call(self) -> None:
        self.set_driver_event(EVENT_DESC if self.event_idx else EVENT_ENABLE, self.seen)

    def _next_used(self) -> tuple[int, int] | None:
        at = self.desc + 16 * (self.seen % self.num)
        _, length, id_, flags = struct.unpack("<QIHH", self.kit.read(at, 16))
        owner = PACKED_AVAIL | PACKED_USED
        if flags & owner != (owner if self.place(self.seen) >> 15 else 0):
            return None
        assert bool(flags & F_WRITE) is bool(length)
        return id_, length

    def _skip(self, ids: Sequence[int]) -> None:
        self.seen += sum(self.out.pop(id_)[0] for id_ in ids)


def take_eventfd(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


class Kit:
    """A device with one region of memory and both queues running."""

    def __init__(
        self,
        num: int = 16,
        features: int = FEATURES,
        hostmem: int = 1 << 24,
        ram_size: int = RAM_SIZE,
        ram_offset: int = 0,
    ) -> None:
        self.core = lib.vg_device_new(2, hostmem)
        self.ram = Ram(self.core, RAM_GPA, ram_size, ram_offset)
        self.rams = [self.ram]
        self.next = RAM_GPA
        self.features = features
        self.packed, self.in_order = bool(features & RING_PACKED), bool(features & IN_ORDER)
        lib.vg_set_features(self.core, features)
        kind = PackedRing if features & RING_PACKED else SplitRing
        self.control: Any = kind(self, lib.VG_QUEUE_CONTROL, num)
        self.cursor: Any = kind(self, lib.VG_QUEUE_CURSOR, num)
        for ring in (self.control, self.cursor):
            ring.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        lib.vg_device_free(self.core)
        for part in (*self.rams, self.control, self.cursor):
            part.close()

    def add_ram(self, gpa: int, size: int, offset: int = 0) -> Ram:
        ram = Ram(self.core, gpa, size, offset)
        self.rams.append(ram)
        return ram

    def alloc(self, size: int) -> int:
        """size bytes of the first region, 16-byte aligned, never given back."""
        gpa = self.next
        self.next += (size + 15) // 16 * 16
        assert self.next <= self.ram.gpa + self.ram.size
        return gpa

    def place(self, data: bytes) -> int:
        gpa = self.alloc(len(data))
        self.write(gpa, data)
        return gpa

    def write(self, gpa: int, data: bytes) -> None:
        self._ram_of(gpa).write(gpa, data)

    def read(self, gpa: int, length: int) -> bytes:
        return self._ram_of(gpa).read(gpa, length)

    def _ram_of(self, gpa: int) -> Ram:
        return next(ram for ram in self.rams if ram.gpa <= gpa < ram.gpa + ram.size)

    def hostmem_used(self) -> int:
        return lib.vg_hostmem_used(self.core)

    def make_resource(self, resource: int, width: int, height: int) -> int:
        """A 2D resource with backing, made without the ring. Returns where the backing is."""
        backing = self.alloc(width * height * 4)
        assert lib.vg_resource_create_2d(self.core, resource, 2, width, height) == OK
        entry = struct.pack("<QII", backing, width * height * 4, 0)
        assert lib.vg_resource_attach_backing(self.core, resource, entry, 1) == OK
        return backing
