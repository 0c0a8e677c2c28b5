"""Viewers in shared memory: what one gets, and what slow or many ones cost the guest. Ours only."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from statistics import harmonic_mean

from vhost_gpu.bench.frames import measured, memory_for
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.limits import copy_rate
from vhost_gpu.bench.model import BenchError, Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Prepared
from vhost_gpu.bench.target import Target
from vhost_gpu.bench.viewers import Mode, Viewer

_SIZE = (1920, 1080)
_TURNS = 4


def _viewer_frames(target: Target, settings: Settings, size: tuple[int, int]) -> dict[str, float]:
    """No VMM's display: all copies are those for the viewer. Its frames and the limit take turns: what drifts meets both."""
    seen = operations = errors = 0
    seconds = latency = used = 0.0
    copies: list[float] = []
    with BenchGuest.open(target, memory=memory_for(size), modes=None) as guest:
        surface = guest.surface(*size, scattered=True)
        guest.show(surface)
        with Viewer.watch(target) as viewer:
            viewer.wait_frame()
            for _ in range(_TURNS):
                copies.append(copy_rate(guest.memory, surface.pieces, surface.stride, surface.whole, _share(settings)))
                guest.control.run([surface.update()], count=8)
                before, cpu = viewer.seen(), target.cpu_seconds()
                run = guest.control.run([surface.update()], seconds=settings.seconds / _TURNS)
                after, used = viewer.seen(), used + target.cpu_seconds() - cpu
                seen += after.frames - before.frames
                latency += after.latency - before.latency
                errors += after.errors - before.errors
                operations += run.operations
                seconds += run.seconds
    if errors or not seen:
        raise BenchError("the viewer was given no frames")
    return {
        "seen": seen / seconds,
        "rate": operations / seconds,
        "latency": latency / seen * 1000,
        "cpu": used / operations * 1000,
        "copies": harmonic_mean(copies),
    }


def _share(settings: Settings) -> float:
    """Seconds for the copies of one turn."""
    return settings.seconds / _TURNS / 4


def _crowd(target: Target, settings: Settings, mode: Mode, count: int) -> dict[str, float]:
    """Turns with and without viewers, so that what drifts meets both."""
    times: dict[bool, list[float]] = {False: [], True: []}
    with BenchGuest.open(target, memory=memory_for(_SIZE), modes=[_SIZE]) as guest:
        surface = guest.surface(*_SIZE, scattered=True)
        guest.show(surface)
        for turn in range(_TURNS):
            watched = turn % 2 == 1
            with ExitStack() as stack:
                for _ in range(count if watched else 0):
                    stack.enter_context(Viewer.watch(target, mode)).wait_frame()
                times[watched].append(_seconds_a_frame(guest, surface.update(), settings.seconds / 2))
    alone, watched_rate = (len(times[key]) / sum(times[key]) for key in (False, True))
    return {"alone": alone, "watched": watched_rate, "share": watched_rate / alone}


def _seconds_a_frame(guest: BenchGuest, operation: tuple[Prepared, ...], seconds: float) -> float:
    run, _, _ = measured(guest, [operation], seconds)
    return run.seconds / run.operations


def _crowd_scenario(name: str, title: str, mode: Mode, count: int) -> Scenario:
    figures = (
        Figure("share", "Frame rate with and without, a ratio", "", "higher"),
        Figure("watched", "Frames a second with", "/s", "higher"),
        Figure("alone", "Frames a second without", "/s", "higher"),
    )
    return Scenario(name, title, figures, partial(_crowd, mode=mode, count=count), rival=False)


_VIEWER_FIGURES = (
    Figure("seen", "Frames that the viewer gets a second", "/s", "higher", "copies"),
    Figure("rate", "Frames a second", "/s", "higher", "copies"),
    Figure("latency", "Flush to the viewer, mean", "ms", "lower"),
    Figure("cpu", "CPU of the back-end a frame", "ms", "lower"),
    Figure("copies", "memcpy of the same frame", "/s", "higher"),
)

SCENARIOS = (
    Scenario(
        "viewer-1920x1080",
        "Full frames to a viewer in shared memory, 1920x1080, backing in 4 KiB pieces",
        _VIEWER_FIGURES,
        partial(_viewer_frames, size=_SIZE),
        rival=False,
    ),
    Scenario(
        "viewer-3840x2160",
        "Full frames to a viewer in shared memory, 3840x2160, backing in 4 KiB pieces",
        _VIEWER_FIGURES,
        partial(_viewer_frames, size=(3840, 2160)),
        rival=False,
    ),
    _crowd_scenario("viewer-stalled", "One viewer that never answers, full 1080p frames", Mode.STALLED, 1),
    _crowd_scenario("viewers-10", "Ten viewers at 60 Hz, full 1080p frames", Mode.PACED, 10),
)
