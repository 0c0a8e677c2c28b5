"""Where things go: rectangles of a picture, the picture in its window, the cursor on the picture. No drawing here.

Everything counts in pixels from the upper left corner, x to the right and y downwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from protocol.virtio_gpu import Rect

Size = tuple[int, int]
"""Width and height in pixels."""

_SIGN = 1 << 31


class Scale(StrEnum):
    """How a picture fills its window."""

    FIT = "fit"
    """As large as the window allows, keeping the aspect."""
    ONE_TO_ONE = "1:1"
    """One guest pixel is one pixel of the window."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in a window, edges in (possibly fractional or negative) pixels."""

    x: float
    y: float
    width: float
    height: float


def signed(value: int) -> int:
    """A cursor position as it travels (u32) as the signed number the guest meant: a cursor may hang over an edge."""
    return value - 2 * _SIGN if value >= _SIGN else value


def clip(rect: Rect, size: Size) -> Rect | None:
    """The part of a rectangle inside a picture of this size; None when that is empty."""
    right, bottom = min(rect.x + rect.width, size[0]), min(rect.y + rect.height, size[1])
    left, top = max(rect.x, 0), max(rect.y, 0)
    if right <= left or bottom <= top:
        return None
    return Rect(left, top, right - left, bottom - top)


def clip_all(rects: Iterable[Rect], size: Size) -> list[Rect]:
    """The rectangles' parts inside a picture of this size, empty ones left out."""
    return [part for part in (clip(rect, size) for rect in rects) if part is not None]


def place(picture: Size, window: Size, scale: Scale) -> Box:
    """Where a picture is drawn in its window.

    Edges fall on whole pixels, so that the picture stays sharp. A 1:1 picture larger than its window shows its upper
    left part; a smaller one is centred.
    """
    width, height = picture if scale is Scale.ONE_TO_ONE else _fit(picture, window)
    return Box(max(0, (window[0] - width) // 2), max(0, (window[1] - height) // 2), width, height)


def _fit(picture: Size, window: Size) -> Size:
    """The largest size with the picture's aspect inside the window, never smaller than one pixel."""
    if window[0] * picture[1] <= window[1] * picture[0]:
        return window[0], max(1, round(picture[1] * window[0] / picture[0]))
    return max(1, round(picture[0] * window[1] / picture[1])), window[1]


def place_on(part: Rect, picture: Size, box: Box) -> Box:
    """Where a rectangle of the picture (the cursor, which may hang over an edge) lies when box holds the picture."""
    across, down = box.width / picture[0], box.height / picture[1]
    return Box(box.x + part.x * across, box.y + part.y * down, part.width * across, part.height * down)


def window_size(picture: Size, screen: Size) -> Size:
    """The size for a new picture's window: the picture's own, or a fit into 9/10 of a screen too small for it."""
    if picture[0] <= screen[0] and picture[1] <= screen[1]:
        return picture
    return _fit(picture, (max(1, screen[0] * 9 // 10), max(1, screen[1] * 9 // 10)))
