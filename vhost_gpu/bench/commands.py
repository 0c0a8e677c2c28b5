"""Small commands: how long one takes, and what many in flight cost each."""

from __future__ import annotations

from functools import partial

from protocol.virtio_gpu import (
    EDID_SIZE,
    HEADER_SIZE,
    Format,
    GetEdid,
    ResourceCreate2d,
    ResourceFlush,
    ResourceUnref,
    ResponseType,
)
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.limits import ping_pong_us
from vhost_gpu.bench.model import Figure, Scenario, Settings
from vhost_gpu.bench.placement import Placement, placed
from vhost_gpu.bench.queueloop import Prepared, Run, prepare
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.driver import F_IN_ORDER, F_RING_PACKED, LINUX_FEATURES

DEPTHS = (1, 8, 32)
RINGS = {
    "split": 0,
    "split_in_order": F_IN_ORDER,
    "packed": F_RING_PACKED,
    "packed_in_order": F_RING_PACKED | F_IN_ORDER,
}
_SIDE = 64
_WARM = 200


def small_flush(guest: BenchGuest) -> tuple[Prepared, ...]:
    """RESOURCE_FLUSH of a small resource that no scanout shows: next to nothing to do."""
    surface = guest.surface(_SIDE, _SIDE)
    return prepare(ResourceFlush(surface.whole, surface.resource_id))


def cpu_us(target: Target, before: float, run: Run) -> float:
    """The back-end's CPU time for each command, since its clock stood at ``before`` seconds."""
    return (target.cpu_seconds() - before) / run.commands * 1e6


def mean_us(run: Run) -> float:
    """Microseconds for each command."""
    return run.seconds / run.commands * 1e6


def _timed(guest: BenchGuest, operation: tuple[Prepared, ...], seconds: float) -> dict[str, float]:
    guest.control.run([operation], count=_WARM)
    before = guest.target.cpu_seconds()
    run = guest.control.run([operation], seconds=seconds)
    return {
        "p50": run.percentile_us(50),
        "p99": run.percentile_us(99),
        "cpu": cpu_us(guest.target, before, run),
    }


def _round_trip(target: Target, settings: Settings, placement: Placement) -> dict[str, float]:
    """The ping-pong before and after, so that what drifts meets both."""
    with BenchGuest.open(target) as guest, placed(placement, target.pids()) as cpus:
        operation = small_flush(guest)
        first = ping_pong_us(settings.seconds / 4, cpus)
        figures = _timed(guest, operation, settings.seconds)
        second = ping_pong_us(settings.seconds / 4, cpus)
    ping, ping99 = ((a + b) / 2 for a, b in zip(first, second, strict=True))
    return {**figures, "ping": ping, "ping99": ping99}


def _edid(target: Target, settings: Settings) -> dict[str, float]:
    operation = prepare(GetEdid(0), reply_length=HEADER_SIZE + EDID_SIZE, expect=ResponseType.OK_EDID)
    with BenchGuest.open(target) as guest:
        return _timed(guest, operation, settings.seconds)


def _create(target: Target, settings: Settings) -> dict[str, float]:
    operation = prepare(ResourceCreate2d(1, Format.B8G8R8X8_UNORM, _SIDE, _SIDE), ResourceUnref(1))
    with BenchGuest.open(target) as guest:
        return _timed(guest, operation, settings.seconds)


def _depths(target: Target, settings: Settings, placement: Placement) -> dict[str, float]:
    figures = {}
    with BenchGuest.open(target) as guest, placed(placement, target.pids()):
        operation = small_flush(guest)
        guest.control.run([operation], count=_WARM)
        for depth in DEPTHS:
            before = target.cpu_seconds()
            run = guest.control.run([operation], depth=depth, seconds=settings.seconds / 2)
            figures[f"time_{depth}"] = mean_us(run)
            figures[f"interrupts_{depth}"] = run.interrupts / run.commands
            figures[f"cpu_{depth}"] = cpu_us(target, before, run)
    return figures


def _rings(target: Target, settings: Settings, placement: Placement) -> dict[str, float]:
    """One connection after another; each kind of ring for a part of the time."""
    figures = {}
    for ring, bits in RINGS.items():
        with BenchGuest.open(target, features=LINUX_FEATURES | bits) as guest, placed(placement, target.pids()):
            operation = small_flush(guest)
            guest.control.run([operation], count=_WARM)
            for depth in DEPTHS:
                run = guest.control.run([operation], depth=depth, seconds=settings.seconds / 4)
                figures[f"{ring}_{depth}"] = mean_us(run)
    return figures


def _latency(subject: str) -> tuple[Figure, ...]:
    return (
        Figure("p50", f"{subject}, p50", "us", "lower"),
        Figure("p99", f"{subject}, p99", "us", "lower"),
        Figure("cpu", "CPU of the back-end a command", "us", "lower"),
    )


_DEPTH_FIGURES = (
    *(Figure(f"time_{depth}", f"Time a command, {depth} in flight", "us", "lower") for depth in DEPTHS),
    *(Figure(f"interrupts_{depth}", f"Interrupts a command, {depth} in flight", "", "lower") for depth in DEPTHS),
    *(Figure(f"cpu_{depth}", f"CPU of the back-end a command, {depth} in flight", "us", "lower") for depth in DEPTHS),
)

_ROUND_TRIP_FIGURES = (
    Figure("p50", "Round trip, p50", "us", "lower", "ping"),
    Figure("p99", "Round trip, p99", "us", "lower", "ping99"),
    Figure("cpu", "CPU of the back-end a command", "us", "lower"),
    Figure("ping", "Ping-pong of two processes, p50", "us", "lower"),
    Figure("ping99", "Ping-pong of two processes, p99", "us", "lower"),
)


def _placed_scenarios(placement: Placement, suffix: str) -> tuple[Scenario, ...]:
    where = "" if placement is Placement.FREE else f", both sides {placement.value}"
    return (
        Scenario(
            f"round-trip{suffix}",
            f"Round trip of one small command{where}",
            _ROUND_TRIP_FIGURES,
            partial(_round_trip, placement=placement),
        ),
        Scenario(
            f"depth{suffix}",
            f"Many small commands in flight{where}",
            _DEPTH_FIGURES,
            partial(_depths, placement=placement),
        ),
    )


def _rings_scenario(placement: Placement, suffix: str) -> Scenario:
    figures = tuple(
        Figure(f"{ring}_{depth}", f"{ring.replace('_', ', ', 1).replace('_', ' ')}, {depth} in flight", "us", "lower")
        for ring in RINGS
        for depth in DEPTHS
    )
    title = f"The kinds of rings, time a small command, both sides {placement.value}"
    return Scenario(f"rings{suffix}", title, figures, partial(_rings, placement=placement), rival=False)


SCENARIOS = (
    *_placed_scenarios(Placement.FREE, ""),
    *_placed_scenarios(Placement.TOGETHER, "-one-cpu"),
    *_placed_scenarios(Placement.APART, "-two-cpus"),
    _rings_scenario(Placement.TOGETHER, "-one-cpu"),
    _rings_scenario(Placement.APART, "-two-cpus"),
    Scenario("edid", "GET_EDID, which the VMM's display answers", _latency("GET_EDID"), _edid),
    Scenario("create", "A resource made and dropped", _latency("CREATE_2D and UNREF"), _create),
)
