"""Draws a window's content with OpenGL 3.3: the picture, the cursor and text panels are textured rectangles.

Damage goes from shared memory into the texture without a copy in Python; the texture units put the bytes of the eight
virtio-gpu formats in order (swizzle). A renderer belongs to one window, whose context is current during every call.
"""

from __future__ import annotations

import ctypes

import numpy as np
from pyglet import gl
from pyglet.graphics.shader import Shader, ShaderProgram

from frontend.geometry import Box, Size
from frontend.pixels import BYTE_ORDER, Picture, Pixels, to_rgba

_VERTEX = """#version 330 core
uniform vec4 box;
out vec2 at;
void main() {
    at = vec2(gl_VertexID & 1, gl_VertexID >> 1);
    gl_Position = vec4(mix(box.xy, box.zw, at), 0.0, 1.0);
}
"""
_FRAGMENT = """#version 330 core
uniform sampler2D picture;
in vec2 at;
out vec4 colour;
void main() { colour = texture(picture, at); }
"""
_CHANNELS = (gl.GL_RED, gl.GL_GREEN, gl.GL_BLUE, gl.GL_ALPHA)
_BACKGROUND = (0.05, 0.055, 0.07, 1.0)


class Texture:
    """A texture of bytes in fours, its size following what is uploaded."""

    def __init__(self) -> None:
        self._name = ctypes.c_uint()
        gl.glGenTextures(1, self._name)
        self.size: Size = (0, 0)
        """Width and height in pixels; 0, 0 before the first upload."""
        self.set_linear(False)
        self.bind()
        for edge in (gl.GL_TEXTURE_WRAP_S, gl.GL_TEXTURE_WRAP_T):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, edge, gl.GL_CLAMP_TO_EDGE)

    def bind(self) -> None:
        """Makes it the texture that is drawn with."""
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._name)

    def set_linear(self, linear: bool) -> None:
        """Chooses how it is scaled."""
        self.bind()
        how = gl.GL_LINEAR if linear else gl.GL_NEAREST
        for parameter in (gl.GL_TEXTURE_MIN_FILTER, gl.GL_TEXTURE_MAG_FILTER):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, parameter, how)

    def set_format(self, fmt: int) -> None:
        """Opaque pixels of a virtio-gpu format from now on."""
        self.bind()
        names = (gl.GL_TEXTURE_SWIZZLE_R, gl.GL_TEXTURE_SWIZZLE_G, gl.GL_TEXTURE_SWIZZLE_B)
        for name, offset in zip(names, BYTE_ORDER[fmt], strict=True):
            gl.glTexParameteri(gl.GL_TEXTURE_2D, name, _CHANNELS[offset])
        gl.glTexParameteri(gl.GL_TEXTURE_2D, gl.GL_TEXTURE_SWIZZLE_A, gl.GL_ONE)

    def resize(self, size: Size) -> None:
        """Makes room for pixels of this size; the content is undefined after a change. MemoryError: there is none."""
        if size == self.size:
            return
        self.bind()
        kind = (gl.GL_RGBA, gl.GL_UNSIGNED_BYTE)
        gl.glTexImage2D(gl.GL_TEXTURE_2D, 0, gl.GL_RGBA8, *size, 0, *kind, None)
        self.size = size if gl.glGetError() == gl.GL_NO_ERROR else (0, 0)
        if self.size != size:
            raise MemoryError(f"no graphics memory for {size[0]}x{size[1]}")

    def upload(self, pixels: Pixels, x: int = 0, y: int = 0) -> None:
        """Replaces a rectangle that begins at (x, y). Rows may lie apart by any multiple of a pixel."""
        if pixels.strides[0] % 4 or pixels.strides[1:] != (4, 1):
            pixels = np.ascontiguousarray(pixels)
        self.bind()
        gl.glPixelStorei(gl.GL_UNPACK_ROW_LENGTH, pixels.strides[0] // 4)
        address = ctypes.c_void_p(pixels.ctypes.data)
        shape = (pixels.shape[1], pixels.shape[0])
        gl.glTexSubImage2D(gl.GL_TEXTURE_2D, 0, x, y, *shape, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, address)
        gl.glPixelStorei(gl.GL_UNPACK_ROW_LENGTH, 0)

    def show(self, pixels: Pixels) -> None:
        """Becomes exactly these pixels."""
        self.resize((pixels.shape[1], pixels.shape[0]))
        self.upload(pixels)

    def read(self) -> Pixels:
        """The bytes as uploaded, a copy."""
        pixels: Pixels = np.empty((self.size[1], self.size[0], 4), np.uint8)
        self.bind()
        gl.glGetTexImage(gl.GL_TEXTURE_2D, 0, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, ctypes.c_void_p(pixels.ctypes.data))
        return pixels


class Renderer:
    """One window's textures and its shader program."""

    def __init__(self) -> None:
        self._program = ShaderProgram(Shader(_VERTEX, "vertex"), Shader(_FRAGMENT, "fragment"))
        self._vertices = ctypes.c_uint()
        gl.glGenVertexArrays(1, self._vertices)
        limit = ctypes.c_int()
        gl.glGetIntegerv(gl.GL_MAX_TEXTURE_SIZE, limit)
        self._largest = limit.value
        self._picture, self._cursor = Texture(), Texture()
        self._format: int | None = None
        self._panels: dict[str, Texture] = {}
        self._window: Size = (1, 1)

    @property
    def size(self) -> Size | None:
        """The size of the picture that is there to be drawn, or None."""
        return self._picture.size if self._format is not None else None

    def upload(self, picture: Picture) -> None:
        """Takes a frame's damage over; its memory is not read later. MemoryError: too large for the graphics driver."""
        if max(picture.size) > self._largest:
            raise MemoryError(f"the graphics driver has pictures of up to {self._largest}x{self._largest}")
        self._picture.resize(picture.size)
        if picture.format != self._format:
            self._picture.set_format(picture.format)
            self._format = picture.format
        for rect in picture.damage:
            part = picture.pixels[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
            self._picture.upload(part, rect.x, rect.y)

    def forget(self) -> None:
        """There is no picture any more."""
        self._format = None

    def set_cursor(self, pixels: Pixels) -> None:
        """The cursor's premultiplied pixels."""
        self._cursor.show(pixels)

    def set_panel(self, name: str, pixels: Pixels) -> None:
        """A text panel's premultiplied pixels."""
        self._panels.setdefault(name, Texture()).show(pixels)

    def set_linear(self, linear: bool) -> None:
        """How picture and cursor are scaled: linear or nearest."""
        self._picture.set_linear(linear)
        self._cursor.set_linear(linear)

    def read(self) -> Pixels:
        """The picture as R G B 255, a copy. Only with a picture there."""
        assert self._format is not None
        return to_rgba(self._picture.read(), self._format)

    def begin(self, window: Size, empty: bool) -> None:
        """Starts a new drawing. window: framebuffer pixels; empty: nothing but panels will come."""
        self._window = window
        gl.glViewport(0, 0, *window)
        gl.glClearColor(*(_BACKGROUND if empty else (0.0, 0.0, 0.0, 1.0)))
        gl.glClear(gl.GL_COLOR_BUFFER_BIT)
        gl.glDisable(gl.GL_DEPTH_TEST)
        gl.glEnable(gl.GL_BLEND)
        gl.glBlendFunc(gl.GL_ONE, gl.GL_ONE_MINUS_SRC_ALPHA)
        gl.glActiveTexture(gl.GL_TEXTURE0)
        gl.glBindVertexArray(self._vertices)
        self._program.use()

    def draw_picture(self, box: Box) -> None:
        """The picture over this part of the window."""
        self._draw(self._picture, box)

    def draw_cursor(self, box: Box, clip: Box) -> None:
        """The cursor, clipped to a box of whole pixels."""
        gl.glEnable(gl.GL_SCISSOR_TEST)
        bottom = self._window[1] - int(clip.y + clip.height)
        gl.glScissor(int(clip.x), bottom, int(clip.width), int(clip.height))
        self._draw(self._cursor, box)
        gl.glDisable(gl.GL_SCISSOR_TEST)

    def draw_panel(self, name: str, across: float, down: float, margin: int = 12) -> None:
        """A panel: across and down from 0 (left, top) to 1 (right, bottom), margin pixels from the edges."""
        texture = self._panels[name]
        room = [self._window[axis] - texture.size[axis] - 2 * margin for axis in (0, 1)]
        corner = (margin + max(0, round(room[0] * across)), margin + max(0, round(room[1] * down)))
        self._draw(texture, Box(*corner, *texture.size))

    def _draw(self, texture: Texture, box: Box) -> None:
        width, height = self._window
        left, right = box.x * 2 / width - 1, (box.x + box.width) * 2 / width - 1
        top, bottom = 1 - box.y * 2 / height, 1 - (box.y + box.height) * 2 / height
        texture.bind()
        self._program["box"] = (left, top, right, bottom)
        gl.glDrawArrays(gl.GL_TRIANGLE_STRIP, 0, 4)
