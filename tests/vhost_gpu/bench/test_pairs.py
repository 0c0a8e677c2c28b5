"""Pairs that wake each other: they go on until leaving, and one that stands still is told of."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.vhost_gpu.bench.benchkit import wait_until
from vhost_gpu.bench import pairs
from vhost_gpu.bench.apart import Shared
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.pairs import Pair


def test_all_pairs_go_on():
    with pairs.running(3, 4096) as tallies:
        wait_until(lambda: all(tally.operations > 3 for tally in tallies))


def test_the_bytes_are_copied():
    shared = Shared(1)
    stop = shared.stop()
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        pair = Pair(3, shared, 0, stack)
        pair._memory[0][0:3] = [1, 2, 3]
        pool.submit(pair.serve, stop)
        try:
            pair.caller.go()
            wait_until(lambda: pair.tally.operations > 0)
        finally:
            stop.set()
        pair.caller.wait()
    assert list(pair._memory[1]) == [1, 2, 3]


def test_one_that_stands_still_is_an_error(monkeypatch):
    monkeypatch.setattr(Pair, "serve", lambda *_: -110)
    with pytest.raises(BenchError, match="stood still"), pairs.running(1, 16):
        pass
