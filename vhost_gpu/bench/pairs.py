"""Pairs of threads that wake each other, one of which copies: how evenly the kernel alone shares CPUs among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from vhost_gpu.bench._loop import ffi, lib
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.queueloop import Stop


class Pair:
    """Two threads; ``operations``: how often one has asked and the other has copied and answered."""

    def __init__(self, size: int) -> None:
        """``size``: bytes to copy."""
        self._fds = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2)]
        self._memory = [ffi.new("uint8_t[]", size) for _ in range(2)]
        self._piece = ffi.new("vb_piece *")
        self._piece.source, self._piece.target = self._memory
        self._piece.length = size
        self._done = ffi.new("uint64_t *")

    @property
    def operations(self) -> int:
        """Finished so far."""
        return int(self._done[0])

    def jobs(self, stop: Stop) -> tuple[Callable[[], int], Callable[[], int]]:
        """What the two threads are to run, until ``stop``."""
        there, back = self._fds
        return (
            lambda: lib.vb_call(there, back, stop.flag, self._done),
            lambda: lib.vb_serve(there, back, stop.flag, self._piece),
        )

    def close(self) -> None:
        """When both have ended."""
        for fd in self._fds:
            os.close(fd)


@contextmanager
def running(count: int, size: int) -> Iterator[list[Pair]]:
    """So many pairs, busy until leaving. Raises BenchError then, when one of them has stood still."""
    stop, pairs = Stop(), [Pair(size) for _ in range(count)]
    try:
        with ThreadPoolExecutor(2 * count) as pool:
            ends = [pool.submit(job) for pair in pairs for job in pair.jobs(stop)]
            try:
                yield pairs
            finally:
                stop.set()
    finally:
        for pair in pairs:
            pair.close()
    if any(end.result() for end in ends):
        raise BenchError("threads that wake each other stood still")
