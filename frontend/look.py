"""What a window looks like, as plain values, and which parts of it differ from what it looked like before.

Everything counts in pixels of the window from its upper left corner. No OpenGL here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from frontend.geometry import Box, Size, clip_all, overlap, place_on
from protocol.virtio_gpu import Rect

MAX_PARTS = 24
"""Parts that are painted one by one; more are painted as the rectangle around them."""
JOIN = 100_000
"""Pixels between two parts that cost about as much as painting and showing a part of its own, 0.1 ms."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A texture blended over the picture: the cursor or a text panel."""

    name: str
    """Which texture."""
    version: int
    """Changes with the texture's pixels."""
    box: Box
    """Where it lies; may hang over edges."""
    clip: Rect
    """Where it may be seen."""

    def place(self) -> Rect | None:
        """The pixels that it may touch; None: none."""
        return overlap(cover(self.box), self.clip)


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that a window shows but the picture's pixels."""

    window: Size
    picture: Box | None
    """Where the picture is; None without one."""
    linear: bool
    """How a picture that is scaled is sampled."""
    layers: tuple[Layer, ...]
    """From the lowest to the highest."""

    def whole(self) -> Rect:
        """All of the window."""
        return Rect(0, 0, *self.window)


def cover(box: Box) -> Rect:
    """The whole pixels that a box touches."""
    left, top = math.floor(box.x), math.floor(box.y)
    return Rect(left, top, math.ceil(box.x + box.width) - left, math.ceil(box.y + box.height) - top)


def on_window(part: Rect, picture: Size, box: Box) -> Rect:
    """The window's pixels that a part of the picture may change when box holds the picture of this size."""
    if (box.width, box.height) == picture:
        return cover(place_on(part, picture, box))
    wider = Rect(part.x - 1, part.y - 1, part.width + 2, part.height + 2)  # a sample mixes neighbours
    return cover(place_on(wider, picture, box))


def changed_parts(old: Look | None, new: Look, picture: Size, damage: Sequence[Rect]) -> list[Rect]:
    """What has to be painted to come from one look (None: nothing usable) to the next; empty when they are the same.

    picture: the picture's size; damage: the parts of it that have new pixels.
    """
    if old is None or (old.window, old.picture, old.linear) != (new.window, new.picture, new.linear):
        return [new.whole()]
    parts: list[Rect] = []
    if new.picture is not None:
        parts += [on_window(part, picture, new.picture) for part in damage]
    parts += [layer.place() or Rect(0, 0, 0, 0) for layer in set(old.layers) ^ set(new.layers)]
    return simplified(clip_all(parts, new.window))


def simplified(parts: list[Rect]) -> list[Rect]:
    """Fewer parts that hold at least the same pixels, joined where painting what lies between costs less."""
    if len(parts) > MAX_PARTS:
        return [_around(parts)]
    done: list[Rect] = []
    left = list(parts)
    while left:
        part = left.pop()
        joined = next(
            ((other, both) for other in left if _waste(part, other, both := _around((part, other))) <= JOIN), None
        )
        if joined is None:
            done.append(part)
        else:
            left.remove(joined[0])
            left = [joined[1], *left, *done]  # what it did not fit to before, it may now
            done = []
    return done


def _waste(one: Rect, other: Rect, both: Rect) -> int:
    """Pixels of the rectangle around two that neither has; negative when they overlap much."""
    return _area(both) - _area(one) - _area(other)


def _area(part: Rect) -> int:
    return part.width * part.height


def _around(parts: Sequence[Rect]) -> Rect:
    left, top = min(part.x for part in parts), min(part.y for part in parts)
    right, bottom = max(part.x + part.width for part in parts), max(part.y + part.height for part in parts)
    return Rect(left, top, right - left, bottom - top)
