"""Start, memory, and what a back-end does when there is nothing to do."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

from protocol.vhost_user import U64, ReplyDecoder, Request, encode
from vhost_gpu.bench.frames import memory_for
from vhost_gpu.bench.guest import BenchGuest, settle
from vhost_gpu.bench.model import BenchError, Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Stop
from vhost_gpu.bench.target import Target
from vhost_gpu.bench.viewers import Viewer
from vhost_gpu.guest.memory import MIB

_SIZE = (1920, 1080)
_IDLE_SECONDS = 2.0
_SAMPLE_SECONDS = 0.02
_ANSWER_SECONDS = 10.0
_BASE = 45 * MIB


def _first_answer(target: Target) -> float:
    """Seconds from exec to the reply to GET_FEATURES; not a number when the program was running before."""
    decoder = ReplyDecoder()
    with target.connect() as sock:
        sock.settimeout(_ANSWER_SECONDS)
        sock.sendall(encode(Request.GET_FEATURES))
        while (message := decoder.feed(_received(sock.recv(decoder.wants())), [])) is None:
            pass
    if not isinstance(message.payload, U64):
        raise BenchError("GET_FEATURES was not answered with features")
    return time.monotonic() - target.started if target.program.argv else math.nan


def _received(data: bytes) -> bytes:
    if not data:
        raise BenchError("the back-end closed the connection")
    return data


def _start(target: Target, _: Settings) -> dict[str, float]:
    return {"answer": _first_answer(target) * 1000}


def _idle(target: Target, settings: Settings) -> dict[str, float]:
    seconds = settings.seconds if settings.quick else _IDLE_SECONDS
    with BenchGuest.open(target, memory=memory_for(_SIZE), modes=[_SIZE]) as guest:
        guest.show(guest.surface(*_SIZE, scattered=True))
        settle(guest)
        time.sleep(seconds / 10)  # whatever is put off until there is time
        switches, cpu = target.context_switches(), target.cpu_seconds()
        time.sleep(seconds)
        return {
            "wakeups": (target.context_switches() - switches) / seconds,
            "cpu": (target.cpu_seconds() - cpu) / seconds * 1000,
            "pss": target.pss_bytes() / MIB,
        }


def _peak(target: Target, settings: Settings) -> dict[str, float]:
    """PSS while a viewer watches full frames; the guest's memory counts too, shared with its other user."""
    with BenchGuest.open(target, memory=memory_for(_SIZE), modes=[_SIZE]) as guest:
        surface = guest.surface(*_SIZE, scattered=True)
        guest.show(surface)
        stop = Stop()
        with Viewer.watch(target) as viewer, ThreadPoolExecutor(1) as pool:
            viewer.wait_frame()
            running = pool.submit(guest.control.run, [surface.update()], seconds=settings.seconds, stop=stop)
            peak = 0
            while not running.done():
                peak = max(peak, target.pss_bytes())
                time.sleep(_SAMPLE_SECONDS)
            running.result()
            guests_own = target.guest_memory_bytes()
        resources, published = surface.size, surface.size
    return {
        "peak": peak / MIB,
        "guest": guests_own / MIB,
        "allowed": (1.5 * (resources + published) + _BASE) / MIB,
    }


SCENARIOS = (
    Scenario(
        "start",
        "From exec to the first answer",
        (Figure("answer", "exec to the answer to GET_FEATURES", "ms", "lower"),),
        _start,
    ),
    Scenario(
        "idle",
        "A guest that does nothing, 1920x1080 on the screen",
        (
            Figure("wakeups", "Context switches a second", "/s", "lower"),
            Figure("cpu", "CPU a second", "ms", "lower"),
            Figure("pss", "Memory (PSS)", "MiB", "lower"),
        ),
        _idle,
    ),
    Scenario(
        "memory-peak",
        "Memory while one viewer watches full 1080p frames",
        (
            Figure("peak", "Peak memory (PSS)", "MiB", "lower", "allowed"),
            Figure("guest", "Of that, the guest's own memory", "MiB", "lower"),
            Figure("allowed", "1.5 x (resources + published frames) + 45 MiB", "MiB", "lower"),
        ),
        _peak,
        rival=False,
    ),
)
