"""A viewer's frames: the core sends them and reads their answers; everything else is left to the caller."""

import os
import time
from enum import IntEnum
from typing import Any

from backend._core import ffi, lib
from backend.region import Region


class Next(IntEnum):
    """What is left to do."""

    DONE = lib.VG_FEED_DONE
    """Nothing, now."""
    SENT = lib.VG_FEED_SENT
    """Nothing: a frame went out."""
    MODE = lib.VG_FEED_MODE
    """SCANOUT (``mode_sent``), then the frame."""
    IMAGE = lib.VG_FEED_IMAGE
    """IMAGE (``image_sent``), then the frame."""
    NEWS = lib.VG_FEED_NEWS
    """All sinks are to be told what changed: an image was given back."""
    OTHER = lib.VG_FEED_OTHER
    """``packet`` is no answer to a frame."""


class Feed:
    """The frames of one viewer. BlockingIOError: its socket is full; another OSError: it is gone.

    Args:
        core: the ``vg_device``.
        socket: descriptor of its SOCK_SEQPACKET connection; the caller's.
        num_scanouts: how many it was told of.
    """

    def __init__(self, core: Any, socket: int, num_scanouts: int) -> None:
        self._device = core
        self._core = ffi.new("vg_feed *", {"socket": socket, "num_scanouts": num_scanouts})
        self._packet = ffi.new("uint8_t[]", lib.VG_FEED_PACKET)
        self._size = ffi.new("uint32_t *")
        for scanout in range(num_scanouts):
            self.look(scanout)

    def add(self, scanout: int, damage: Region) -> int:
        """Notes a new frame or generation, and sends the frame if nothing else has to be said before."""
        return _checked(lib.vg_feed_add(self._device, self._core, scanout, damage.core))

    def send(self, scanout: int) -> int:
        """Sends the newest frame if there is one to send."""
        return _checked(lib.vg_feed_send(self._device, self._core, scanout))

    def read(self) -> int:
        """Reads one packet, if there is one, and deals with it unless it is an ``OTHER``."""
        return _checked(lib.vg_feed_read(self._device, self._core, self._packet, self._size))

    @property
    def packet(self) -> bytes:
        """The last one that was read; empty when the viewer has left."""
        return bytes(ffi.buffer(self._packet, self._size[0]))

    def look(self, scanout: int) -> None:
        """There may be something to send, though nothing changed."""
        self._core.scanouts[scanout].dirty = 1

    def mode_sent(self, scanout: int, generation: int, width: int, height: int) -> None:
        """SCANOUT went out: the next frame is new as a whole."""
        state = self._core.scanouts[scanout]
        state.generation = generation
        state.damage.count = 0
        lib.vg_region_add(ffi.addressof(state, "damage"), [(0, 0, width, height)], 1)

    def image_sent(self, image: int) -> None:
        """IMAGE went out."""
        self._core.known[image % lib.VG_FEED_KNOWN] = image

    def holds_longer_than(self, seconds: float) -> bool:
        """Whether a frame has been unanswered for so long."""
        before = time.monotonic_ns() - int(seconds * 1e9)
        return any(state.held and state.held_since < before for state in self._scanouts())

    def close(self) -> None:
        """Gives back every image (``publish`` afterwards) and leaves the socket alone."""
        self._core.socket = -1
        for state in self._scanouts():
            if state.held:
                lib.vg_image_release(self._device, state.held)
                state.held = 0

    def _scanouts(self) -> Any:
        return self._core.scanouts[0 : self._core.num_scanouts]


def _checked(status: int) -> int:
    if status < 0:
        raise OSError(-status, os.strerror(-status))
    return status
