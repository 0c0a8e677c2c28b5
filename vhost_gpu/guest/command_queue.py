"""One virtqueue of the guest's driver: requests in, responses out, any number in flight.

Requests are copied into guest memory, so callers need not keep them. What does not fit into the ring waits in order.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vhost_gpu.guest.memory import PAGE, GuestMemory
from vhost_gpu.guest.packed_ring import PackedRing, Ring
from vhost_gpu.guest.ring import DriverRing, RingFull, Segment, Used

_HALF = PAGE // 2

T = TypeVar("T")


class DeviceStopped(Exception):
    """The device was reset or the connection closed while a request was in flight."""


@dataclass(slots=True)
class _Buffer:
    """Guest memory of one request: a page of the pool (request in the lower half, reply above), or one of its own."""

    request: int
    reply: int
    size: int


@dataclass(slots=True)
class _Job:
    readable: Sequence[Segment]
    writable: Sequence[Segment]
    finish: Callable[[Used | None], None]
    """Takes what came back, or None when the device stopped first."""


def cut(segment: Segment, pieces: Sequence[int]) -> list[Segment]:
    """Cuts a segment into pieces of the given lengths, as far as it reaches; what is left becomes the last one."""
    gpa, left = segment.gpa, segment.length
    segments = []
    for piece in pieces:
        length = min(piece, left)
        if length:
            segments.append(Segment(gpa, length))
        gpa, left = gpa + length, left - length
    return [*segments, Segment(gpa, left)] if left else segments


def _settle(future: asyncio.Future[T], value: T | None) -> None:
    """Gives a future its result, or DeviceStopped for None; one that was cancelled stays so."""
    if future.done():
        return
    if value is None:
        future.set_exception(DeviceStopped("the device stopped"))
    else:
        future.set_result(value)


class CommandQueue:
    """Requests over a ring of ``size`` entries: split, or ``packed``; the other flags are the ring's.

    :meth:`post` any number of requests, :meth:`kick` once, await the futures. :meth:`harvest` is to be called when the
    call eventfd fires, or now and then by a guest that polls.
    """

    def __init__(
        self,
        memory: GuestMemory,
        size: int,
        *,
        indirect: bool,
        event_idx: bool,
        packed: bool = False,
        in_order: bool = False,
    ) -> None:
        self.memory = memory
        kind = PackedRing if packed else DriverRing
        self.ring: Ring = kind(memory, size, indirect=indirect, event_idx=event_idx, in_order=in_order)
        self.kick_fd = -1
        """The eventfd that tells the device; none: -1."""
        self.kicks = 0
        """Kicks sent so far."""
        self._pool_gpa = memory.alloc(size * PAGE)
        self._pool = [self._pool_gpa + i * PAGE for i in range(size)]
        self._out: dict[int, _Job] = {}
        self._waiting: deque[_Job] = deque()

    def release(self) -> None:
        """Gives all guest memory back; requests in flight fail with DeviceStopped."""
        self.abandon()
        self.memory.free(self._pool_gpa, self.ring.size * PAGE)
        self.ring.release()

    def reset(self) -> None:
        """An empty ring again; requests in flight fail with DeviceStopped."""
        self.abandon()
        self.ring.reset()

    def abandon(self) -> None:
        """Fails every request in flight with DeviceStopped."""
        jobs = [*self._out.values(), *self._waiting]
        self._out.clear()
        self._waiting.clear()
        for job in jobs:
            job.finish(None)

    @property
    def in_flight(self) -> int:
        """Requests without an answer, those that wait for room included."""
        return len(self._out) + len(self._waiting)

    async def submit(
        self, request: bytes, reply_size: int, *, cuts: Sequence[int] = (), reply_cuts: Sequence[int] = ()
    ) -> bytes:
        """Sends a request and returns what the device wrote, at most ``reply_size`` bytes.

        ``cuts`` and ``reply_cuts``: lengths of descriptors that the request and the room for the reply are split into.
        """
        future = self.post(request, reply_size, cuts=cuts, reply_cuts=reply_cuts)
        self.kick()
        return await future

    def post(
        self, request: bytes, reply_size: int, *, cuts: Sequence[int] = (), reply_cuts: Sequence[int] = ()
    ) -> asyncio.Future[bytes]:
        """As :meth:`submit`, but without the kick: queued on return, answered some time after the next kick."""
        buffer = self._take_buffer(len(request), reply_size)
        self.memory.write(buffer.request, request)
        readable = cut(Segment(buffer.request, len(request)), cuts)
        writable = cut(Segment(buffer.reply, reply_size), reply_cuts)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def finish(used: Used | None) -> None:
            reply = None if used is None else self.memory.read(buffer.reply, min(used.length, reply_size))
            self._give_buffer(buffer)
            _settle(answer, reply)

        self._queue(_Job(readable, writable, finish))
        return answer

    def post_chain(self, readable: Sequence[Segment], writable: Sequence[Segment] = ()) -> asyncio.Future[Used]:
        """Queues a chain of the caller's own descriptors, whatever they point at; no kick."""
        done: asyncio.Future[Used] = asyncio.get_running_loop().create_future()
        self._queue(_Job(readable, writable, lambda used: _settle(done, used)))
        return done

    def _queue(self, job: _Job) -> None:
        self._waiting.append(job)
        self._fill()

    def _fill(self) -> None:
        """Moves waiting requests into the ring as far as they fit."""
        while self._waiting:
            job = self._waiting[0]
            try:
                head = self.ring.add(job.readable, job.writable)
            except RingFull:
                return
            self._out[head] = job
            self._waiting.popleft()

    def kick(self) -> None:
        """Publishes what is queued and tells the device if it wants to be told."""
        if self.ring.publish():
            self.force_kick()

    def force_kick(self) -> None:
        """Writes the kick eventfd, wanted or not."""
        if self.kick_fd >= 0:
            self.kicks += 1
            os.eventfd_write(self.kick_fd, 1)

    def harvest(self) -> None:
        """Completes everything that came back and asks for an interrupt with the next."""
        while True:
            for used in self.ring.harvest():
                self._out.pop(used.head).finish(used)
            if self._waiting:
                self._fill()
                self.kick()
            if not self.ring.arm():
                return

    def _take_buffer(self, request: int, reply: int) -> _Buffer:
        if self._pool and request <= _HALF and reply <= _HALF:
            gpa = self._pool.pop()
            return _Buffer(gpa, gpa + _HALF, 0)
        gpa = self.memory.alloc(request + reply)
        return _Buffer(gpa, gpa + request, request + reply)

    def _give_buffer(self, buffer: _Buffer) -> None:
        if buffer.size:
            self.memory.free(buffer.request, buffer.size)
        else:
            self._pool.append(buffer.request)
