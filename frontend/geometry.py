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


def overlap(one: Rect, other: Rect) -> Rect | None:
    """The pixels that both rectangles have, whose corners may be negative; None when there are none."""
    left, top = max(one.x, other.x), max(one.y, other.y)
    right = min(one.x + one.width, other.x + other.width)
    bottom = min(one.y + one.height, other.y + other.height)
    if right <= left or bottom <= top:
        return None
    return Rect(left, top, right - left, bottom - top)


def clip(rect: Rect, size: Size) -> Rect | None:
    """The part of a rectangle inside a picture of this size; None when that is empty."""
    return overlap(rect, Rect(0, 0, *size))


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


def place_panel(panel: Size, window: Size, at: tuple[float, float], margin: int = 12) -> Box:
    """Where a panel lies: at from (0, 0), left and top, to (1, 1), margin pixels from the edges if there is room."""
    room = [max(0, window[axis] - panel[axis] - 2 * margin) for axis in (0, 1)]
    return Box(margin + round(room[0] * at[0]), margin + round(room[1] * at[1]), *panel)


def window_size(picture: Size, screen: Size) -> Size:
    """The size for a new picture's window: the picture's own, or a fit into 9/10 of a screen too small for it."""
    if picture[0] <= screen[0] and picture[1] <= screen[1]:
        return picture
    return _fit(picture, (max(1, screen[0] * 9 // 10), max(1, screen[1] * 9 // 10)))
