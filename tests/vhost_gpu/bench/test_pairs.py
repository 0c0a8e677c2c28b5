"""Threads that wake each other: they go on until leaving, and one that stands still is told of."""

import time

import pytest

from vhost_gpu.bench import pairs
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.pairs import Pair


def test_pairs_go_on_until_leaving():
    with pairs.running(3, 4096) as running:
        while not all(pair.operations > 3 for pair in running):
            time.sleep(0.001)
    ended = [pair.operations for pair in running]
    assert [pair.operations for pair in running] == ended


def test_the_bytes_are_copied():
    pair = Pair(3)
    pair._memory[0][0:3] = [1, 2, 3]
    stop = pairs.Stop()
    with pairs.ThreadPoolExecutor(2) as pool:
        for job in pair.jobs(stop):
            pool.submit(job)
        while not pair.operations:
            time.sleep(0.001)
        stop.set()
    pair.close()
    assert list(pair._memory[1]) == [1, 2, 3]


def test_a_pair_that_stands_still_is_an_error(monkeypatch):
    monkeypatch.setattr(Pair, "jobs", lambda *_: (lambda: -110, lambda: 0))
    with pytest.raises(BenchError, match="stood still"), pairs.running(1, 16):
        pass
