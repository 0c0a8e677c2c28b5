"""Threads that wake each other: they go on until leaving, and one that stands still is told of."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.vhost_gpu.bench.benchkit import wait_until
from vhost_gpu.bench import pairs
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.pairs import Pair
from vhost_gpu.bench.queueloop import Stop


def test_all_pairs_go_on():
    with pairs.running(3, 4096) as running:
        wait_until(lambda: all(pair.operations > 3 for pair in running))


def test_the_bytes_are_copied():
    pair = Pair(3)
    pair._memory[0][0:3] = [1, 2, 3]
    stop = Stop()
    with ThreadPoolExecutor(2) as pool:
        for job in pair.jobs(stop):
            pool.submit(job)
        try:
            wait_until(lambda: pair.operations > 0)
        finally:
            stop.set()
    pair.close()
    assert list(pair._memory[1]) == [1, 2, 3]


def test_a_pair_that_stands_still_is_an_error(monkeypatch):
    monkeypatch.setattr(Pair, "jobs", lambda *_: (lambda: -110, lambda: 0))
    with pytest.raises(BenchError, match="stood still"), pairs.running(1, 16):
        pass
