"""The balls of the 3D scene: where they are, frame by frame. No pixels, no device, no clock.

Lengths are pixels, y grows downwards, time is counted in frames. Balls fly straight, bounce off the four walls, and
bounce off each other as equal discs of the same stuff do. All follows from the size and the number of frames alone.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import combinations

Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 1 each."""

BALLS = 12
_PALETTE: tuple[Colour, ...] = (
    *((0.95, 0.30, 0.30), (0.98, 0.60, 0.25), (0.98, 0.85, 0.30), (0.55, 0.85, 0.35)),
    *((0.25, 0.75, 0.45), (0.25, 0.80, 0.75), (0.35, 0.70, 0.98), (0.30, 0.45, 0.95)),
    *((0.55, 0.40, 0.95), (0.80, 0.40, 0.90), (0.98, 0.50, 0.75), (0.80, 0.82, 0.88)),
)
_SPEED = 0.006
"""Of the smaller side, a frame: it is crossed in about three seconds of 60 frames."""


@dataclass(slots=True)
class Ball:
    """One ball: centre, velocity (pixels a frame), radius, colour."""

    x: float
    y: float
    dx: float
    dy: float
    radius: float
    colour: Colour


class Balls:
    """``count`` balls in a box of ``width`` x ``height`` pixels; ``balls`` is the present frame, number ``frame``."""

    def __init__(self, width: int, height: int, count: int = BALLS) -> None:
        """The first frame: each ball in a cell of its own, so that none overlaps another."""
        self.width = width
        self.height = height
        self.frame = 0
        choose = random.Random(243)
        columns = max(1, math.ceil(math.sqrt(count * width / height)))
        rows = math.ceil(count / columns)
        cell = width / columns, height / rows
        self.balls = [
            _placed(choose, (i % columns + 0.5) * cell[0], (i // columns + 0.5) * cell[1], min(cell), i)
            for i in range(count)
        ]

    def step(self) -> None:
        """The next frame."""
        self.frame += 1
        for ball in self.balls:
            ball.x += ball.dx
            ball.y += ball.dy
            ball.x, ball.dx = _reflected(ball.x, ball.dx, ball.radius, self.width - ball.radius)
            ball.y, ball.dy = _reflected(ball.y, ball.dy, ball.radius, self.height - ball.radius)
        for one, other in combinations(self.balls, 2):
            _collide(one, other)


def _placed(choose: random.Random, x: float, y: float, cell: float, number: int) -> Ball:
    angle = choose.uniform(0, math.tau)
    speed = cell * 3.5 * _SPEED * choose.uniform(0.6, 1.2)
    radius = cell * choose.uniform(0.22, 0.36)
    return Ball(x, y, speed * math.cos(angle), speed * math.sin(angle), radius, _PALETTE[number % len(_PALETTE)])


def _reflected(at: float, speed: float, low: float, high: float) -> tuple[float, float]:
    """Place and speed after the walls ``low`` and ``high``."""
    if at < low:
        return min(2 * low - at, high), abs(speed)
    if at > high:
        return max(2 * high - at, low), -abs(speed)
    return at, speed


def _collide(one: Ball, other: Ball) -> None:
    """An elastic collision along the line of the centres, if they touch and draw near to each other."""
    x, y = other.x - one.x, other.y - one.y
    distance = math.hypot(x, y)
    if not 0 < distance < one.radius + other.radius:
        return
    x, y = x / distance, y / distance
    closing = (one.dx - other.dx) * x + (one.dy - other.dy) * y
    if closing <= 0:
        return
    mass, other_mass = one.radius**2, other.radius**2
    push = 2 * closing / (mass + other_mass)
    one.dx, one.dy = one.dx - push * other_mass * x, one.dy - push * other_mass * y
    other.dx, other.dy = other.dx + push * mass * x, other.dy + push * mass * y
