"""Viewers in shared memory: what one gets, and what slow or many ones cost the guest. Ours only."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a viewer was given in one go."""

    frames: int
    operations: int
    seconds: float
    latency: float
    """Of all frames."""
    cpu: float
    """Seconds, of the back-end."""


def _watched(guest: BenchGuest, viewer: Viewer, operation: tuple[Prepared, ...], seconds: float) -> _Turn:
    guest.control.run([operation], count=8)
    before, cpu = viewer.seen(), guest.target.cpu_seconds()
    run = guest.control.run([operation], seconds=seconds)
    after, cpu = viewer.seen(), guest.target.cpu_seconds() - cpu
    if after.errors:
        raise BenchError("the viewer was refused")
    return _Turn(after.frames - before.frames, run.operations, run.seconds, after.latency - before.latency, cpu)


def _viewer_frames(target: Target, settings: Settings, size: tuple[int, int]) -> dict[str, float]:
    """No VMM's display: all copies are those for the viewer. Its frames and the limit take turns."""
    turns, copies = [], []
    seconds = settings.seconds / _TURNS
    with BenchGuest.open(target, memory=memory_for(size), modes=None) as guest:
        surface = guest.surface(*size, scattered=True)
        guest.show(surface)
        with Viewer.watch(target) as viewer:
            viewer.wait_frame()
            for _ in range(_TURNS):
                copies.append(copy_rate(guest.memory, surface.pieces, surface.stride, surface.whole, seconds / 4))
                turns.append(_watched(guest, viewer, surface.update(), seconds))
    return {**_of_all(turns), "copies": harmonic_mean(copies)}


def _of_all(turns: list[_Turn]) -> dict[str, float]:
    frames, operations = sum(turn.frames for turn in turns), sum(turn.operations for turn in turns)
    seconds = sum(turn.seconds for turn in turns)
    if not frames:
        raise BenchError("the viewer was given no frames")
    return {
        "seen": frames / seconds,
        "rate": operations / seconds,
        "latency": sum(turn.latency for turn in turns) / frames * 1000,
        "cpu": sum(turn.cpu for turn in turns) / operations * 1000,
    }


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
