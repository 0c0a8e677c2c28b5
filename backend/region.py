"""A small set of rectangles: the damage that a sink has still to send.

Kept short on purpose: a sink sends each rectangle on its own, so a few that waste some pixels beat many exact ones.
"""

from typing import NamedTuple

from backend._core import ffi, lib

MAX_RECTS: int = lib.VG_MAX_RECTS
"""Rectangles a region holds at most; also what one FRAME message of the viewer protocol may carry."""


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

    def clip(self, width: int, height: int) -> "Rect | None":
        """The part inside a picture of ``width`` x ``height``; None when nothing is."""
        x, y = max(self.x, 0), max(self.y, 0)
        right, bottom = min(self.x + self.width, width), min(self.y + self.height, height)
        return Rect(x, y, right - x, bottom - y) if right > x and bottom > y else None


class Region:
    """Damage of one scanout, never more than ``MAX_RECTS`` rectangles: the core's ``vg_region``."""

    def __init__(self) -> None:
        self.core = ffi.new("vg_region *")

    def __bool__(self) -> bool:
        """Whether there is any damage."""
        return bool(self.core.count)

    def add(self, rect: Rect) -> None:
        """Adds a rectangle, merged with those it nearly completes."""
        lib.vg_region_add(self.core, [rect], 1)

    def update(self, other: "Region") -> None:
        """Adds all of another region."""
        lib.vg_region_add(self.core, other.core.rects, other.core.count)

    def set_whole(self, width: int, height: int) -> None:
        """Makes everything of a picture damaged, and nothing outside it."""
        self.core.count = 0
        self.add(Rect(0, 0, width, height))

    def rects(self) -> list[Rect]:
        """All rectangles."""
        return [Rect(r.x, r.y, r.width, r.height) for r in self.core.rects[0 : self.core.count]]

    def take(self) -> list[Rect]:
        """All rectangles; the region is empty afterwards."""
        rects = self.rects()
        self.core.count = 0
        return rects

    def clear(self) -> None:
        """Forgets all damage."""
        self.core.count = 0
