"""3D frames: the bouncing balls beside the same streams on the renderer itself, at 60 a second, and a slow frame."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from protocol.virgl import CommandStream
from protocol.virgl_const import Primitive
from protocol.virtio_gpu import Rect, ResourceFlush
from vhost_gpu.bench import direct
from vhost_gpu.bench.cursors import full_frames, moves, paced
from vhost_gpu.bench.direct import Job, Resource, Wait
from vhost_gpu.bench.guest import BenchGuest, settle
from vhost_gpu.bench.model import Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Prepared, Run, prepare
from vhost_gpu.bench.render import VIRGL, around, batched, gpu3d_of, submission
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.balls import Ball, Balls
from vhost_gpu.guest.balls_stream import (
    BUFFER_BIND,
    BUFFER_FORMAT,
    BUFFER_TARGET,
    FAN,
    FORMAT,
    PICTURE_BIND,
    PICTURE_TARGET,
    BallsStream,
    buffer_size,
)
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, Context
from vhost_gpu.guest.memory import MIB
from vhost_gpu.guest.ring import Segment

SIZES = ((864, 1080), (1280, 800))
"""The seed's, and a small screen's."""
_FRAMES = 120
_TWO = 2
_INTERVAL = 1 / 60
_WARM = 8
_MEMORY = 16 * MIB
_SLOW_SIZE = (1920, 1080)
_LAYERS = 60
"""Times that a slow frame paints all its pixels over."""
_PICTURE, _VERTICES = 1, 2


@dataclass(frozen=True, slots=True)
class Stage:
    """What the balls want: a context that has a picture and a vertex buffer, both numbered from 1; objects made."""

    guest: BenchGuest
    context: Context
    stream: BallsStream

    @classmethod
    def build(cls, guest: BenchGuest, size: tuple[int, int]) -> Self:
        """On a guest that has no resources yet. Raises BenchError."""
        gpu3d = gpu3d_of(guest)
        context = guest.do(gpu3d.context("balls"))
        stream = BallsStream(_PICTURE, _VERTICES, *size)
        for resource in resources(size):
            made = (resource.target, resource.format, resource.bind, resource.width, resource.height)
            guest.do(context.attach(guest.do(gpu3d.create(*made, resource_id=resource.id))))
        guest.do(context.submit(stream.setup()))
        return cls(guest, context, stream)

    @property
    def whole(self) -> Rect:
        """All of the picture."""
        return self.stream.whole()

    def show(self) -> None:
        """Puts the picture on scanout 0."""
        self.guest.do(self.guest.gpu.set_scanout(0, _PICTURE, self.whole))

    def submissions(self, streams: Sequence[bytes]) -> list[Prepared]:
        """SUBMIT_3D of each, from guest memory, where they are put."""
        return [submission(self.context, stream, self._put(stream)) for stream in streams]

    def _put(self, stream: bytes) -> Segment:
        gpa = self.guest.memory.alloc(len(stream))
        self.guest.memory.write(gpa, stream)
        return Segment(gpa, len(stream))

    def frames(self, streams: Sequence[bytes]) -> list[tuple[Prepared, ...]]:
        """Operations: a stream with a fence, and a flush."""
        flush = prepare(ResourceFlush(self.whole, _PICTURE))
        return [(submitted, *flush) for submitted in self.submissions(streams)]


def resources(size: tuple[int, int]) -> tuple[Resource, Resource]:
    """The picture and the vertex buffer."""
    return (
        Resource(_PICTURE, PICTURE_TARGET, FORMAT, PICTURE_BIND, *size),
        Resource(_VERTICES, BUFFER_TARGET, BUFFER_FORMAT, BUFFER_BIND, buffer_size()),
    )


def balls_streams(size: tuple[int, int], count: int = _FRAMES) -> list[bytes]:
    """The first frames of the balls."""
    stream, balls = BallsStream(_PICTURE, _VERTICES, *size), Balls(*size)
    streams = []
    for _ in range(count):
        streams.append(stream.frame(balls.balls))
        balls.step()
    return streams


def slow_stream(size: tuple[int, int], layers: int = _LAYERS) -> bytes:
    """A frame that takes the renderer long: one ball larger than the picture, over and over."""
    width, height = size
    large = Ball(width / 2, height / 2, 0, 0, width + height, (0.4, 0.6, 0.8))
    stream = CommandStream()
    for _ in range(layers - 1):
        stream.draw(Primitive.TRIANGLE_FAN, FAN)
    return BallsStream(_PICTURE, _VERTICES, *size).frame([large]) + bytes(stream.data)


def job(size: tuple[int, int], streams: Sequence[bytes], seconds: float, **more: int | float) -> Job:
    """The same streams for the renderer itself. ``more``: as a Job has it."""
    setup = BallsStream(_PICTURE, _VERTICES, *size).setup()
    return Job(streams, seconds, Wait.ASYNC, setup=setup, resources=resources(size), **more)  # type: ignore[arg-type]


def _measured(
    guest: BenchGuest, operations: Sequence[Sequence[Prepared]], seconds: float, **how: int | float
) -> tuple[Run, float]:
    """A warm run, and the back-end's CPU milliseconds for each frame."""
    guest.control.run(operations, count=_WARM)
    settle(guest)
    before = guest.target.cpu_seconds()
    run = guest.control.run(operations, seconds=seconds, **how)  # type: ignore[arg-type]
    return run, (guest.target.cpu_seconds() - before) / run.operations * 1000


def _balls(target: Target, settings: Settings, size: tuple[int, int]) -> dict[str, float]:
    streams = balls_streams(size)
    alone = job(size, streams, settings.seconds / 2)
    with BenchGuest.open(target, memory=_MEMORY, modes=[size], features=VIRGL_FEATURES) as guest:
        stage = Stage.build(guest, size)
        stage.show()
        operations = stage.frames(streams)
        first = direct.measure(alone)
        run, cpu = _measured(guest, operations, settings.seconds)
        limit = around(alone, first)
        drawn = guest.display.drawn().pixel_bytes
        two, _ = _measured(guest, operations, settings.seconds, depth=_TWO)
        drawn = guest.display.drawn().pixel_bytes - drawn
    read = direct.measure(job(size, streams, settings.seconds / 2, read=_PICTURE))
    return {
        "rate": run.rate,
        "rate_2": two.rate,
        "delivered": drawn / (4 * size[0] * size[1]) / two.seconds,
        "batch": batched(run),
        "interrupts": run.interrupts / run.operations,
        "cpu": cpu,
        "direct": limit["rate"],
        "direct_2": direct.measure(job(size, streams, settings.seconds / 2, depth=_TWO)).rate,
        "read": read.rate,
    }


def _at_60(target: Target, settings: Settings) -> dict[str, float]:
    """Frames at a screen's rate, then nothing but empty streams at that rate, then nothing at all."""
    size = SIZES[0]
    streams = balls_streams(size)
    with BenchGuest.open(target, memory=_MEMORY, modes=[size], features=VIRGL_FEATURES) as guest:
        stage = Stage.build(guest, size)
        stage.show()
        run, cpu = _measured(guest, stage.frames(streams), settings.seconds, interval=_INTERVAL)
        beats, beat_cpu = _measured(guest, [(submission(stage.context),)], settings.seconds, interval=_INTERVAL)
        settle(guest)
        time.sleep(settings.seconds / 10)  # whatever is put off until there is time
        switches, before = target.context_switches(), target.cpu_seconds()
        time.sleep(settings.seconds)
        idle, switches = target.cpu_seconds() - before, target.context_switches() - switches
    read = direct.measure(job(size, streams, settings.seconds, read=_PICTURE, interval=_INTERVAL))
    return {
        "cpu": cpu,
        "p50": run.percentile_us(50) / 1000,
        "p99": run.percentile_us(99) / 1000,
        "beat": beat_cpu * beats.rate,
        "wakeups": switches / settings.seconds,
        "idle": idle / settings.seconds * 1000,
        "read": read.cpu * 1000,
    }


def _cursor(target: Target, settings: Settings) -> dict[str, float]:
    """MOVE_CURSOR while frames render that take long. Nothing is flushed: the picture is on no screen."""
    with BenchGuest.open(target, memory=_MEMORY, modes=[_SLOW_SIZE], features=VIRGL_FEATURES) as guest:
        stage = Stage.build(guest, _SLOW_SIZE)
        slow = tuple(stage.submissions([slow_stream(_SLOW_SIZE)]))
        frame = guest.control.run([slow], count=2).percentile_us(50)
        paced(guest, moves(), settings.seconds / 10)
        alone = paced(guest, moves(), settings.seconds)
        with full_frames(guest, slow, 2 * settings.seconds):
            busy = paced(guest, moves(), settings.seconds)
    return {
        "move_p50": busy.percentile_us(50) / 1000,
        "move_p99": busy.percentile_us(99) / 1000,
        "alone_p99": alone.percentile_us(99) / 1000,
        "frame": frame / 1000,
    }


_BALLS_FIGURES = (
    Figure("rate", "Frames a second", "/s", "higher", "direct"),
    Figure("rate_2", "Frames a second, two in flight", "/s", "higher", "direct_2"),
    Figure("delivered", "Frames on the display socket a second, two in flight", "/s", "higher"),
    Figure("batch", "Interrupts a batch of completions", "", "lower"),
    Figure("interrupts", "Interrupts a frame of two commands", "", "lower"),
    Figure("cpu", "CPU of the back-end a frame", "ms", "lower"),
    Figure("direct", "The same streams directly", "/s", "higher"),
    Figure("direct_2", "The same streams directly, two in flight", "/s", "higher"),
    Figure("read", "The same streams directly, each frame read back", "/s", "higher"),
)


def _balls_scenario(size: tuple[int, int]) -> Scenario:
    text = f"{size[0]}x{size[1]}"
    title = f"Twelve balls in 3D, {text}: a stream and a flush a frame"
    run = partial(_balls, size=size)
    return Scenario(f"balls-{text}", title, _BALLS_FIGURES, run, options=VIRGL, standard=direct.available())


SCENARIOS = (
    *map(_balls_scenario, SIZES),
    Scenario(
        "idle-3d",
        "The balls at 60 frames a second, empty streams at that rate, and nothing at all",
        (
            Figure("cpu", "CPU of the back-end a frame, 60 a second", "ms", "lower", "read"),
            Figure("p50", "Time of a frame, p50", "ms", "lower"),
            Figure("p99", "Time of a frame, p99", "ms", "lower"),
            Figure("beat", "CPU a second, 60 empty streams a second", "ms/s", "lower"),
            Figure("wakeups", "Context switches a second when nothing is drawn", "/s", "lower"),
            Figure("idle", "CPU a second when nothing is drawn", "ms/s", "lower"),
            Figure("read", "CPU of the same frame directly, read back", "ms", "lower"),
        ),
        _at_60,
        options=VIRGL,
        standard=direct.available(),
    ),
    Scenario(
        "cursor-3d",
        "The cursor while slow 3D frames render",
        (
            Figure("move_p50", "MOVE_CURSOR, p50", "ms", "lower"),
            Figure("move_p99", "MOVE_CURSOR, p99", "ms", "lower"),
            Figure("alone_p99", "MOVE_CURSOR while nothing renders, p99", "ms", "lower"),
            Figure("frame", "Time of one slow frame", "ms", "lower"),
        ),
        _cursor,
        options=VIRGL,
        standard=direct.available(),
    ),
)
