"""The VMM's end of the display socket, read by a thread of C (``core/display.c``)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.vhost_user_gpu import DisplayFeature, DisplayInfoReply, EdidReply, ProtocolFeaturesReply
from protocol.virtio_gpu import DisplayOne, Rect
from vhost_gpu.bench._loop import ffi, lib
from vhost_gpu.guest.display import VmmDisplay, plain_edid


@dataclass(frozen=True, slots=True)
class Drawn:
    """What has come over the socket so far."""

    messages: int
    updates: int
    pixel_bytes: int
    cursor_updates: int
    cursor_moves: int
    violations: int


class DrainedDisplay(VmmDisplay):
    """A display that takes everything as fast as QEMU would and keeps the pictures to itself.

    One thread serves each socket until its other end closes.
    """

    def __init__(self, modes: Sequence[tuple[int, int]] = ((1280, 800),)) -> None:
        super().__init__(modes, features=1 << DisplayFeature.EDID)
        self._state = ffi.new("vb_display *")
        outputs = tuple(DisplayOne(Rect(0, 0, width, height)) for width, height in modes)
        self._replies = [
            ffi.from_buffer("uint8_t[]", message.encode())
            for message in (
                ProtocolFeaturesReply(self.features),
                DisplayInfoReply(outputs),
                EdidReply(plain_edid()),
            )
        ]
        state = self._state
        state.features_reply, state.info_reply, state.edid_reply = self._replies
        state.features_size, state.info_size, state.edid_size = map(len, self._replies)
        self._thread: threading.Thread | None = None
        self._ours: socket.socket | None = None

    def open(self) -> socket.socket:
        """Ends the present socket and begins a new one; returns the end to be given to the device."""
        self.close()
        self._ours, theirs = socket.socketpair()
        self._state.fd = self._ours.fileno()
        self.opened += 1
        self._thread = threading.Thread(target=lib.vb_display_run, args=(self._state,), daemon=True)
        self._thread.start()
        return theirs

    def close(self) -> None:
        """Closes the present socket, and waits for its thread."""
        if self._ours is None or self._thread is None:
            return
        self._ours.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._ours.close()
        self._ours = self._thread = None

    def drawn(self) -> Drawn:
        """The counts now."""
        state = self._state
        return Drawn(
            state.messages,
            state.updates,
            state.pixel_bytes,
            state.cursor_updates,
            state.cursor_moves,
            state.violations,
        )
