"""A small set of rectangles: the damage that a sink has still to send.

Kept short on purpose: a sink sends each rectangle on its own, so a few that waste some pixels beat many exact ones.
"""

from collections.abc import Iterable
from typing import NamedTuple

MAX_RECTS = 32
"""Rectangles a region holds at most; also what one FRAME message of the viewer protocol may carry."""

_WASTE_DIVISOR = 4  # two rectangles become one when that adds at most a quarter of undamaged pixels


class Rect(NamedTuple):
    """A rectangle in pixels; ``x`` and ``y`` from the top left."""

    x: int
    y: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels covered."""
        return self.width * self.height

    def union(self, other: "Rect") -> "Rect":
        """The smallest rectangle that covers both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        right = max(self.x + self.width, other.x + other.width)
        bottom = max(self.y + self.height, other.y + other.height)
        return Rect(x, y, right - x, bottom - y)

    def clip(self, width: int, height: int) -> "Rect | None":
        """The part inside a picture of ``width`` x ``height``; None when nothing is."""
        x, y = max(self.x, 0), max(self.y, 0)
        right, bottom = min(self.x + self.width, width), min(self.y + self.height, height)
        return Rect(x, y, right - x, bottom - y) if right > x and bottom > y else None


class Region:
    """Damage of one scanout, never more than ``MAX_RECTS`` rectangles."""

    def __init__(self) -> None:
        self._rects: list[Rect] = []

    def __bool__(self) -> bool:
        return bool(self._rects)

    def add(self, rect: Rect) -> None:
        """Adds a rectangle, merged with those it nearly completes."""
        if rect.area == 0:
            return
        merged = True
        while merged:
            merged = False
            for i, other in enumerate(self._rects):
                union = rect.union(other)
                if union.area * _WASTE_DIVISOR <= (rect.area + other.area) * (_WASTE_DIVISOR + 1):
                    rect = union
                    del self._rects[i]
                    merged = True
                    break
        self._rects.append(rect)
        if len(self._rects) > MAX_RECTS:
            self._collapse()

    def update(self, rects: Iterable[Rect]) -> None:
        """Adds several."""
        for rect in rects:
            self.add(rect)

    def set_whole(self, width: int, height: int) -> None:
        """Makes everything of a picture damaged, and nothing outside it."""
        self._rects = [Rect(0, 0, width, height)] if width and height else []

    def take(self) -> list[Rect]:
        """All rectangles; the region is empty afterwards."""
        rects, self._rects = self._rects, []
        return rects

    def clear(self) -> None:
        """Forgets all damage."""
        self._rects = []

    def _collapse(self) -> None:
        whole = self._rects[0]
        for rect in self._rects[1:]:
            whole = whole.union(rect)
        self._rects = [whole]
