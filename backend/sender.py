"""A thread that sends an image's rows over a stream socket, so that the event loop need not."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from backend._core import ffi, lib

HEADER_SIZE = 32
"""Bytes of a message's header."""


class Message(NamedTuple):
    """``header`` (HEADER_SIZE bytes), and ``size`` bytes of the job's file from ``offset`` on."""

    header: bytes
    offset: int
    size: int


class Sender:
    """The thread, from now until ``close``.

    While it is ``busy`` nobody else sends over the socket: what there is to say is posted, and goes out between two
    messages. ``refresh`` brings the attributes up to date.

    Args:
        socket: a stream socket's descriptor; the caller's.
        queue_limit: bytes in the socket's queue, up to which a message is begun.

    Raises:
        OSError: there is no thread to be had.
    """

    def __init__(self, socket: int, queue_limit: int) -> None:
        core = lib.vg_sender_new(socket, queue_limit)
        if core == ffi.NULL:
            raise OSError("no thread to send pictures with")
        self._core = ffi.gc(core, lib.vg_sender_free)
        self._state = ffi.new("vg_sender_state *")

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
        """Whether a job runs, and reads from its file."""
        return bool(self._state.has_job)

    @property
    def posted(self) -> int:
        """Bytes that wait to be sent: what was posted, and what is left of a message of a job that was cancelled."""
        return int(self._state.posted)

    @property
    def busy(self) -> bool:
        """Whether the socket is the thread's."""
        return self.has_job or self.posted > 0

    def begin(self, file: int, messages: Sequence[Message]) -> None:
        """Begins a job; there is none.

        Raises:
            OSError: the socket is of no use any more, or no memory.
        """
        made = ffi.new("vg_send_message[]", [(tuple(m.header), m.offset, m.size) for m in messages])
        _check(lib.vg_sender_begin(self._core, file, made, len(messages)))
        self._state.has_job = 1

    def post(self, data: bytes) -> None:
        """Whole messages, sent before the job's next one. Raises OSError."""
        _check(lib.vg_sender_post(self._core, data, len(data)))
        self._state.posted += len(data)

    def cancel(self) -> None:
        """Ends the job before its next message; its file is not read any more afterwards."""
        lib.vg_sender_cancel(self._core)
        lib.vg_sender_status(self._core, self._state)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
