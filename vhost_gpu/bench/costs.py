"""How cost grows: with damaged pixels, screen size, pieces of backing and the number of resources."""

from __future__ import annotations

import statistics

from protocol.virtio_gpu import Format, MemEntry, Rect, ResourceAttachBacking, ResourceCreate2d
from vhost_gpu.bench.frames import SIZES, measured, memory_for, squares
from vhost_gpu.bench.guest import BenchGuest, Surface
from vhost_gpu.bench.model import Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Prepared, Run, prepare
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.memory import PAGE
from vhost_gpu.guest.ring import Segment

SIDES = (64, 128, 256, 512, 1024)
_SCREEN_SIDE = 256
_LARGE = (4096, 4096)  # 16,384 pages
_FEW = 10
_MANY = 10_000
_QUICK_MANY = 200
_TINY = 16
_TURNS = 5
_DEPTH = 8


def _update_us(run: Run) -> float:
    """The median: a viewer of growth wants no spikes."""
    return run.percentile_us(50)


def _damage(target: Target, settings: Settings) -> dict[str, float]:
    size = SIZES[-1]
    figures: dict[str, float] = {}
    with BenchGuest.open(target, memory=memory_for(size), modes=[size]) as guest:
        surface = guest.surface(*size, scattered=True)
        guest.show(surface)
        for side in SIDES:
            run, _, _ = measured(guest, squares(surface, side), settings.seconds / 2)
            figures[f"side_{side}"] = _update_us(run)
            figures[f"pixel_{side}"] = _update_us(run) * 1000 / side**2
    return figures


def _screens(target: Target, settings: Settings) -> dict[str, float]:
    """The same damage on a larger and larger screen, one mode change after the other.

    It stays where all screens are: spread over more memory, it would cost more for that reason alone.
    """
    figures: dict[str, float] = {}
    with BenchGuest.open(target, memory=sum(map(memory_for, SIZES)), modes=[SIZES[-1]]) as guest:
        surfaces = [guest.surface(*size, scattered=True) for size in SIZES]
        for surface in surfaces:
            guest.show(surface)
            run, _, _ = measured(guest, squares(surface, _SCREEN_SIDE, within=SIZES[0]), settings.seconds / 2)
            figures[f"width_{surface.width}"] = _update_us(run)
    figures["growth"] = figures[f"width_{SIZES[-1][0]}"] / figures[f"width_{SIZES[0][0]}"]
    return figures


def _pieces(target: Target, settings: Settings) -> dict[str, float]:
    """Two resources over the same memory, updated where a walk over the pieces would be longest.

    With many in flight nobody sleeps: what an update costs is not lost in what waking up costs.
    """
    with BenchGuest.open(target, memory=memory_for(_LARGE)) as guest:
        one = guest.surface(*_LARGE)
        many = guest.surface_over(one, scattered=True)
        times: dict[int, list[float]] = {1: [], len(many.pieces): []}
        for _ in range(_TURNS):
            for surface in (one, many):
                times[len(surface.pieces)].append(_at_the_end_us(guest, surface, settings.seconds / 2 / _TURNS))
    first, last = map(statistics.median, times.values())
    return {"pieces_1": first, "pieces_many": last, "growth": last / first}


def _at_the_end_us(guest: BenchGuest, surface: Surface, seconds: float) -> float:
    rect = Rect(surface.width - 80, surface.height - 80, 64, 64)
    return 1e6 / measured(guest, [surface.update(rect)], seconds, depth=_DEPTH)[0].rate


def _resources(target: Target, settings: Settings) -> dict[str, float]:
    """The same commands on the same ten resources, before and after there are 10,000."""
    count = _QUICK_MANY if settings.quick else _MANY
    with BenchGuest.open(target) as guest:
        backing = Segment(guest.memory.alloc(PAGE), _TINY * _TINY * 4)
        surfaces = [Surface(1 + i * 997, _TINY, _TINY, (backing,)) for i in range(count)]
        guest.control.run([_make(surface) for surface in surfaces[:_FEW]], count=_FEW)
        updates = [surface.update() for surface in surfaces[:_FEW]]
        few, _, _ = measured(guest, updates, settings.seconds / 2)
        rest = [_make(surface) for surface in surfaces[_FEW:]]
        guest.control.run(rest, depth=8, count=len(rest))
        many, _, _ = measured(guest, updates, settings.seconds / 2)
        all_updates = [surface.update() for surface in surfaces]
        every, _, _ = measured(guest, all_updates, settings.seconds / 2)
    return {
        "few": _update_us(few),
        "many": _update_us(many),
        "every": _update_us(every),
        "growth": _update_us(many) / _update_us(few),
    }


def _make(surface: Surface) -> tuple[Prepared, ...]:
    (backing,) = surface.pieces
    entry = MemEntry(backing.gpa, backing.length).encode()
    return prepare(
        ResourceCreate2d(surface.resource_id, Format.B8G8R8X8_UNORM, surface.width, surface.height),
        ResourceAttachBacking(surface.resource_id, 1, entry),
    )


_GROWTH = Figure("growth", "Growth, the last by the first", "", "lower")

SCENARIOS = (
    Scenario(
        "cost-damage",
        "Time of an update by its size, 3840x2160 screen",
        (
            *(Figure(f"side_{side}", f"{side}x{side} pixels", "us", "lower") for side in SIDES),
            *(Figure(f"pixel_{side}", f"A pixel of {side}x{side}", "ns", "lower") for side in SIDES),
        ),
        _damage,
    ),
    Scenario(
        "cost-screen",
        "Time of a 256x256 update by the size of the screen",
        (*(Figure(f"width_{w}", f"{w}x{h} screen", "us", "lower") for w, h in SIZES), _GROWTH),
        _screens,
    ),
    Scenario(
        "cost-pieces",
        "Time of a 64x64 update by the pieces of the backing, 8 in flight, 4096x4096 resource",
        (
            Figure("pieces_1", "One piece", "us", "lower"),
            Figure("pieces_many", "16,384 pieces", "us", "lower"),
            _GROWTH,
        ),
        _pieces,
    ),
    Scenario(
        "cost-resources",
        "Time of a small update by the number of resources",
        (
            Figure("few", "10 resources", "us", "lower"),
            Figure("many", "10,000 resources, updates of ten", "us", "lower"),
            Figure("every", "10,000 resources, updates of all", "us", "lower"),
            _GROWTH,
        ),
        _resources,
    ),
)
