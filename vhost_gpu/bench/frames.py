"""Frames and damage: transfer and flush, the display socket drained as a VMM drains it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

from protocol.virtio_gpu import Rect, ResourceFlush, SetScanout, TransferToHost2d
from vhost_gpu.bench.guest import BenchGuest, Surface, settle
from vhost_gpu.bench.limits import copy_rate
from vhost_gpu.bench.model import Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Prepared, Run, prepare
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.memory import MIB, page_align

SIZES = ((1280, 800), (1920, 1080), (3840, 2160))
DAMAGE_SIDE = 64
_DAMAGE_PLACES = 61
_WARM = 8


def memory_for(size: tuple[int, int], surfaces: int = 1) -> int:
    """Bytes of guest memory that so many surfaces of ``size`` want, and rings and small things beside them."""
    return surfaces * page_align(size[0] * size[1] * 4) + 4 * MIB


def flip(surface: Surface) -> tuple[Prepared, ...]:
    """What Linux sends for a page flip: transfer, SET_SCANOUT, flush."""
    whole, number = surface.whole, surface.resource_id
    return prepare(TransferToHost2d(whole, 0, number), SetScanout(whole, 0, number), ResourceFlush(whole, number))


def squares(
    surface: Surface, side: int = DAMAGE_SIDE, within: tuple[int, int] | None = None
) -> list[tuple[Prepared, ...]]:
    """Updates of ``side`` x ``side`` pixels, here and there ``within`` its upper left part (default: all)."""
    choose = random.Random(1)
    width, height = within or (surface.width, surface.height)
    spots = [(choose.randrange(width - side), choose.randrange(height - side)) for _ in range(_DAMAGE_PLACES)]
    return [surface.update(Rect(x, y, side, side)) for x, y in spots]


def measured(
    guest: BenchGuest, operations: Sequence[Sequence[Prepared]], seconds: float, depth: int = 1
) -> tuple[Run, int, float]:
    """A warm run, the bytes of pixels drawn meanwhile, and the back-end's CPU seconds for each operation."""
    guest.control.run(operations, depth=depth, count=_WARM)
    settle(guest)
    drawn, cpu = guest.display.drawn().pixel_bytes, guest.target.cpu_seconds()
    run = guest.control.run(operations, depth=depth, seconds=seconds)
    used = guest.target.cpu_seconds() - cpu
    return run, guest.display.drawn().pixel_bytes - drawn, used / run.operations


def _frames(
    target: Target, settings: Settings, size: tuple[int, int], scattered: bool, flipped: bool
) -> dict[str, float]:
    count = 2 if flipped else 1
    with BenchGuest.open(target, memory=memory_for(size, count), modes=[size]) as guest:
        surfaces = [guest.surface(*size, scattered=scattered) for _ in range(count)]
        first = surfaces[0]
        guest.show(first)
        limit = copy_rate(guest.memory, first.pieces, first.stride, first.whole, settings.seconds / 4)
        operations = [flip(surface) for surface in surfaces] if flipped else [first.update()]
        run, drawn, cpu = measured(guest, operations, settings.seconds)
        return {
            "rate": run.rate,
            "delivered": drawn / first.size / run.seconds,
            "cpu": cpu * 1000,
            "copies": limit,
        }


def _damage(target: Target, settings: Settings) -> dict[str, float]:
    size = (1920, 1080)
    with BenchGuest.open(target, memory=memory_for(size), modes=[size]) as guest:
        surface = guest.surface(*size, scattered=True)
        guest.show(surface)
        rect = Rect(640, 480, DAMAGE_SIDE, DAMAGE_SIDE)
        limit = copy_rate(guest.memory, surface.pieces, surface.stride, rect, settings.seconds / 8)
        one, drawn, cpu = measured(guest, squares(surface), settings.seconds)
        eight, _, cpu_8 = measured(guest, squares(surface), settings.seconds, depth=8)
        return {
            "rate": one.rate,
            "rate_8": eight.rate,
            "p50": one.percentile_us(50),
            "p99": one.percentile_us(99),
            "delivered": drawn / (4 * DAMAGE_SIDE**2) / one.seconds,
            "cpu": cpu * 1e6,
            "cpu_8": cpu_8 * 1e6,
            "copies": limit,
        }


_FRAME_FIGURES = (
    Figure("rate", "Frames a second", "/s", "higher", "copies"),
    Figure("delivered", "Frames on the display socket a second", "/s", "higher", "copies"),
    Figure("cpu", "CPU of the back-end a frame", "ms", "lower"),
    Figure("copies", "memcpy of the same frame", "/s", "higher"),
)
_DAMAGE_FIGURES = (
    Figure("rate", "Updates a second, one in flight", "/s", "higher", "copies"),
    Figure("rate_8", "Updates a second, 8 in flight", "/s", "higher", "copies"),
    Figure("p50", "Time of one update, p50", "us", "lower"),
    Figure("p99", "Time of one update, p99", "us", "lower"),
    Figure("delivered", "Updates' pixels on the display socket, in updates a second", "/s", "higher"),
    Figure("cpu", "CPU of the back-end an update", "us", "lower"),
    Figure("cpu_8", "CPU of the back-end an update, 8 in flight", "us", "lower"),
    Figure("copies", "memcpy of the same square", "/s", "higher"),
)


def _scenario(size: tuple[int, int], scattered: bool, flipped: bool = False) -> Scenario:
    backing = "scattered" if scattered else "linear"
    name = f"{'flips' if flipped else 'frames'}-{size[0]}x{size[1]}-{backing}"
    what = "Page flips" if flipped else "Full frames"
    pieces = "4 KiB pieces" if scattered else "one piece"
    run = partial(_frames, size=size, scattered=scattered, flipped=flipped)
    return Scenario(name, f"{what}, {size[0]}x{size[1]}, backing in {pieces}", _FRAME_FIGURES, run)


SCENARIOS = (
    *(_scenario(size, scattered) for size in SIZES for scattered in (False, True)),
    _scenario((1920, 1080), True, flipped=True),
    Scenario("damage-64", "64x64 updates on a 1920x1080 screen, backing in 4 KiB pieces", _DAMAGE_FIGURES, _damage),
)
