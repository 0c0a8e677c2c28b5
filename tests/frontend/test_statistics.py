"""Counts and means, with a clock of the test's own."""

from __future__ import annotations

from frontend.statistics import WINDOW_NS, Statistics

MS = 1_000_000


def test_frames_latency_and_rate() -> None:
    statistics = Statistics()
    for number in range(10):
        statistics.add(number * 10 * MS, number * 10 * MS + (4 if number % 2 else 2) * MS)
    assert statistics.shown == 10
    assert statistics.latency_ms(100 * MS) == (3.0, 4.0)
    assert statistics.rate(100 * MS) == 5.0
    assert statistics.lines(7, 100 * MS) == [
        "shown    10 frames",
        "dropped  7 frames",
        "latency  3.0 ms, 99 % within 4.0 ms",
        "rate     5.0 frames/s",
    ]


def test_old_frames_count_no_longer() -> None:
    statistics = Statistics()
    statistics.add(0, MS)
    assert statistics.latency_ms(MS + WINDOW_NS) is None
    assert statistics.lines(0, MS + WINDOW_NS)[2:] == ["latency  -", "rate     0.0 frames/s"]
    assert statistics.shown == 1


def test_a_flush_in_the_future_is_no_negative_latency() -> None:
    statistics = Statistics()
    statistics.add(5 * MS, MS)
    assert statistics.latency_ms(MS) == (0.0, 0.0)
