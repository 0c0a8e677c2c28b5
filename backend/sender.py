"""A thread that sends pictures to the VMM's display, so that the event loop need not."""

import os
from typing import Any

from backend._core import ffi, lib
from backend.region import Region
from backend.screens import Frame

COPIED_AT_ONCE: int = lib.VG_UPDATE_BUFFER
"""Bytes of messages that are copied at a time, at most."""


class Sender:
    """The thread, from now until ``close``.

    While it is ``busy`` nobody else sends over the socket: what there is to say is posted, and goes out between two
    messages. ``refresh`` brings the attributes up to date.

    Args:
        core: the ``vg_device``.
        socket: the descriptor of a stream socket of the vhost-user-gpu protocol; the caller's.
        queue_limit: bytes in the socket's queue, up to which a message is begun.

    Raises:
        OSError: there is no thread to be had.
    """

    def __init__(self, core: Any, socket: int, queue_limit: int) -> None:
        sender = lib.vg_sender_new(socket, queue_limit)
        if sender == ffi.NULL:
            raise OSError("no thread to send pictures with")
        self._device = core
        self._core = ffi.gc(sender, lib.vg_sender_free)
        self._state = ffi.new("vg_sender_state *")
        self._place = ffi.new("vg_place *")

    def close(self) -> None:
        """Ends the thread, in the middle of whatever it does."""
        ffi.release(self._core)

    def fileno(self) -> int:
        """A descriptor that is readable when a job has ended or what was posted is gone, until ``refresh``."""
        return int(lib.vg_sender_news_fd(self._core))

    def refresh(self) -> None:
        """Learns how things are.

        Raises:
            OSError: the socket is of no use any more.
        """
        lib.vg_sender_status(self._core, self._state)
        if self._state.error:
            raise OSError(self._state.error, os.strerror(self._state.error))

    @property
    def sent(self) -> int:
        """Bytes that the socket has taken from here."""
        return int(self._state.sent)

    @property
    def has_job(self) -> bool:
        """Whether a picture goes out: its image is read."""
        return bool(self._state.has_job)

    @property
    def by_reference(self) -> bool:
        """Whether the socket may still refer to the last job's image."""
        return bool(self._state.by_reference)

    @property
    def posted(self) -> int:
        """Bytes that wait to be sent: what was posted, and what is left of a message of a job that was cancelled."""
        return int(self._state.posted)

    @property
    def busy(self) -> bool:
        """Whether the socket is the thread's."""
        return self.has_job or self.posted > 0

    def begin(self, scanout: int, frame: Frame, damage: Region, size: tuple[int, int]) -> int:
        """Begins a job, while there is none: the damage of a frame whose image the caller holds.

        Args:
            scanout: the VMM's number of it.
            frame: what it shows.
            damage: relative to the scanout.
            size: of the scanout as the VMM knows it; there is no damage outside.

        Returns:
            How many pixels that are; there is no job if none.

        Raises:
            OSError: the socket is of no use any more, no memory, or no such image.
        """
        place = self._place
        place.scanout, place.x, place.y, place.width, place.height = scanout, frame.x, frame.y, *size
        pixels = _checked(lib.vg_sender_begin(self._core, self._device, frame.image, place, damage.core))
        self._state.has_job = pixels > 0
        return pixels

    def post(self, data: bytes) -> None:
        """Whole messages, sent before the job's next one. Raises OSError."""
        _checked(lib.vg_sender_post(self._core, data, len(data)))
        self._state.posted += len(data)

    def cancel(self) -> None:
        """Has the job end soon, before its next message, as ``refresh`` will tell; its image is read until then."""
        lib.vg_sender_cancel(self._core)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
