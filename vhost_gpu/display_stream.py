"""The display socket's outgoing half: whole messages only, and pixels by reference where that can be.

Pixels that lie in one piece in an image's memfd go to the kernel by reference (sendfile), from a thread of their own:
nothing is copied on this side, the VMM's read copies out of the image's own pages. Such an image must stay as it is
until the VMM has read them, so it is held; the count of bytes that the socket still queues tells when that is.
"""

import array
import asyncio
import fcntl
import socket
import termios
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.screens import Image, Screens
from backend.sender import Message, Sender

COPIED_MESSAGE = 128 * 1024
"""Pixel bytes of one message, at most, when they are copied (or one row)."""
MAX_HOLD_SECONDS = 1.0
"""How long a VMM may take to read an image that the guest's next frames wait for."""
_SENT_MESSAGE = 512 * 1024
_SEND_BUFFER = 1024 * 1024
_SLACK = 32 * 1024
_FIRST_LOOK_SECONDS = 0.001


@dataclass(slots=True)
class _Lent:
    """An image that queued bytes refer to, until the VMM has read the stream up to ``end``."""

    image: int
    end: int
    since: float


class DisplayStream:
    """Sends messages over a non-blocking stream socket.

    Args:
        loop: the session's event loop.
        connection: the socket; the caller's.
        screens: whose images are sent.
        on_news: called when an image is out, and when there is room again while one is not; ``refresh`` is due then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        screens: Screens,
        on_news: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._screens = screens
        self._on_news = on_news
        self._sender: Sender | None = None
        """From the first image on."""
        self._rest = b""
        self._sent = 0
        self._lent: deque[_Lent] = deque()
        self._look: asyncio.TimerHandle | None = None
        self._queued = array.array("i", [0])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        size = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        self.message_size = max(COPIED_MESSAGE, min(_SENT_MESSAGE, size // 2))
        """Pixel bytes of one message, at most, when they go by reference (or one row)."""
        # Never less than what the kernel calls writable (a quarter), or the loop would spin until the VMM reads. Where
        # buffers are so small, a message may go in parts.
        self._room = max(size // 4, size - max(self.message_size, 2 * COPIED_MESSAGE) - _SLACK)

    def close(self) -> None:
        """Gives back what is held, before the socket closes. The queued bytes are nobody's any more."""
        if self._sender is not None:
            self._loop.remove_reader(self._sender)
            self._sender.close()
            self._sender = None
        if self._look is not None:
            self._look.cancel()
            self._look = None
        while self._lent:
            self._screens.release(self._lent.popleft().image)

    @property
    def sent(self) -> int:
        """Bytes that the socket has taken, as of ``refresh``."""
        return self._sent + (self._sender.sent if self._sender is not None else 0)

    def refresh(self) -> None:
        """Takes note of how far the thread is. Raises OSError: the VMM is gone."""
        if self._sender is not None:
            self._sender.refresh()

    @property
    def busy(self) -> bool:
        """Whether the thread sends: ``on_news`` tells of the end, not the socket."""
        return self._sender is not None and self._sender.busy

    @property
    def has_image(self) -> bool:
        """Whether an image's rows are going out."""
        return self._sender is not None and self._sender.has_job

    @property
    def has_room(self) -> bool:
        """Whether the largest message would be taken whole. (A copied byte may cost the socket two of its buffer.)"""
        if self._sender is not None and self._sender.busy:
            return self._sender.posted == 0
        return self._queue_length() <= self._room

    @property
    def has_rest(self) -> bool:
        """Whether the last message is not out to its end."""
        return bool(self._rest)

    def send_rest(self) -> None:
        """Goes on with a message that the socket did not take whole. Raises OSError."""
        self.send([self._rest])

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """Sends a message. Should the socket take less than all of it, the rest goes out before anything else.

        While an image goes out, between two messages of that.

        Raises:
            OSError: the VMM is gone.
        """
        if self._sender is not None and self._sender.busy:
            self._sender.post(b"".join(parts))
            return
        try:
            sent = self._socket.sendmsg(parts, (), socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            sent = 0
        self._sent += sent
        whole = b"".join(parts) if sent < sum(map(len, parts)) else b""
        self._rest = whole[sent:]

    def send_image(self, image: Image, messages: Sequence[Message]) -> None:
        """Begins to send messages whose pixels are an image's, by reference; there is no other image going out.

        The caller holds the image, and passes the hold on by ``lend`` when all is out.

        Raises:
            OSError: the VMM is gone.
        """
        if self._sender is None:
            self._sender = Sender(self._socket.fileno(), self._room)
            self._loop.add_reader(self._sender, self._on_news)
        self._sender.begin(image.fd, messages)

    def stop_image(self) -> None:
        """What is not out yet of an image will not be sent, but for the rest of a message: its pixels as they are."""
        if self._sender is not None:
            self._sender.cancel()

    def lend(self, image: int) -> None:
        """Takes over the caller's hold of an image: it ends when the VMM has read all that was sent until now."""
        waiting = len(self._rest) + (self._sender.posted if self._sender is not None else 0)
        self._lent.append(_Lent(image, self.sent + waiting, self._loop.time()))
        self._look_later(_FIRST_LOOK_SECONDS)

    def release_read(self) -> bool:
        """Gives images back that the VMM has read; whether there were any (then ``screens.publish`` is due)."""
        if not self._lent:
            return False
        read = self.sent - self._queue_length()
        before = len(self._lent)
        while self._lent and self._lent[0].end <= read:
            self._screens.release(self._lent.popleft().image)
        return len(self._lent) < before

    def relieve(self) -> None:
        """Gives images back that the VMM has not read for long.

        What it reads late may be torn then; the caller sends all of it again.
        """
        now = self._loop.time()
        while self._lent and now - self._lent[0].since > MAX_HOLD_SECONDS:
            self._screens.release(self._lent.popleft().image)

    def _queue_length(self) -> int:
        """Bytes that the VMM has not read, and some more: the kernel counts its own overhead."""
        fcntl.ioctl(self._socket, termios.TIOCOUTQ, self._queued)
        return self._queued[0]

    def _look_later(self, delay: float) -> None:
        if self._look is None:
            self._look = self._loop.call_later(delay, self._look_now, delay)

    def _look_now(self, delay: float) -> None:
        """The kernel does not tell when a queue has run empty. A VMM that reads at all has soon done so."""
        self._look = None
        released = self.release_read()
        if self._lent and delay < MAX_HOLD_SECONDS:
            self._look_later(delay * 2)
        if released:
            self._screens.publish()
