"""The machine's limits, measured."""

import pytest

from protocol.virtio_gpu import Rect
from vhost_gpu.bench import limits
from vhost_gpu.bench.model import BenchError
from vhost_gpu.guest.memory import PAGE, GuestMemory
from vhost_gpu.guest.ring import Segment


def spans(lengths, runs):
    return limits._spans(lengths, runs)


def test_runs_are_cut_where_pieces_end():
    assert spans([10, 10, 10], [(0, 30)]) == [(0, 0, 0, 10), (1, 0, 10, 10), (2, 0, 20, 10)]
    assert spans([10, 10, 10], [(8, 4), (25, 5)]) == [(0, 8, 8, 2), (1, 0, 10, 2), (2, 5, 25, 5)]


def test_whole_rows_are_one_run():
    assert limits._rows(40, Rect(0, 2, 10, 3)) == [(80, 120)]
    assert limits._rows(40, Rect(1, 2, 3, 2)) == [(84, 12), (124, 12)]


def test_a_rectangle_is_copied_from_scattered_pages():
    memory = GuestMemory()
    pages = memory.alloc_pages(4)
    rate = limits.copy_rate(memory, [Segment(page, PAGE) for page in pages], 64 * 4, Rect(8, 8, 32, 32), 0.01)
    assert rate > 0
    memory.close()


def test_two_processes_wake_each_other():
    p50, p99 = limits.ping_pong_us(0.02)
    assert 0 < p50 <= p99


def test_a_partner_that_does_not_play(monkeypatch):
    monkeypatch.setattr(limits, "_PONG", "import sys; sys.exit(1)")
    with pytest.raises(BenchError, match="does not answer"):
        limits.ping_pong_us(0.02)
