"""Many sessions at once: does each get its share? Ours only; other back-ends serve one connection.

Sessions and their guests wake each other wherever the scheduler puts them: that is what people have. Beside it stand
pairs of threads that are no sessions, for what the scheduler alone makes of so many, and the same sessions each on one
CPU with its guest, as many on each, for what is left without its choices.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

from vhost_gpu.bench import pairs
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import BenchError, Figure, Scenario, Settings
from vhost_gpu.bench.placement import move
from vhost_gpu.bench.queueloop import Prepared, Stop, Tally
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.memory import MIB

_SESSIONS = 64
_QUICK_SESSIONS = 4
_MEMORY = 2 * MIB
_SECONDS = 4.0
_WARM_SECONDS = 0.5
_LOOK_SECONDS = 0.01
_PATIENCE_SECONDS = 30.0
_SIDE = 256
"""Of an update: enough work for a session to be what takes the time, and not who waits for whom."""
_UPDATE_BYTES = _SIDE * _SIDE * 4


class _Counted(Protocol):
    @property
    def operations(self) -> int: ...


@dataclass(frozen=True, slots=True)
class _Worker:
    """A guest of ours, the process of its session, and what it does."""

    guest: BenchGuest
    pids: frozenset[int]
    operation: tuple[Prepared, ...]

    @classmethod
    def open(cls, target: Target, stack: ExitStack) -> Self:
        before = set(target.pids())
        guest = stack.enter_context(BenchGuest.open(target, memory=_MEMORY))
        operation = guest.surface(_SIDE, _SIDE).update()
        guest.control.run([operation], count=10)
        return cls(guest, frozenset(target.pids()) - before, operation)

    def run(self, cpus: set[int], stop: Stop, tally: Tally) -> None:
        """Keeps the session busy, from a thread that ends with it."""
        os.sched_setaffinity(0, cpus)
        move(self.pids, cpus)
        self.guest.control.run([self.operation], stop=stop, tally=tally)


def _rates(counted: Sequence[_Counted], seconds: float) -> list[float]:
    """Operations a second of each, once all have begun and while all go on. Raises BenchError when one stands still."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not all(one.operations for one in counted):
        if time.monotonic() > end:
            raise BenchError("not all of them have begun")
        time.sleep(_LOOK_SECONDS)
    time.sleep(_WARM_SECONDS)
    before = [(time.monotonic(), one.operations) for one in counted]
    time.sleep(seconds)
    after = [(time.monotonic(), one.operations) for one in counted]
    if any(done == had for (_, had), (_, done) in zip(before, after, strict=True)):
        raise BenchError("one of them stands still")
    return [(done - had) / (end - start) for (start, had), (end, done) in zip(before, after, strict=True)]


@contextmanager
def _busy(workers: Sequence[_Worker], places: Sequence[set[int]]) -> Iterator[list[Tally]]:
    """All of them, until leaving, dealt out to the places in turns. Raises BenchError then, when one has failed."""
    stop, tallies = Stop(), [Tally() for _ in workers]
    with ThreadPoolExecutor(len(workers)) as pool:
        running = [
            pool.submit(worker.run, places[index % len(places)], stop, tally)
            for index, (worker, tally) in enumerate(zip(workers, tallies, strict=True))
        ]
        try:
            yield tallies
        finally:
            stop.set()
        for run in running:
            run.result()


def _unevenness(rates: Sequence[float]) -> float:
    return sum(rates) / len(rates) / min(rates)


def _sessions(target: Target, settings: Settings) -> dict[str, float]:
    count = _QUICK_SESSIONS if settings.quick else _SESSIONS
    seconds = settings.seconds if settings.quick else max(settings.seconds, _SECONDS)
    cpus = os.sched_getaffinity(0)
    with ExitStack() as stack:
        workers = [_Worker.open(target, stack) for _ in range(count)]
        with _busy(workers, [cpus]) as tallies:
            free = _rates(tallies, seconds)
        with _busy(workers, [{cpu} for cpu in cpus]) as tallies:
            placed = _rates(tallies, seconds)
        memory = target.pss_bytes() / count
    with pairs.running(count, _UPDATE_BYTES) as alone:
        limit = _rates(alone, seconds)
    return {
        "slowest": _unevenness(placed),
        "fastest": max(placed) / (sum(placed) / count),
        "slowest_free": _unevenness(free),
        "limit_free": _unevenness(limit),
        "total": sum(free),
        "pss": memory / MIB,
    }


SCENARIOS = (
    Scenario(
        "sessions-64",
        "64 sessions at once, each with a 256x256 update in flight",
        (
            Figure("slowest", "Fair share by the slowest session's, each on a CPU with its guest", "", "lower"),
            Figure("fastest", "The fastest session's share by the fair one, likewise", "", "lower"),
            Figure(
                "slowest_free",
                "Fair share by the slowest session's, where the scheduler puts them",
                "",
                "lower",
                limit="limit_free",
            ),
            Figure("limit_free", "The same of pairs that copy and wake each other, no sessions", "", "lower"),
            Figure("total", "Updates a second, all sessions, where the scheduler puts them", "/s", "higher"),
            Figure("pss", "Memory (PSS) a session", "MiB", "lower"),
        ),
        _sessions,
        rival=False,
    ),
)
