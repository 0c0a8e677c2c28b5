"""Paints parts of a window with OpenGL 3.3: the picture, and the cursor and text panels over it.

Damage goes from shared memory into the texture without a copy in Python. A picture at 1:1 is blitted, which software
OpenGL does as a copy of rows; only a scaled one is drawn. A renderer belongs to one window, whose context is current
during every call.
"""

from __future__ import annotations

import ctypes

from pyglet import gl
from pyglet.graphics.shader import Shader, ShaderProgram

from frontend.geometry import Box, Size, overlap
from frontend.look import Layer, Look, cover
from frontend.pixels import Picture, Pixels
from frontend.texture import Texture
from protocol.virtio_gpu import Rect

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
_BACKGROUND = (0.05, 0.055, 0.07, 1.0)
_BORDER = (0.0, 0.0, 0.0, 1.0)


class Renderer:
    """One window's textures and its shader program."""

    def __init__(self, has_alpha: bool) -> None:
        """has_alpha: whether the window's pixels have an alpha, which must end up opaque."""
        self._has_alpha = has_alpha
        self._program = ShaderProgram(Shader(_VERTEX, "vertex"), Shader(_FRAGMENT, "fragment"))
        self._vertices, self._source = ctypes.c_uint(), ctypes.c_uint()
        gl.glGenVertexArrays(1, self._vertices)
        gl.glGenFramebuffers(1, self._source)
        limit = ctypes.c_int()
        gl.glGetIntegerv(gl.GL_MAX_TEXTURE_SIZE, limit)
        self._largest = limit.value
        self._picture = Texture()
        self._layers: dict[str, Texture] = {}
        self._there = False
        self._window: Size = (1, 1)

    @property
    def size(self) -> Size | None:
        """The size of the picture that is there to be drawn, or None."""
        return self._picture.size if self._there else None

    def upload(self, picture: Picture) -> None:
        """Takes a frame's damage over; its memory is not read later. MemoryError: too large for the graphics driver."""
        if max(picture.size) > self._largest:
            raise MemoryError(f"the graphics driver has pictures of up to {self._largest}x{self._largest}")
        self._picture.prepare(picture.size, picture.format)
        self._picture.upload(picture.pixels, picture.damage)
        self._there = True

    def forget(self) -> None:
        """There is no picture any more."""
        self._there = False

    def set_layer(self, name: str, pixels: Pixels) -> None:
        """The premultiplied R G B A pixels of a layer."""
        if name not in self._layers:
            self._layers[name] = Texture()
        self._layers[name].show(pixels)

    def layer_size(self, name: str) -> Size:
        """Width and height of a layer that was set."""
        return self._layers[name].size

    def set_linear(self, linear: bool) -> None:
        """How picture and cursor are scaled: linear or nearest."""
        for texture in (self._picture, self._layers.setdefault("cursor", Texture())):
            texture.set_linear(linear)

    def read(self) -> Pixels:
        """The picture as R G B 255, a copy. Only with a picture there."""
        pixels = self._picture.read()
        pixels[..., 3] = 255
        return pixels

    def paint(self, look: Look, parts: list[Rect]) -> None:
        """Paints these parts of the window, each inside it, into the back buffer."""
        self._window = look.window
        gl.glViewport(0, 0, *look.window)
        gl.glBlendFunc(gl.GL_ONE, gl.GL_ONE_MINUS_SRC_ALPHA)
        gl.glActiveTexture(gl.GL_TEXTURE0)
        gl.glBindVertexArray(self._vertices)
        self._program.use()
        for part in parts:
            self._paint_part(look, part)
        gl.glDisable(gl.GL_SCISSOR_TEST)

    def _paint_part(self, look: Look, part: Rect) -> None:
        seen = overlap(part, cover(look.picture)) if look.picture is not None else None
        if seen != part:
            self._clear(part, _BACKGROUND if look.picture is None else _BORDER)
        if seen is not None and look.picture is not None:
            self._paint_picture(look.picture, seen)
        if self._has_alpha:
            gl.glColorMask(False, False, False, True)
            self._clear(part, _BORDER)
            gl.glColorMask(True, True, True, True)
        for layer in look.layers:
            self._paint_layer(layer, part)

    def _clear(self, part: Rect, colour: tuple[float, float, float, float]) -> None:
        self._scissor(part)
        gl.glClearColor(*colour)
        gl.glClear(gl.GL_COLOR_BUFFER_BIT)

    def _paint_picture(self, box: Box, part: Rect) -> None:
        if (box.width, box.height) == self._picture.size:
            self._blit(part, int(box.x), int(box.y))
        else:
            self._scissor(part)
            self._draw(self._picture, box)

    def _blit(self, part: Rect, left: int, top: int) -> None:
        """Copies a part of the picture, whose corner is at (left, top). A scissor would make Mesa draw instead."""
        gl.glDisable(gl.GL_SCISSOR_TEST)
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, self._source)
        place = (gl.GL_READ_FRAMEBUFFER, gl.GL_COLOR_ATTACHMENT0, gl.GL_TEXTURE_2D)
        gl.glFramebufferTexture2D(*place, self._picture.name, 0)
        x, y = part.x - left, part.y - top
        source = (x, y, x + part.width, y + part.height)
        above = self._window[1] - part.y
        target = (part.x, above, part.x + part.width, above - part.height)
        gl.glBlitFramebuffer(*source, *target, gl.GL_COLOR_BUFFER_BIT, gl.GL_NEAREST)
        gl.glBindFramebuffer(gl.GL_READ_FRAMEBUFFER, 0)

    def _paint_layer(self, layer: Layer, part: Rect) -> None:
        place = layer.place()
        seen = overlap(place, part) if place is not None else None
        if seen is None:
            return
        self._scissor(seen)
        gl.glEnable(gl.GL_BLEND)
        self._draw(self._layers[layer.name], layer.box)
        gl.glDisable(gl.GL_BLEND)

    def _scissor(self, part: Rect) -> None:
        gl.glEnable(gl.GL_SCISSOR_TEST)
        gl.glScissor(part.x, self._window[1] - part.y - part.height, part.width, part.height)

    def _draw(self, texture: Texture, box: Box) -> None:
        width, height = self._window
        left, right = box.x * 2 / width - 1, (box.x + box.width) * 2 / width - 1
        top, bottom = 1 - box.y * 2 / height, 1 - (box.y + box.height) * 2 / height
        texture.bind()
        self._program["box"] = (left, top, right, bottom)
        gl.glDrawArrays(gl.GL_TRIANGLE_STRIP, 0, 4)
