"""Whether memory grows with commands, and with resources made and dropped. Long: on request only."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.virtio_gpu import (
    Format,
    MemEntry,
    Rect,
    ResourceAttachBacking,
    ResourceCreate2d,
    ResourceDetachBacking,
    ResourceFlush,
    ResourceUnref,
    TransferToHost2d,
)
from vhost_gpu.bench.guest import BenchGuest, settle
from vhost_gpu.bench.model import Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Prepared, prepare
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.memory import MIB, PAGE

_QUICK_COMMANDS = 20_000
_QUICK_RESOURCES = 1_000
_UPDATES = 31
_IDS = 1000
_TINY = 32


def _grown(guest: BenchGuest, operations: Sequence[Sequence[Prepared]], count: int, depth: int) -> dict[str, float]:
    """How much more memory there is after ``count`` operations than after the first tenth of as many."""
    guest.control.run(operations, depth=depth, count=max(1, count // 10))
    settle(guest)
    before = guest.target.pss_bytes()
    run = guest.control.run(operations, depth=depth, count=count)
    settle(guest)
    grown = guest.target.pss_bytes() - before
    return {"growth": grown / MIB, "commands": float(run.commands), "time": run.seconds / run.commands * 1e6}


def _commands(target: Target, settings: Settings) -> dict[str, float]:
    """Updates of the screen, and now and then a resource that comes and goes."""
    total = _QUICK_COMMANDS if settings.quick else settings.commands
    with BenchGuest.open(target) as guest:
        surface = guest.surface(1024, 768, scattered=True)
        guest.show(surface)
        passing = prepare(ResourceCreate2d(99, Format.B8G8R8X8_UNORM, 64, 64), ResourceUnref(99))
        updates = [surface.update(Rect(8 * i, 8 * i, 16, 16)) for i in range(_UPDATES)]
        return _grown(guest, [*updates, passing], total // 2, depth=16)


def _resources(target: Target, settings: Settings) -> dict[str, float]:
    total = _QUICK_RESOURCES if settings.quick else settings.resources
    with BenchGuest.open(target) as guest:
        entry = MemEntry(guest.memory.alloc(PAGE), PAGE).encode()
        return _grown(guest, [_life(100 + i, entry) for i in range(_IDS)], total, depth=4)


def _life(number: int, entry: bytes) -> tuple[Prepared, ...]:
    rect = Rect(0, 0, _TINY, _TINY)
    return prepare(
        ResourceCreate2d(number, Format.B8G8R8X8_UNORM, _TINY, _TINY),
        ResourceAttachBacking(number, 1, entry),
        TransferToHost2d(rect, 0, number),
        ResourceFlush(rect, number),
        ResourceDetachBacking(number),
        ResourceUnref(number),
    )


_FIGURES = (
    Figure("growth", "Memory grown (PSS)", "MiB", "lower"),
    Figure("commands", "Commands sent", "", "higher"),
    Figure("time", "Time a command", "us", "lower"),
)

SCENARIOS = (
    Scenario("endurance-commands", "Memory after 10,000,000 commands", _FIGURES, _commands, standard=False),
    Scenario("endurance-resources", "Memory after 100,000 resources", _FIGURES, _resources, standard=False),
)
