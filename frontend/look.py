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
_MOST = 0.8
"""How much of the rectangle around them parts may fill, before painting all of it is cheaper."""


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
    """The same pixels, or more of them in one rectangle where that costs less than many small ones."""
    if len(parts) < 2:
        return parts
    around = _around(parts)
    area = sum(part.width * part.height for part in parts)
    return [around] if len(parts) > MAX_PARTS or area > _MOST * around.width * around.height else parts


def _around(parts: Sequence[Rect]) -> Rect:
    left, top = min(part.x for part in parts), min(part.y for part in parts)
    right, bottom = max(part.x + part.width for part in parts), max(part.y + part.height for part in parts)
    return Rect(left, top, right - left, bottom - top)
