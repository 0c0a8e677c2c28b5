"""Pictures as numpy arrays: the eight virtio-gpu formats as RGBA, and the cursor blended over them.

The window needs none of this for a frame (the texture units reorder the bytes); it serves screenshots and the cursor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protocol.virtio_gpu import Format, Rect

Pixels = NDArray[np.uint8]
"""Rows of pixels of four bytes: shape (height, width, 4)."""

CURSOR_SIDE = 64
"""A cursor's width and height in pixels (virtio 1.3, 5.7.6.10)."""
CURSOR_BYTES = CURSOR_SIDE * CURSOR_SIDE * 4

BYTE_ORDER: dict[int, tuple[int, int, int]] = {
    Format.B8G8R8A8_UNORM: (2, 1, 0),
    Format.B8G8R8X8_UNORM: (2, 1, 0),
    Format.A8R8G8B8_UNORM: (1, 2, 3),
    Format.X8R8G8B8_UNORM: (1, 2, 3),
    Format.R8G8B8A8_UNORM: (0, 1, 2),
    Format.X8B8G8R8_UNORM: (3, 2, 1),
    Format.A8B8G8R8_UNORM: (3, 2, 1),
    Format.R8G8B8X8_UNORM: (0, 1, 2),
}
"""At which of a pixel's four bytes red, green and blue are. A scanout is opaque, whatever its alpha says."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a scanout shows: a view of shared memory, to be read before its frame is given back."""

    pixels: Pixels
    """Bytes as the guest wrote them, (height, width, 4); rows may lie apart (strides)."""
    format: int
    """A virtio-gpu `Format`."""
    damage: tuple[Rect, ...]
    """What changed since the picture taken before, inside the picture."""
    sequence: int
    """The frame's number."""
    flush_ns: int
    """CLOCK_MONOTONIC nanoseconds when the guest flushed it."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class CursorPicture:
    """A cursor's 64x64 pixels and its hot spot. Each is equal to itself alone."""

    pixels: Pixels
    """R G B A, colours premultiplied by alpha, (64, 64, 4)."""
    hot_x: int
    """The hot spot in the picture."""
    hot_y: int
    """The hot spot in the picture."""


def to_rgba(pixels: Pixels, fmt: int) -> Pixels:
    """A copy with bytes R G B 255 of pixels in a virtio-gpu format. KeyError: no such format."""
    rgba = np.empty((*pixels.shape[:2], 4), np.uint8)
    for channel, offset in enumerate(BYTE_ORDER[fmt]):
        rgba[..., channel] = pixels[..., offset]
    rgba[..., 3] = 255
    return rgba


def cursor_rgba(data: bytes) -> Pixels:
    """A cursor's 16384 bytes B G R A as premultiplied R G B A, (64, 64, 4).

    Linux guests send premultiplied colours (the DRM's default blend mode), Windows guests straight ones, and the
    protocol does not say. A colour brighter than its alpha can only be straight.
    """
    bgra = np.frombuffer(data, np.uint8, CURSOR_BYTES).reshape(CURSOR_SIDE, CURSOR_SIDE, 4)
    rgba = bgra[..., [2, 1, 0, 3]]
    alpha = rgba[..., 3:]
    if (rgba[..., :3] > alpha).any():
        rgba[..., :3] = _multiply(rgba[..., :3], alpha)
    return rgba


def blend_cursor(picture: Pixels, cursor: Pixels, x: int, y: int) -> None:
    """Draws a premultiplied cursor over an RGBA picture, its upper left corner at (x, y), clipped to the picture."""
    height, width = picture.shape[:2]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + cursor.shape[1], width), min(y + cursor.shape[0], height)
    if right <= left or bottom <= top:
        return
    source = cursor[top - y : bottom - y, left - x : right - x]
    target = picture[top:bottom, left:right, :3]
    under = _multiply(target, 255 - source[..., 3:]).astype(np.uint16)
    target[:] = np.minimum(source[..., :3] + under, 255)


def _multiply(values: Pixels, factor: Pixels) -> Pixels:
    """values * factor / 255, rounded."""
    product = values.astype(np.uint16) * factor + 127
    return (product // 255).astype(np.uint8)
