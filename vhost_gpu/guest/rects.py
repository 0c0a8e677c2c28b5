"""Rectangles of damage, in pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Rect(NamedTuple):
    """``width`` x ``height`` pixels with the upper left corner at ``(x, y)``."""

    x: int
    y: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.width * self.height


def bounding(a: Rect, b: Rect) -> Rect:
    """The smallest rectangle around both."""
    x, y = min(a.x, b.x), min(a.y, b.y)
    right = max(a.x + a.width, b.x + b.width)
    bottom = max(a.y + a.height, b.y + b.height)
    return Rect(x, y, right - x, bottom - y)


def merge(rects: Iterable[Rect]) -> list[Rect]:
    """Covers ``rects`` with fewer rectangles where that costs no pixels: joins those whose bounding box is no larger
    than the two together."""
    merged: list[Rect] = []
    for rect in rects:
        grown = rect
        while hit := next((other for other in merged if bounding(other, grown).area <= other.area + grown.area), None):
            merged.remove(hit)
            grown = bounding(grown, hit)
        merged.append(grown)
    return merged
