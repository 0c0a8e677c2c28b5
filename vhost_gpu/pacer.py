"""Spaces out work that could otherwise fill the time."""

import asyncio
import time
from collections.abc import Callable

REST = 4
"""A run that took a while is followed by so many times that while without another."""
MAX_REST_NS = 1_000_000
"""The longest rest: nobody waits longer than this for news, even after a run that was interrupted."""


class Pacer:
    """Runs work when it is asked to, at once or after the rest that the last run has earned.

    News for screens is such work: it comes with every flush, costs more than a small flush does, and what comes during
    a rest adds up to one run.

    Args:
        loop: the event loop.
        work: what is run; not from within itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
        self._loop = loop
        self._work = work
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def ask(self) -> None:
        """There may be something to do."""
        rest = self._next - time.monotonic_ns()
        if rest <= 0:
            self._run()
        elif self._timer is None:
            self._timer = self._loop.call_later(rest / 1e9, self._run)

    def close(self) -> None:
        """Forgets what was asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run(self) -> None:
        self.close()
        start = time.monotonic_ns()
        self._work()
        end = time.monotonic_ns()
        self._next = end + min(REST * (end - start), MAX_REST_NS)
