"""Arithmetic of damage rectangles, in pixels."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.virtio_gpu import Rect


def area(rect: Rect) -> int:
    """Pixels inside."""
    return rect.width * rect.height


def bounding(a: Rect, b: Rect) -> Rect:
    """The smallest rectangle around both."""
    x, y = min(a.x, b.x), min(a.y, b.y)
    right = max(a.x + a.width, b.x + b.width)
    bottom = max(a.y + a.height, b.y + b.height)
    return Rect(x, y, right - x, bottom - y)


def _worth_joining(a: Rect, b: Rect) -> bool:
    return area(bounding(a, b)) <= area(a) + area(b)


def merge(rects: Iterable[Rect]) -> list[Rect]:
    """Covers ``rects`` with fewer rectangles where that costs no pixels: joins those whose bounding box is no larger
    than the two together."""
    merged: list[Rect] = []
    for rect in rects:
        grown = rect
        while hit := next((other for other in merged if _worth_joining(other, grown)), None):
            merged.remove(hit)
            grown = bounding(grown, hit)
        merged.append(grown)
    return merged
