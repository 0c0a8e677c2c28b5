"""Text over the picture, drawn with Pillow's own font: no font has to be installed, no window is needed to test it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from frontend.keys import BINDINGS
from frontend.pixels import Pixels

TEXT_SIZE = 15
TITLE_SIZE = 22
PADDING = 16
COLUMN_GAP = 24
LINE_GAP = 7
_PANEL = (18, 20, 26, 215)
_TITLE = (255, 255, 255, 255)
_TEXT = (224, 227, 234, 255)
_QUIET = (148, 163, 184, 255)
_LONGEST = 100
"""Characters of a line; the rest is cut off."""

Row = tuple[str, str]
"""A quiet left column and the text beside it; an empty left column in all rows takes no room."""


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def panel(title: str, rows: Sequence[Row], background: bool = True) -> Pixels:
    """A box with a title (may be empty) and rows in two columns: R G B A, premultiplied, (height, width, 4)."""
    rows = [(_clean(left), _clean(right)) for left, right in rows]
    title = _clean(title)
    left = max((_width(row[0], TEXT_SIZE) for row in rows), default=0)
    column = left + COLUMN_GAP if left else 0
    inner = max([_width(title, TITLE_SIZE), *(column + _width(row[1], TEXT_SIZE) for row in rows)])
    head = TITLE_SIZE + 2 * LINE_GAP if title else 0
    step = TEXT_SIZE + LINE_GAP
    size = (inner + 2 * PADDING, head + step * len(rows) - (LINE_GAP if rows else 2 * LINE_GAP) + 2 * PADDING)
    image = Image.new("RGBA", size)
    draw = ImageDraw.Draw(image)
    if background:
        draw.rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), 10, _PANEL)
    draw.text((PADDING, PADDING), title, _TITLE, _font(TITLE_SIZE), anchor="lt")
    for number, row in enumerate(rows):
        y = PADDING + head + number * step + TEXT_SIZE
        draw.text((PADDING, y), row[0], _QUIET, _font(TEXT_SIZE), anchor="ls")
        draw.text((PADDING + column, y), row[1], _TEXT, _font(TEXT_SIZE), anchor="ls")
    return _premultiplied(image)


def help_panel() -> Pixels:
    """The list of keys."""
    return panel("Keys", [(binding.keys, binding.text) for binding in BINDINGS])


def statistics_panel(lines: Sequence[str]) -> Pixels:
    """Lines of a name and the rest."""
    return panel("", [cast(Row, tuple(line.split(maxsplit=1))) for line in lines])


def waiting_panel(detail: str) -> Pixels:
    """What a window says when nothing is scanned out; detail may be empty."""
    return panel("Waiting for the guest", [("", detail)] if detail else [], background=False)


def message_panel(text: str) -> Pixels:
    """A short message."""
    return panel("", [("", text)])


def _width(text: str, size: int) -> int:
    return round(_font(size).getlength(text)) if text else 0


def _clean(text: str) -> str:
    """Text fit to be drawn: one line, no control characters, not endless."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable if len(printable) <= _LONGEST else printable[: _LONGEST - 1] + "…"


def _premultiplied(image: Image.Image) -> Pixels:
    rgba = np.array(image)
    alpha = rgba[..., 3:].astype(np.uint16)
    rgba[..., :3] = (rgba[..., :3] * alpha + 127) // 255
    return rgba
