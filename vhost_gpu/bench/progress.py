"""Progress of a measurement on standard error: a line for each run, and on a terminal a bar below them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

_WIDTH = 30
_CLEAR = "\r\x1b[K"


class Progress:
    """Tells a person how far it is. ``total``: runs to come; ``now``: a clock in seconds."""

    def __init__(self, stream: TextIO, total: int, terminal: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._total = total
        self._terminal = terminal
        self._now = now
        self._began = now()
        self._done = 0

    def starts(self, what: str) -> None:
        """A run begins."""
        if self._terminal:
            self._write(f"{_CLEAR}{self._bar()} {what}")

    def ends(self, what: str) -> None:
        """A run has ended, with a line to say about it."""
        self._done += 1
        self.says(f"[{self._done:{len(str(self._total))}}/{self._total}] {what}")

    def skips(self, runs: int) -> None:
        """So many runs will not take place."""
        self._total -= runs

    def says(self, line: str) -> None:
        """A line of its own."""
        self._write(f"{_CLEAR if self._terminal else ''}{line}\n")

    def close(self) -> None:
        """Takes the bar away."""
        if self._terminal:
            self._write(_CLEAR)

    def _bar(self) -> str:
        filled = _WIDTH * self._done // max(self._total, 1)
        return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {self._left()}"

    def _left(self) -> str:
        """The time that is left, as far as it can be told."""
        if not self._done:
            return "--:--"
        seconds = round((self._now() - self._began) / self._done * (self._total - self._done))
        return f"{seconds // 60:2}:{seconds % 60:02}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
