"""Shares the loop's time between the guest's commands and its screens."""

import asyncio
import time
from collections.abc import Callable

NEWS_REST = 10
"""Telling of news wants so many times the time it took without more of it: as rests that may be owed for a while."""
OWED_NS = 1_000_000
"""Rests that may be owed: what comes now and then is told at once."""
SENDING_REST = 2
"""The same of sending pixels."""
MAX_REST_NS = 1_000_000
"""The longest rest: nobody waits longer than this for news, even after work that was interrupted."""
SHORTEST_WAIT = 0.001
"""Seconds. uvloop counts in milliseconds: it would not wait at all for less than half of one."""


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
        self._news_at = 0
        self._sending_at = 0
        self._timer: asyncio.TimerHandle | None = None
        self._asked = False
        self.commands_ns = 0
        """Nanoseconds that commands have taken."""
        self.screens_ns = 0
        """Nanoseconds that the work for screens has taken."""

    def note_commands(self, took_ns: int) -> None:
        """Commands have taken so long."""
        self.commands_ns += took_ns

    def ask(self) -> None:
        """Commands have been served, and there may be news: runs the work, at once or after the rest."""
        self._asked = True
        rest = self._news_at - OWED_NS - time.monotonic_ns()
        if rest <= 0:
            self._tell()
        elif self._timer is None:
            self._timer = self._loop.call_later(max(rest / 1e9, SHORTEST_WAIT), self._tell)

    def offer(self, send: Callable[[], None]) -> bool:
        """Sends pixels unless that would take too much time from commands: then it is to be offered again."""
        welcome = not self._asked or time.monotonic_ns() >= self._sending_at
        if welcome:
            self._sending_at = self._run(send, SENDING_REST)
        return welcome

    def close(self) -> None:
        """Forgets what was asked for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        self.close()
        owed = max(self._news_at - time.monotonic_ns(), 0)
        self._news_at = self._run(self._work, NEWS_REST) + owed

    def _run(self, work: Callable[[], None], rest: int) -> int:
        """Returns the end of the rest."""
        self._asked = False
        start = time.monotonic_ns()
        work()
        end = time.monotonic_ns()
        self.screens_ns += end - start
        return end + min(rest * (end - start), MAX_REST_NS)
