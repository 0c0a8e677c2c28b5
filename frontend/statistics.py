"""Counts what a window showed, for its statistics overlay. The owner brings the time."""

from __future__ import annotations

from collections import deque
from statistics import median

WINDOW_NS = 2_000_000_000
"""Frames per second and latency are over this many nanoseconds."""


class Statistics:
    """Frames that reached one window."""

    def __init__(self) -> None:
        self.shown = 0
        """Frames brought to the texture."""
        self._recent: deque[tuple[int, int]] = deque()

    def add(self, flush_ns: int, now_ns: int) -> None:
        """A frame, flushed by the guest at flush_ns, was in the texture at now_ns (CLOCK_MONOTONIC nanoseconds)."""
        self.shown += 1
        self._recent.append((now_ns, max(0, now_ns - flush_ns)))
        self._forget(now_ns)

    def rate(self, now_ns: int) -> float:
        """Frames per second lately."""
        self._forget(now_ns)
        return len(self._recent) * 1e9 / WINDOW_NS

    def latency_ms(self, now_ns: int) -> tuple[float, float] | None:
        """Median and 99th percentile of the milliseconds from flush to texture lately; None: no frame lately."""
        self._forget(now_ns)
        if not self._recent:
            return None
        times = sorted(latency for _, latency in self._recent)
        return median(times) / 1e6, times[(len(times) * 99 + 99) // 100 - 1] / 1e6

    def active(self, now_ns: int) -> bool:
        """Whether there was a frame lately, so that the figures still change as time goes by."""
        self._forget(now_ns)
        return bool(self._recent)

    def lines(self, skipped: int, now_ns: int) -> list[str]:
        """The overlay's text. skipped: frames that the daemon left out for this viewer."""
        latency = self.latency_ms(now_ns)
        times = "-" if latency is None else f"{latency[0]:.1f} ms median, 99 % within {latency[1]:.1f} ms"
        return [
            f"shown    {self.shown} frames",
            f"dropped  {skipped} frames",
            f"latency  {times}",
            f"rate     {self.rate(now_ns):.1f} frames/s",
        ]

    def _forget(self, now_ns: int) -> None:
        while self._recent and self._recent[0][0] <= now_ns - WINDOW_NS:
            self._recent.popleft()
