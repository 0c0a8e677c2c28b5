"""A moving 2D scene in pure Python: balls that bounce on a gradient, a bar with a frame counter, a gliding cursor.

Every position follows from the frame number alone, so two runs paint the same frames. A step writes whole precomputed
rows and only where something moved: about a millisecond a frame at 1280x800.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.virtio_gpu import Rect
from vhost_gpu.guest.picture import GLYPH_HEIGHT, GLYPH_WIDTH, Ball, ball, gradient, pixel, text_rows
from vhost_gpu.guest.rects import bounding, merge

_BAR = (24, 28, 44)
_INK = (226, 232, 240)
_TOP = (42, 78, 140)
_BOTTOM = (140, 62, 110)
_COLOURS = (
    *((235, 87, 87), (242, 153, 74), (242, 201, 76), (33, 150, 83), (39, 174, 140), (86, 204, 242)),
    *((47, 128, 237), (155, 81, 224), (235, 110, 180), (180, 190, 200), (130, 200, 90), (255, 220, 170)),
)


@dataclass(frozen=True, slots=True)
class _Course:
    """How one ball moves: periods in frames, phases in periods, bounce height as a part of the arena's."""

    sprite: Ball
    across: int
    across_phase: float
    bounce: int
    bounce_phase: float
    height: float


def _course(index: int, unit: int) -> _Course:
    radius = max(2, unit * (6 + index * 5 % 7) // 12)
    return _Course(
        ball(radius, _COLOURS[index % len(_COLOURS)]),
        across=420 + 67 * (index * 5 % 12),
        across_phase=index * 0.618 % 1,
        bounce=90 + 9 * (index * 7 % 12),
        bounce_phase=index * 0.37 % 1,
        height=0.55 + 0.45 * (index * 3 % 5) / 4,
    )


class Scene:
    """The scene for a framebuffer of ``width`` x ``height`` pixels, 4 bytes each (B8G8R8X8), rows without gaps."""

    def __init__(self, width: int, height: int, *, balls: int = 12, title: str = "vhost-gpu  embedded guest") -> None:
        self.width = width
        self.height = height
        self.frame = 0
        self._scale = 3 if width >= 1600 else 2 if width >= 640 else 1
        bar = (GLYPH_HEIGHT + 8) * self._scale
        self._bar = bar if 4 * bar <= height else 0
        self._background = memoryview(self._paint_background(title))
        self._courses = [_course(i, max(4, min(width, height - self._bar) // 10)) for i in range(balls)]
        self._places: list[tuple[int, int]] = []
        columns = width // (GLYPH_WIDTH * self._scale)
        self._counter_x = max(len(title) + 2, columns - 14) * GLYPH_WIDTH * self._scale

    @property
    def size(self) -> int:
        """Bytes of a frame."""
        return 4 * self.width * self.height

    def whole(self) -> Rect:
        """The rectangle of the whole picture."""
        return Rect(0, 0, self.width, self.height)

    def start(self, pixels: memoryview) -> list[Rect]:
        """Paints the present frame whole, into ``size`` writable bytes; returns the damage."""
        pixels[: self.size] = self._background
        self._draw(pixels)
        return [self.whole()]

    def step(self, pixels: memoryview) -> list[Rect]:
        """Paints the next frame over the last; returns at most ``balls + 1`` rectangles of damage."""
        self.frame += 1
        before = self._places
        self._erase(pixels)
        counter = self._draw(pixels)
        moved = [
            bounding(self._box(course.sprite, *old), self._box(course.sprite, *new))
            for course, old, new in zip(self._courses, before, self._places, strict=True)
        ]
        return merge([rect for rect in (*moved, counter) if rect.width and rect.height])

    def cursor(self) -> tuple[int, int]:
        """Where the cursor's hot spot is in the present frame."""
        angle = self.frame * math.tau / 600
        x = 0.5 + 0.42 * math.sin(2 * angle + 0.5)
        y = 0.5 + 0.40 * math.sin(3 * angle)
        return int(x * (self.width - 1)), int(y * (self.height - 1))

    # ---- painting ----

    def _paint_background(self, title: str) -> bytearray:
        picture = bytearray(gradient(self.width, self.height, _TOP, _BOTTOM))
        picture[: 4 * self.width * self._bar] = pixel(_BAR) * (self.width * self._bar)
        view = memoryview(picture)
        self._text(view, title, GLYPH_WIDTH * self._scale)
        view.release()
        return picture

    def _text(self, pixels: memoryview, text: str, x: int) -> Rect:
        """Writes into the bar; clipped at the right edge."""
        room = max(0, (self.width - x) // (GLYPH_WIDTH * self._scale))
        rows = text_rows(text[:room], _INK, _BAR, self._scale)
        y = (self._bar - len(rows)) // 2
        if y < 0 or not rows[0]:
            return Rect(0, 0, 0, 0)
        _blit(pixels, 4 * self.width, x, y, rows)
        return Rect(x, y, len(rows[0]) // 4, len(rows))

    def _draw(self, pixels: memoryview) -> Rect:
        stride = 4 * self.width
        self._places = [self._place(course) for course in self._courses]
        for course, (x, y) in zip(self._courses, self._places, strict=True):
            _draw_ball(pixels, stride, course.sprite, x, y)
        return self._text(pixels, f"frame {self.frame:06}", self._counter_x)

    def _erase(self, pixels: memoryview) -> None:
        stride = 4 * self.width
        background = self._background
        for course, (x, y) in zip(self._courses, self._places, strict=True):
            sprite = course.sprite
            at = y * stride + 4 * x
            for inset, row in zip(sprite.insets, sprite.rows, strict=True):
                start = at + 4 * inset
                end = start + len(row)
                pixels[start:end] = background[start:end]
                at += stride

    def _place(self, course: _Course) -> tuple[int, int]:
        """The upper left corner of a ball's box: a triangle wave across, parabolas up and down."""
        side = 2 * course.sprite.radius
        across = (self.frame / course.across + course.across_phase) % 1
        x = (self.width - side) * (1 - abs(2 * across - 1))
        flight = (self.frame / course.bounce + course.bounce_phase) % 1
        drop = (self.height - self._bar - side) * course.height * 4 * flight * (1 - flight)
        return int(x), int(self.height - side - drop)

    def _box(self, sprite: Ball, x: int, y: int) -> Rect:
        return Rect(x, y, 2 * sprite.radius, 2 * sprite.radius)


def _draw_ball(pixels: memoryview, stride: int, sprite: Ball, x: int, y: int) -> None:
    at = y * stride + 4 * x
    for inset, row in zip(sprite.insets, sprite.rows, strict=True):
        start = at + 4 * inset
        pixels[start : start + len(row)] = row
        at += stride


def _blit(pixels: memoryview, stride: int, x: int, y: int, rows: Sequence[bytes]) -> None:
    at = y * stride + 4 * x
    for row in rows:
        pixels[at : at + len(row)] = row
        at += stride
