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
        "latency  3.0 ms median, 99 % within 4.0 ms",
        "rate     5.0 frames/s",
    ]


def test_old_frames_count_no_longer() -> None:
    statistics = Statistics()
    statistics.add(0, MS)
    assert statistics.latency_ms(MS + WINDOW_NS) is None
    assert statistics.lines(0, MS + WINDOW_NS)[2:] == ["latency  -", "rate     0.0 frames/s"]
    assert statistics.shown == 1


def test_it_is_active_while_a_frame_counts() -> None:
    statistics = Statistics()
    assert not statistics.active(0)
    statistics.add(0, MS)
    assert statistics.active(WINDOW_NS)
    assert not statistics.active(MS + WINDOW_NS)


def test_one_late_frame_of_a_hundred_is_beyond_the_99_percent() -> None:
    statistics = Statistics()
    for number in range(100):
        statistics.add(number * MS, (number + (50 if number == 7 else 1)) * MS)
    assert statistics.latency_ms(100 * MS) == (1.0, 1.0)
    statistics.add(100 * MS, 150 * MS)
    assert statistics.latency_ms(150 * MS) == (1.0, 50.0)


def test_a_flush_in_the_future_is_no_negative_latency() -> None:
    statistics = Statistics()
    statistics.add(5 * MS, MS)
    assert statistics.latency_ms(MS) == (0.0, 0.0)
