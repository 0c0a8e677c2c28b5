"""Many sessions at once: does each get its share? Ours only; other back-ends serve one connection.

The guests are processes, each in a session of its own, as VMs are that libvirt or a service manager has started, and
sessions and guests wake each other wherever the scheduler puts them: that is what people have. Beside it stand the same
guests in the back-end's session, as if all were started from one terminal; pairs that are no sessions, for what the
scheduler alone makes of so many; and the sessions each on one CPU with its guest, as many on each, for what is left
without its choices.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vhost_gpu.bench import apart, pairs
from vhost_gpu.bench.apart import Apart, Shared
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import BenchError, Figure, Program, Scenario, Settings
from vhost_gpu.bench.placement import move
from vhost_gpu.bench.queueloop import Tally
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


@dataclass(frozen=True, slots=True)
class _Worker:
    """The process of a guest of ours, and that of its session."""

    guest: Apart
    pids: frozenset[int]

    @classmethod
    def start(cls, target: Target, stack: ExitStack, shared: Shared, index: int, own_session: bool) -> Self:
        before = set(target.pids())
        arguments = target.program, str(target.socket_path), shared, index
        guest = stack.enter_context(apart.running(_play, *arguments, own_session=own_session))
        return cls(guest, frozenset({guest.pid, *target.pids()} - before))


def _play(program: Program, socket_path: str, shared: Shared, index: int) -> Iterator[None]:
    """In the process of a guest: keeps its session busy."""
    stop, tally = shared.stop(), shared.tally(index)
    target = Target(program, Path(socket_path), None, None)
    with BenchGuest.open(target, memory=_MEMORY) as guest:
        operation = guest.surface(_SIDE, _SIDE).update()
        guest.control.run([operation], count=10)
        while True:
            yield
            guest.control.run([operation], stop=stop, tally=tally)


class _Crowd:
    """So many guests on a back-end, and their sessions."""

    def __init__(self, target: Target, count: int, stack: ExitStack, *, own_sessions: bool) -> None:
        shared = Shared(count)
        self._stop = shared.stop()
        self._workers = [_Worker.start(target, stack, shared, index, own_sessions) for index in range(count)]
        self._tallies = [shared.tally(index) for index in range(count)]

    @contextmanager
    def busy(self, places: Sequence[set[int]]) -> Iterator[list[Tally]]:
        """All of them, until leaving, dealt out to the places in turns. Raises BenchError then, when one has failed."""
        self._stop.clear()
        for index, (worker, tally) in enumerate(zip(self._workers, self._tallies, strict=True)):
            tally.clear()
            move(worker.pids, places[index % len(places)])
            worker.guest.go()
        try:
            yield self._tallies
        finally:
            self._stop.set()
        for worker in self._workers:
            worker.guest.wait()


def _rates(counted: Sequence[Tally], seconds: float) -> list[float]:
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


def _unevenness(rates: Sequence[float]) -> float:
    return sum(rates) / len(rates) / min(rates)


def _sessions(target: Target, settings: Settings) -> dict[str, float]:
    count = _QUICK_SESSIONS if settings.quick else _SESSIONS
    seconds = settings.seconds if settings.quick else max(settings.seconds, _SECONDS)
    cpus = os.sched_getaffinity(0)
    target.connect().close()  # it listens from here on
    with ExitStack() as stack:
        crowd = _Crowd(target, count, stack, own_sessions=True)
        with crowd.busy([cpus]) as tallies:
            free = _rates(tallies, seconds)
        with crowd.busy([{cpu} for cpu in cpus]) as tallies:
            placed = _rates(tallies, seconds)
        memory = target.pss_bytes() / count
    with ExitStack() as stack, _Crowd(target, count, stack, own_sessions=False).busy([cpus]) as tallies:
        together = _rates(tallies, seconds)
    with pairs.running(count, _UPDATE_BYTES) as tallies:
        limit = _rates(tallies, seconds)
    return {
        "slowest": _unevenness(placed),
        "fastest": max(placed) / (sum(placed) / count),
        "slowest_free": _unevenness(free),
        "limit_free": _unevenness(limit),
        "slowest_together": _unevenness(together),
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
            Figure(
                "slowest_together",
                "The same with the guests in the back-end's session, as from one terminal",
                "",
                "lower",
            ),
            Figure("total", "Updates a second, all sessions, where the scheduler puts them", "/s", "higher"),
            Figure("pss", "Memory (PSS) a session", "MiB", "lower"),
        ),
        _sessions,
        rival=False,
    ),
)
