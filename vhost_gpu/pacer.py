"""Shares the loop's time between the guest's commands and its screens."""

import asyncio
import time
from collections.abc import Callable

REST = 3
"""Work that took a while is followed by so many times that while without more of it."""
MAX_REST_NS = 1_000_000
"""The longest rest: nobody waits longer than this for news, even after work that was interrupted."""


class Pacer:
    """Keeps the work for screens to a share of the loop's time while the guest's commands want the rest of it.

    Telling the sinks of news costs more than a small flush does, and comes with each; so does sending pixels. What
    comes during a rest adds up to one run of ``work``.

    Args:
        loop: the event loop.
        work: what is to be run when there may be news; not from within itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
        self._loop = loop
        self._work = work
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False

    def ask(self) -> None:
        """Commands have been served, and there may be news: runs the work, at once or after the rest."""
        self._asked = True
        rest = self._next - time.monotonic_ns()
        if rest <= 0:
            self._run_work()
        elif self._timer is None:
            self._timer = self._loop.call_later(rest / 1e9, self._run_work)

    def offer(self, work: Callable[[], None]) -> None:
        """Runs other work of the kind unless it would take time from commands: the caller will offer it again."""
        if not self._asked or time.monotonic_ns() >= self._next:
            self._run(work)

    def close(self) -> None:
        """Forgets what was asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run_work(self) -> None:
        self.close()
        self._run(self._work)

    def _run(self, work: Callable[[], None]) -> None:
        self._asked = False
        start = time.monotonic_ns()
        work()
        end = time.monotonic_ns()
        self._next = end + min(REST * (end - start), MAX_REST_NS)
