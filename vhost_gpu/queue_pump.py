"""Serves one virtqueue from the event loop: kick in, commands through the device, interrupts out by the core."""

import asyncio
import logging
import time
from collections.abc import Callable

from backend import virtqueue
from backend.device import Device
from backend.virtqueue import Virtqueue
from protocol.virtio_gpu import ResponseType

BUDGET_NS = 250_000
"""How long one turn serves a queue before the loop gets to its other work."""
POLL_SECONDS = 0.001
"""How often a ring without a kick eventfd is looked at (vhost-user: such a ring is polled)."""

_log = logging.getLogger("vhost_gpu.queue")


class QueuePump:
    """Runs a queue while it is started, enabled and sound.

    Args:
        loop: the session's event loop.
        device: executes what the core hands over.
        queue: the queue to serve.
        after: called at the end of each turn, when frames may have been published, with the nanoseconds it took.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, device: Device, queue: Virtqueue, after: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._device = device
        self._queue = queue
        self._after = after
        self._reader = -1
        self._timer: asyncio.Handle | None = None
        self._epoch = 0
        self._outstanding = False
        self._awaiting = False

    def refresh(self) -> None:
        """Takes note of a queue that was started, enabled, stopped or got another eventfd; serves it if it runs."""
        self._unwatch()
        if self._queue.active and not self._outstanding:
            self._timer = self._loop.call_soon(self._turn)
            self._watch()

    def pause(self) -> None:
        """Stops watching, before the kick eventfd or the memory table is replaced; ``refresh`` goes on."""
        self._unwatch()

    def stop(self) -> None:
        """Stops the queue at once; a command whose answer is still awaited is forgotten."""
        self._epoch += 1
        if self._outstanding:
            self._queue.drop()
            self._outstanding = self._awaiting = False
        self._queue.stop()
        self._unwatch()

    def _watch(self) -> None:
        fd = self._queue.kick_fd
        if fd >= 0 and self._reader < 0:
            self._loop.add_reader(fd, self._turn)
            self._reader = fd

    def _unwatch(self) -> None:
        if self._reader >= 0:
            self._loop.remove_reader(self._reader)
            self._reader = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        """One turn: until the ring is empty, an answer must be waited for, or the time is up."""
        if self._timer is not None:  # a kick came before the turn that was planned: this is it
            self._timer.cancel()
            self._timer = None
        start = time.monotonic_ns()
        status = self._queue.drain(BUDGET_NS)
        while status == virtqueue.REQUEST:
            self._execute()
            if self._outstanding:
                break
            if time.monotonic_ns() - start > BUDGET_NS:
                status = virtqueue.AGAIN
                self._queue.notify()
                break
            status = self._queue.drain(BUDGET_NS)
        self._next(status)
        self._after(time.monotonic_ns() - start)

    def _next(self, status: int) -> None:
        if self._outstanding:
            # The kick eventfd stays readable meanwhile; watching it would spin.
            self._awaiting = True
            self._queue.notify()
            self._unwatch()
        elif status == virtqueue.AGAIN:
            self._timer = self._loop.call_soon(self._turn)
        elif status == virtqueue.BROKEN:
            _log.warning("queue %d stopped: %s", self._queue.index, self._queue.reason)
            self._unwatch()
        elif status == virtqueue.STOPPED:
            self._unwatch()
        elif self._reader < 0:
            self._timer = self._loop.call_later(POLL_SECONDS, self._turn)

    def _execute(self) -> None:
        self._outstanding = True
        epoch = self._epoch

        def answer(response: int, payload: bytes) -> None:
            self._answer(epoch, response, payload)

        execute(self._device, self._queue, answer)

    def _answer(self, epoch: int, response: int, payload: bytes) -> None:
        if epoch != self._epoch or not self._outstanding:
            return
        self._outstanding = False
        self._queue.complete(response, payload)
        if self._awaiting:  # it came later than _execute: go on where the turn stopped
            self._awaiting = False
            self._queue.notify()
            self.refresh()


def execute(device: Device, queue: Virtqueue, answer: Callable[[int, bytes], None]) -> None:
    """Runs the queue's ``request``; ``answer`` is called at once or later, never twice with effect: it sees to that."""
    kind = queue.request.type
    answered = False

    def answered_with(response: int, payload: bytes) -> None:
        nonlocal answered
        answered = True
        if response >= ResponseType.ERR_UNSPEC:
            _log.warning("command %#x refused: %s", kind, _response_name(response))
        answer(response, payload)

    try:
        device.execute(queue.request_data(), answered_with)
    except Exception:
        _log.exception("our fault: command %#x failed", kind)
        if not answered:
            answered_with(ResponseType.ERR_UNSPEC, b"")


def _response_name(response: int) -> str:
    try:
        return ResponseType(response).name
    except ValueError:
        return f"{response:#x}"
