"""Precomputed pictures for the scene: a small bitmap font, shaded balls, a gradient and the cursor.

Pixels are four bytes B G R X (virtio-gpu format B8G8R8X8) or B G R A (the cursor). Everything is built from whole rows
with ``bytes.translate``, since a pixel at a time is too slow in Python.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255 each."""

GLYPH_WIDTH = 6
GLYPH_HEIGHT = 7
CURSOR_SIDE = 64

# Seven rows a glyph, one base-32 digit each: five pixels, the highest bit on the left.
_FONT = """
A ehhvhhh B uhhuhhu C ehggghe D uhhhhhu E vgguggv F vgguggg G ehgnhhe H hhhvhhh I e44444e J 1111hhe K hikokih
L ggggggv M hrllhhh N hpljhhh O ehhhhhe P uhhuggg Q ehhhlid R uhhukih S fgge11u T v444444 U hhhhhhe V hhhhha4
W hhhllrh X hha4ahh Y hha4444 Z v1248gv 0 ehjlphe 1 4c4444e 2 eh1248v 3 eh161he 4 26aiv22 5 vgu11he 6 egguhhe
7 v124444 8 ehhehhe 9 ehhf11e - 000e000 . 00000cc : 0cc0cc0 / 11248gg % op248j3
"""
_GLYPHS = {" ": "0000000", **dict(zip(_FONT.split()[0::2], _FONT.split()[1::2], strict=True))}


def pixel(colour: Colour, alpha: int = 255) -> bytes:
    """The four bytes of a colour."""
    red, green, blue = colour
    return bytes((blue, green, red, alpha))


@lru_cache(maxsize=4096)
def _glyph_row(char: str, row: int, ink: bytes, paper: bytes, scale: int) -> bytes:
    bits = int(_GLYPHS.get(char, _GLYPHS["-"])[row], 32)
    return b"".join((ink if bits >> (4 - i) & 1 else paper) * scale for i in range(5)) + paper * scale


def text_rows(text: str, ink: Colour, paper: Colour, scale: int) -> list[bytes]:
    """``text`` (upper-cased) as ``GLYPH_HEIGHT * scale`` rows of ``len(text) * GLYPH_WIDTH * scale`` pixels."""
    dark, light = pixel(ink), pixel(paper)
    rows = []
    for row in range(GLYPH_HEIGHT):
        rows += [b"".join(_glyph_row(char, row, dark, light, scale) for char in text.upper())] * scale
    return rows


def ramp(first: int, last: int, count: int) -> bytes:
    """``count`` bytes from ``first`` to ``last``."""
    span = max(count - 1, 1)
    return bytes(first + (last - first) * i // span for i in range(count))


def interleave(blue: bytes, green: bytes, red: bytes) -> bytearray:
    """One row from its three channels."""
    row = bytearray(b"\xff") * (4 * len(blue))
    row[0::4], row[1::4], row[2::4] = blue, green, red
    return row


def gradient(width: int, height: int, top: Colour, bottom: Colour) -> bytes:
    """A whole picture: from ``top`` to ``bottom``, and a quarter brighter from left to right."""
    light = ramp(190, 255, width)
    rows = []
    for y in range(height):
        part = y / max(height - 1, 1)
        channels = [round(a + (b - a) * part) for a, b in zip(top, bottom, strict=True)]
        red, green, blue = (light.translate(bytes(value * i // 255 for i in range(256))) for value in channels)
        rows.append(bytes(interleave(blue, green, red)))
    return b"".join(rows)


@dataclass(frozen=True, slots=True)
class Ball:
    """A disc of ``2 * radius`` rows: ``rows[i]`` is drawn from ``insets[i]`` pixels right of the left edge."""

    radius: int
    insets: Sequence[int]
    rows: Sequence[bytes]


def _tint(value: int) -> bytes:
    """Light to channel: the plain colour at 192, white at 255, black at 0."""
    return bytes(value * i // 192 if i < 192 else value + (255 - value) * (i - 192) // 63 for i in range(256))


def _light(x: float, y: float) -> int:
    """The light on the unit sphere at (x, y), from the upper left."""
    depth = math.sqrt(max(0.0, 1 - x * x - y * y))
    diffuse = max(0.0, -0.5 * x - 0.6 * y + 0.62 * depth)
    return min(255, int(56 + 130 * diffuse + 110 * diffuse**24))


@lru_cache(maxsize=64)
def _light_rows(radius: int) -> list[bytes]:
    rows = []
    for i in range(2 * radius):
        y = (i + 0.5 - radius) / radius
        half = max(1, round(math.sqrt(max(0.0, 1 - y * y)) * radius))
        rows.append(bytes(_light((j + 0.5) / radius, y) for j in range(-half, half)))
    return rows


def ball(radius: int, colour: Colour) -> Ball:
    """A shaded ball."""
    red, green, blue = (_tint(value) for value in colour)
    lights = _light_rows(radius)
    rows = [bytes(interleave(row.translate(blue), row.translate(green), row.translate(red))) for row in lights]
    return Ball(radius, [radius - len(row) // 2 for row in lights], rows)


def cursor_picture() -> bytes:
    """An arrow, 64 x 64 pixels B G R A; the hot spot is its tip at (0, 0)."""
    clear, edge, fill = bytes(4), pixel((16, 16, 24)), pixel((255, 255, 255))
    rows = []
    for y in range(CURSOR_SIDE):
        width = y + 1 if y < 24 else max(0, 24 - 3 * (y - 23)) if y < 32 else 0
        cells = [edge if x in (0, width - 1) or (y >= 23 and x > 8) else fill for x in range(width)]
        rows.append(b"".join(cells) + clear * (CURSOR_SIDE - width))
    return b"".join(rows)
