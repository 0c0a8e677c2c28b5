"""Brings a window's back buffer to the screen: all of it at the next refresh, or with software OpenGL only parts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from pyglet.gl import lib

from protocol.virtio_gpu import Rect

_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software rasterizer")
_EXTENSION = "GLX_MESA_copy_sub_buffer"
_ARGUMENTS = (ctypes.c_void_p, ctypes.c_ulong, *[ctypes.c_int] * 4)


class Presenter:
    """One window's way to the screen.

    A graphics processor swaps buffers: painting is cheap there, and a swap is the only way to meet the refresh without
    tearing. Software OpenGL pays for every pixel and knows no refresh, so parts are copied and the back buffer stays
    (GLX_MESA_copy_sub_buffer: "the contents of the back buffer are not changed").
    """

    def __init__(self, window: Any) -> None:
        """window: a pyglet window whose context is current."""
        self._window = window
        software = window.context.get_info().get_renderer().lower().startswith(_SOFTWARE)
        known = window.context.config.glx_info.have_extension(_EXTENSION)
        self._copy: Callable[..., None] | None = None
        if software and known:
            link: Any = lib.link_GLX  # set when pyglet has seen the platform
            self._copy = link("glXCopySubBufferMESA", None, _ARGUMENTS)

    @property
    def keeps(self) -> bool:
        """Whether `show` leaves the back buffer as it is, so that painting parts is enough."""
        return self._copy is not None

    def show(self, parts: list[Rect]) -> None:
        """Shows parts of the back buffer, or all of it."""
        if self._copy is None:
            self.swap()
            return
        context, height = self._window.context, self._window.get_framebuffer_size()[1]
        display = ctypes.cast(context.x_display, ctypes.c_void_p)
        for part in parts:
            bottom = height - part.y - part.height
            self._copy(display, context.glx_window, part.x, bottom, part.width, part.height)

    def swap(self) -> None:
        """Shows all of the back buffer, whose content is undefined afterwards."""
        self._window.flip()
