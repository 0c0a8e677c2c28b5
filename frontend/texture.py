"""Textures in the byte order of what they are given, so that software OpenGL copies instead of converting."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np
from pyglet import gl

from frontend.geometry import Size
from frontend.pixels import BYTE_ORDER, Pixels
from protocol.virtio_gpu import Rect

_LAYOUT = {
    (2, 1, 0): (gl.GL_BGRA, gl.GL_UNSIGNED_BYTE),
    (0, 1, 2): (gl.GL_RGBA, gl.GL_UNSIGNED_BYTE),
    (1, 2, 3): (gl.GL_BGRA, gl.GL_UNSIGNED_INT_8_8_8_8),
    (3, 2, 1): (gl.GL_RGBA, gl.GL_UNSIGNED_INT_8_8_8_8),
}
"""OpenGL's names for pixels whose red, green and blue are at these bytes, on a little-endian machine."""
_RGBA = (0, 1, 2)


class Texture:
    """A texture of pixels of four bytes, its size and byte order following what is uploaded."""

    def __init__(self) -> None:
        self._name = ctypes.c_uint()
        gl.glGenTextures(1, self._name)
        self.size: Size = (0, 0)
        """Width and height in pixels; 0, 0 before there is room for any."""
        self._order = _RGBA
        self.set_linear(False)
        for edge in (gl.GL_TEXTURE_WRAP_S, gl.GL_TEXTURE_WRAP_T):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, edge, gl.GL_CLAMP_TO_EDGE)

    @property
    def name(self) -> int:
        """OpenGL's name for it."""
        return int(self._name.value)

    def bind(self) -> None:
        """Makes it the texture that is drawn with."""
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._name)

    def set_linear(self, linear: bool) -> None:
        """Chooses how it is scaled."""
        self.bind()
        how = gl.GL_LINEAR if linear else gl.GL_NEAREST
        for parameter in (gl.GL_TEXTURE_MIN_FILTER, gl.GL_TEXTURE_MAG_FILTER):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, parameter, how)

    def prepare(self, size: Size, fmt: int | None = None) -> None:
        """Makes room for pixels of this size in a virtio-gpu format, or R G B A; a change makes the content undefined.

        The internal format has no size on purpose: Mesa then keeps the bytes in the order in which they come, so that
        an upload is a plain copy, and so is a blit to a window of the same order. MemoryError: there is no room.
        """
        order = _RGBA if fmt is None else BYTE_ORDER[fmt]
        if (size, order) == (self.size, self._order):
            return
        self.bind()
        gl.glTexImage2D(gl.GL_TEXTURE_2D, 0, gl.GL_RGBA, *size, 0, *_LAYOUT[order], None)
        self._order = order
        self.size = size if gl.glGetError() == gl.GL_NO_ERROR else (0, 0)
        if self.size != size:
            raise MemoryError(f"no graphics memory for {size[0]}x{size[1]}")

    def upload(self, pixels: Pixels, parts: Iterable[Rect]) -> None:
        """Replaces parts of the texture by the same parts of pixels, whose rows may lie apart by any multiple of 4."""
        if pixels.strides[0] % 4 or pixels.strides[1:] != (4, 1):
            pixels = np.ascontiguousarray(pixels)
        self.bind()
        stride, base = pixels.strides[0], pixels.ctypes.data
        gl.glPixelStorei(gl.GL_UNPACK_ROW_LENGTH, stride // 4)
        for part in parts:
            place = (part.x, part.y, part.width, part.height)
            address = ctypes.c_void_p(base + part.y * stride + part.x * 4)
            gl.glTexSubImage2D(gl.GL_TEXTURE_2D, 0, *place, *_LAYOUT[self._order], address)
        gl.glPixelStorei(gl.GL_UNPACK_ROW_LENGTH, 0)

    def show(self, pixels: Pixels) -> None:
        """Becomes exactly these R G B A pixels."""
        self.prepare((pixels.shape[1], pixels.shape[0]))
        self.upload(pixels, [Rect(0, 0, *self.size)])

    def read(self) -> Pixels:
        """The pixels as R G B A, a copy."""
        pixels: Pixels = np.empty((self.size[1], self.size[0], 4), np.uint8)
        self.bind()
        gl.glGetTexImage(gl.GL_TEXTURE_2D, 0, *_LAYOUT[_RGBA], ctypes.c_void_p(pixels.ctypes.data))
        return pixels
