"""The cursor queue: alone, and while the control queue runs full 4K frames."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from protocol.virtio_gpu import CURSOR_SIDE, Format, MoveCursor, UpdateCursor
from vhost_gpu.bench.frames import memory_for
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Prepared, Run, Stop, prepare
from vhost_gpu.bench.target import Target

_SIZE = (3840, 2160)
_INTERVAL = 0.004
_PLACES = 101
_DEPTH = 2


def moves() -> list[tuple[Prepared, ...]]:
    """MOVE_CURSOR here and there; like Linux's, without room for an answer."""
    return [prepare(MoveCursor(0, 5 * i, 3 * i), reply_length=0) for i in range(_PLACES)]


def _updates(resource_id: int) -> list[tuple[Prepared, ...]]:
    return [prepare(UpdateCursor(0, 5 * i, 3 * i, resource_id, 1, 1), reply_length=0) for i in range(_PLACES)]


def _cursor_resource(guest: BenchGuest) -> int:
    picture = guest.surface(CURSOR_SIDE, CURSOR_SIDE, format_=Format.B8G8R8A8_UNORM)
    guest.do(guest.gpu.transfer(picture.resource_id, picture.whole, 0))
    guest.do(guest.gpu.update_cursor(picture.resource_id))
    return picture.resource_id


def paced(guest: BenchGuest, operations: list[tuple[Prepared, ...]], seconds: float) -> Run:
    """The cursor's operations, 250 a second."""
    return guest.cursor.run(operations, interval=_INTERVAL, seconds=seconds)


@contextmanager
def full_frames(guest: BenchGuest, operation: tuple[Prepared, ...], seconds: float) -> Iterator[Future[Run]]:
    """The control queue is busy meanwhile, for ``seconds`` at most: a back-end may look at nothing else until then.

    Yields what will be the run. Raises BenchError on leaving when that failed.
    """
    stop = Stop()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(guest.control.run, [operation], depth=_DEPTH, seconds=seconds, stop=stop)
        try:
            yield running
        finally:
            stop.set()
        running.result()


def _alone(target: Target, settings: Settings) -> dict[str, float]:
    with BenchGuest.open(target) as guest:
        resource = _cursor_resource(guest)
        guest.show(guest.surface(1024, 768))
        move = paced(guest, moves(), settings.seconds)
        update = paced(guest, _updates(resource), settings.seconds)
    return {
        "move_p50": move.percentile_us(50),
        "move_p99": move.percentile_us(99),
        "update_p50": update.percentile_us(50),
        "update_p99": update.percentile_us(99),
    }


def _busy(target: Target, settings: Settings) -> dict[str, float]:
    with BenchGuest.open(target, memory=memory_for(_SIZE), modes=[_SIZE]) as guest:
        surface = guest.surface(*_SIZE, scattered=True)
        resource = _cursor_resource(guest)
        guest.show(surface)
        with full_frames(guest, surface.update(), 2 * settings.seconds):
            move = paced(guest, moves(), settings.seconds)
        with full_frames(guest, surface.update(), 2 * settings.seconds):
            update = paced(guest, _updates(resource), settings.seconds)
    return {
        "move_p50": move.percentile_us(50) / 1000,
        "move_p99": move.percentile_us(99) / 1000,
        "update_p50": update.percentile_us(50) / 1000,
        "update_p99": update.percentile_us(99) / 1000,
    }


def _figures(unit: str) -> tuple[Figure, ...]:
    return tuple(
        Figure(f"{kind}_p{percent}", f"{name}, p{percent}", unit, "lower")
        for kind, name in (("move", "MOVE_CURSOR"), ("update", "UPDATE_CURSOR"))
        for percent in (50, 99)
    )


SCENARIOS = (
    Scenario("cursor", "The cursor, 250 times a second", _figures("us"), _alone),
    Scenario("cursor-busy", "The cursor while the control queue runs full 4K frames", _figures("ms"), _busy),
)
