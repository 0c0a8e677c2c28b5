"""A device's renderer: started on the core's render thread, its capability sets, what it has to say.

The renderer itself is a table of functions (``core/vg_renderer.h``): ``backend.renderer`` finds virglrenderer's, tests
bring their own.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backend._core import ffi, lib
from protocol.errors import ConfigError
from protocol.virtio_gpu_3d import Capset, CapsetInfo

MESSAGE: int = lib.VG_EVENT_MESSAGE
CONTEXT_ERROR: int = lib.VG_EVENT_CONTEXT_ERROR
QUEUE_BROKEN: int = lib.VG_EVENT_QUEUE_BROKEN
LOST: int = lib.VG_EVENT_LOST

_OFFERED = (Capset.VIRGL, Capset.VIRGL2)
_WHY_SIZE = 256


@dataclass(frozen=True, slots=True)
class Event:
    """What happened on the render thread (``vg_render_event``)."""

    kind: int
    """``MESSAGE``, ``CONTEXT_ERROR``, ``QUEUE_BROKEN`` or ``LOST``."""
    ctx_id: int
    """Of a CONTEXT_ERROR."""
    text: str
    lost: int
    """Events before this one that there was no room for."""


class Rendering:
    """The render thread of one device.

    Args:
        core: the ``vg_device``.
        ops: where the renderer's ``struct vg_renderer_ops`` is.
        render_node: path of the GPU's render node; None: the renderer's choice.

    Raises:
        ConfigError: the renderer can't be opened.
    """

    def __init__(self, core: Any, ops: int, render_node: str | None) -> None:
        self._core = core
        why = ffi.new("char[]", _WHY_SIZE)
        node = ffi.NULL if render_node is None else os.fsencode(render_node)
        if lib.vg_render_start(core, ffi.cast("void *", ops), node, why, _WHY_SIZE) < 0:
            raise ConfigError(f"no 3D: {ffi.string(why).decode(errors='replace')}")
        self.capsets = [info for capset in _OFFERED if (info := self._capset_info(capset)) is not None]
        """What GET_CAPSET_INFO tells, by index."""
        self._event = ffi.new("vg_render_event *")

    def fill_capset(self, capset_id: int) -> bytes | None:
        """The capability set of this id; None: there is none."""
        info = self._capset_info(capset_id)
        if info is None:
            return None
        data = ffi.new("uint8_t[]", info.capset_max_size)
        lib.vg_render_fill_capset(self._core, capset_id, data)
        return bytes(ffi.buffer(data))

    def news_fd(self) -> int:
        """Readable when there is something for the loop; the core's."""
        return lib.vg_render_news_fd(self._core)

    def events(self) -> Iterator[Event]:
        """Takes note of news; everything that was said since last asked."""
        lib.vg_render_clear_news(self._core)
        event = self._event
        while lib.vg_render_take_event(self._core, event):
            yield Event(event.kind, event.ctx_id, ffi.string(event.text).decode(errors="replace"), event.lost)

    def take_request(self, request: Any) -> bool:
        """Whether there was a command for the loop: it is in ``request`` (a ``vg_request *``) then."""
        return bool(lib.vg_render_take_request(self._core, request))

    def pause(self, *, settle: bool = False) -> None:
        """Stops the thread between two commands; ``settle``: when all that was executed is given back."""
        lib.vg_render_pause(self._core, settle)

    def resume(self) -> None:
        """Goes on, and looks at the queue anew."""
        lib.vg_render_resume(self._core)

    @property
    def lost(self) -> bool:
        """Whether the renderer was given up."""
        return bool(lib.vg_render_lost(self._core))

    def close(self) -> None:
        """Ends the thread."""
        lib.vg_render_stop(self._core)

    def _capset_info(self, capset_id: int) -> CapsetInfo | None:
        version, size = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        if lib.vg_render_capset(self._core, capset_id, version, size) < 0:
            return None
        return CapsetInfo(capset_id, version[0], size[0])
