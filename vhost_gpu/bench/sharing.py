"""Many sessions at once: does each get its share? Ours only; other back-ends serve one connection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Prepared, Run
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.memory import MIB

_SESSIONS = 64
_QUICK_SESSIONS = 4
_MEMORY = 2 * MIB
_SECONDS = 4.0
_SIDE = 256
"""Of an update: enough work for a session to be what takes the time, and not who waits for whom on which CPU."""


def _run(guest: BenchGuest, operation: tuple[Prepared, ...], seconds: float, barrier: threading.Barrier) -> Run:
    barrier.wait()
    return guest.control.run([operation], seconds=seconds)


def _sessions(target: Target, settings: Settings) -> dict[str, float]:
    count = _QUICK_SESSIONS if settings.quick else _SESSIONS
    seconds = settings.seconds if settings.quick else max(settings.seconds, _SECONDS)
    with ExitStack() as stack:
        guests = [stack.enter_context(BenchGuest.open(target, memory=_MEMORY)) for _ in range(count)]
        work = [(guest, guest.surface(_SIDE, _SIDE).update()) for guest in guests]
        for guest, operation in work:
            guest.control.run([operation], count=10)
        barrier = threading.Barrier(count)
        with ThreadPoolExecutor(count) as pool:
            futures = [pool.submit(_run, guest, operation, seconds, barrier) for guest, operation in work]
            rates = [future.result().rate for future in futures]
        memory = target.pss_bytes() / count
    fair = sum(rates) / count
    return {
        "slowest": fair / min(rates),
        "fastest": max(rates) / fair,
        "total": sum(rates),
        "pss": memory / MIB,
    }


SCENARIOS = (
    Scenario(
        "sessions-64",
        "64 sessions at once, each with a 256x256 update in flight",
        (
            Figure("slowest", "Fair share by the slowest session's", "", "lower"),
            Figure("fastest", "The fastest session's share by the fair one", "", "lower"),
            Figure("total", "Updates a second, all sessions", "/s", "higher"),
            Figure("pss", "Memory (PSS) a session", "MiB", "lower"),
        ),
        _sessions,
        rival=False,
    ),
)
