"""Pairs that wake each other, one of which copies: how evenly the kernel alone shares CPUs among them.

Those who ask are processes, like VMs; those who copy are threads of one process, like a service's sessions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from vhost_gpu.bench import apart
from vhost_gpu.bench._loop import ffi, lib
from vhost_gpu.bench.apart import Apart, Descriptor, Shared
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.queueloop import Stop, Tally


class Pair:
    """A process that asks, and what is to copy and to answer here. ``tally``: how often that was done."""

    def __init__(self, size: int, shared: Shared, index: int, stack: ExitStack) -> None:
        """``size``: bytes to copy; ``stack``: ends the process, when the other side has ended."""
        self.tally = shared.tally(index)
        self._there, self._back = (_eventfd(stack) for _ in range(2))
        self._memory = [ffi.new("uint8_t[]", size) for _ in range(2)]
        self._piece = ffi.new("vb_piece *")
        self._piece.source, self._piece.target = self._memory
        self._piece.length = size
        descriptors = Descriptor(self._there), Descriptor(self._back)
        self.caller: Apart = stack.enter_context(apart.running(_call, *descriptors, shared, index))

    def serve(self, stop: Stop) -> int:
        """Copies and answers until ``stop``. 0, or a negative errno."""
        return int(lib.vb_serve(self._there, self._back, stop.flag, self._piece))


def _eventfd(stack: ExitStack) -> int:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    stack.callback(os.close, fd)
    return fd


def _call(there: Descriptor, back: Descriptor, shared: Shared, index: int) -> Iterator[None]:
    """In the process that asks."""
    stop, tally = shared.stop(), shared.tally(index)
    yield
    done = ffi.addressof(tally.result, "operations")
    if lib.vb_call(there.fd, back.fd, stop.flag, done):
        raise BenchError("nobody answers")
    yield


@contextmanager
def running(count: int, size: int) -> Iterator[list[Tally]]:
    """So many pairs, busy until leaving: how far they are. Raises BenchError then, when one of them has stood still."""
    shared = Shared(count)
    stop = shared.stop()
    with ExitStack() as stack:
        pairs = [Pair(size, shared, index, stack) for index in range(count)]
        with ThreadPoolExecutor(count) as pool:
            ends = [pool.submit(pair.serve, stop) for pair in pairs]
            try:
                for pair in pairs:
                    pair.caller.go()
                yield [pair.tally for pair in pairs]
            finally:
                stop.set()
        for pair in pairs:
            pair.caller.wait()
    if any(end.result() for end in ends):
        raise BenchError("threads that copy stood still")
