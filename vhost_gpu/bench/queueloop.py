"""The C loop over one virtqueue: what a driver would do, at the speed of a driver (``core/run.c``)."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol.virtio_gpu import HEADER_SIZE, Command, ResponseType
from vhost_gpu.bench._loop import ffi, lib
from vhost_gpu.bench.model import BenchError
from vhost_gpu.guest.memory import PAGE, GuestMemory
from vhost_gpu.guest.packed_ring import PackedRing, Ring
from vhost_gpu.guest.ring import Segment

if TYPE_CHECKING:
    from vhost_gpu.bench._loop import CData

ARENA_SIZE = 64 * PAGE
MAX_LATENCIES = 1 << 20

_ENDS = {
    errno.EPIPE: "the back-end has closed the connection",
    errno.ETIMEDOUT: "the back-end has not answered for ten seconds",
    errno.EPROTO: "the back-end returned a chain that was not out",
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A command as it will be sent: at most 64 bytes, room for the reply (0: none), the answer that is no error.

    ``payload``: what follows the request, from where it lies in guest memory. It wants a ring with indirect
    descriptors. A request with HeaderFlag.FENCE is given a new fence id each time, and its reply must have that.
    """

    request: bytes
    reply_length: int = HEADER_SIZE
    expect: int = ResponseType.OK_NODATA
    payload: Segment | None = None


def prepare(
    *commands: Command, reply_length: int = HEADER_SIZE, expect: int = ResponseType.OK_NODATA
) -> tuple[Prepared, ...]:
    """An operation of ``commands``."""
    return tuple(Prepared(command.encode(), reply_length, expect) for command in commands)


@dataclass(frozen=True, slots=True)
class Run:
    """How a run went. ``latencies``: nanoseconds of each operation, at most 2^20 of them, sorted.

    ``batches``: looks at the ring that found completions, each of which asks for one interrupt at most.
    """

    operations: int
    commands: int
    kicks: int
    interrupts: int
    batches: int
    seconds: float
    latencies: list[int] = field(repr=False)

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.seconds

    def percentile_us(self, percent: float) -> float:
        """A percentile of the latencies in microseconds."""
        return percentile(self.latencies, percent) / 1000


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of the values do not exceed. ValueError when there are none."""
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


class Stop:
    """Tells runs in other threads to end, or, in ``memory`` that they share, in other processes."""

    def __init__(self, memory: memoryview | None = None) -> None:
        self._memory = None if memory is None else ffi.from_buffer("uint8_t[]", memory, require_writable=True)
        self.flag = ffi.new("int *") if memory is None else ffi.cast("int *", self._memory)

    def set(self) -> None:
        """Ends them after the operations that are in flight."""
        self.flag[0] = 1

    def clear(self) -> None:
        """For the next ones, when those have ended."""
        self.flag[0] = 0


class Tally:
    """Counts the operations of a run elsewhere while it goes on, in ``memory`` that both see. It keeps no latencies."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = ffi.from_buffer("uint8_t[]", memory, require_writable=True)
        self.result = ffi.cast("vb_result *", self._memory)

    @property
    def operations(self) -> int:
        """Finished so far."""
        return int(self.result.operations)

    def clear(self) -> None:
        """For the next run."""
        self.result.operations = 0


class QueueLoop:
    """Drives ``ring`` in C from here on: whoever set it up has nothing in flight and leaves it alone."""

    def __init__(self, memory: GuestMemory, ring: Ring, kick: int, call: int, peer: int) -> None:
        """``kick``, ``call``: the queue's eventfds; ``peer``: the vhost-user socket, whose end ends a run."""
        if ring.in_flight:
            raise ValueError("a queue with commands in flight")
        packed = isinstance(ring, PackedRing)
        arena = memory.alloc(ARENA_SIZE)
        self._views = [
            ffi.from_buffer("uint8_t[]", memory.view(gpa, size), require_writable=True)
            for gpa, size in (
                (ring.desc_gpa, 16 * ring.size),
                (ring.avail_gpa, 4 if packed else 6 + 2 * ring.size),
                (ring.used_gpa, 4 if packed else 6 + 8 * ring.size),
                (arena, ARENA_SIZE),
            )
        ]
        desc, avail, used, buffers = self._views
        self._queue = ffi.new("vb_queue *")
        queue = self._queue
        queue.size, queue.indirect, queue.event_idx = ring.size, ring.indirect, ring.event_idx
        queue.packed, queue.in_order = packed, ring.in_order
        queue.desc, queue.avail, queue.used = desc, avail, used
        queue.kick_fd, queue.call_fd, queue.peer_fd = kick, call, peer
        queue.arena, queue.arena_gpa, queue.arena_size = buffers, arena, ARENA_SIZE
        self._go_on(ring)

    def _go_on(self, ring: Ring) -> None:
        """Begins where the ring's owner is."""
        queue = self._queue
        if isinstance(ring, PackedRing):
            queue.next_avail, queue.avail_wrap = ring.next_place
            queue.last_used, queue.used_wrap = queue.next_avail, queue.avail_wrap
            return
        queue.next_avail = queue.published = ring.avail_idx
        queue.last_used, queue.next_desc = ring.last_used, ring.next_descriptor

    def run(
        self,
        operations: Sequence[Sequence[Prepared]],
        *,
        depth: int = 1,
        seconds: float = 0.0,
        count: int = 0,
        interval: float = 0.0,
        stop: Stop | None = None,
        tally: Tally | None = None,
    ) -> Run:
        """Sends ``operations`` one after another, over and over, ``depth`` in flight, each of equally many commands.

        Ends after ``seconds`` or ``count`` operations, whichever is there and first, or at ``stop``. ``interval``:
        seconds from one begin to the next. ``tally``: is kept meanwhile. Raises BenchError when the device ends, hangs,
        or answers with an error.
        """
        commands = _commands(operations)
        room = 0 if tally is not None else min(count or MAX_LATENCIES, MAX_LATENCIES)
        latencies = ffi.new("uint64_t[]", room)
        job = ffi.new("vb_job *")
        job.commands, job.variants, job.per_op = commands, len(operations), len(operations[0])
        job.depth, job.max_ops, job.max_ns = depth, count, int(seconds * 1e9)
        job.interval_ns, job.stop = int(interval * 1e9), ffi.NULL if stop is None else stop.flag
        job.latency, job.latency_room = latencies, room
        result = ffi.new("vb_result *") if tally is None else tally.result
        _check(lib.vb_run(self._queue, job, result), result)
        return Run(
            result.operations,
            result.commands,
            result.kicks,
            result.interrupts,
            result.batches,
            result.ns / 1e9,
            sorted(ffi.unpack(latencies, result.latencies)),
        )


def _commands(operations: Sequence[Sequence[Prepared]]) -> CData:
    lengths = {len(operation) for operation in operations}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError("operations of one length are wanted")
    flat = [command for operation in operations for command in operation]
    commands = ffi.new("vb_command[]", len(flat))
    for into, command in zip(commands, flat, strict=True):
        ffi.buffer(into.request)[: len(command.request)] = command.request
        into.length = len(command.request)
        into.reply_length = command.reply_length
        into.expect = command.expect
        if command.payload is not None:
            into.payload_gpa, into.payload_length = command.payload.gpa, command.payload.length
    return commands


def _check(error: int, result: CData) -> None:
    if error == -errno.EINVAL:
        raise ValueError("these commands, or that many, do not fit the queue")
    if error:
        raise BenchError(_ENDS.get(-error, os.strerror(-error)))
    if result.lost_fences:
        raise BenchError(f"{result.lost_fences} of {result.commands} commands came back without their fences")
    if result.errors:
        raise BenchError(
            f"{result.errors} of {result.commands} commands failed, the first with {_type_name(result.error_type)}"
        )


def _type_name(type_: int) -> str:
    try:
        return ResponseType(type_).name
    except ValueError:
        return f"{type_:#x}"
