"""The display socket's outgoing half: whole messages only, and pictures from a thread of their own.

Pixels that lie in one piece in an image's memfd go to the kernel by reference (sendfile): nothing is copied on this
side, the VMM's read copies out of the image's own pages. Such an image must stay as it is until the VMM has read them,
so it is held; the count of bytes that the socket still queues tells when that is.
"""

import array
import asyncio
import fcntl
import socket
import termios
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backend.region import Region
from backend.screens import Frame, Screens
from backend.sender import COPIED_AT_ONCE, Sender

MAX_HOLD_SECONDS = 1.0
"""How long a VMM may take to read an image that the guest's next frames wait for."""
_SEND_BUFFER = 1024 * 1024
_SLACK = 32 * 1024
_FIRST_LOOK_SECONDS = 0.001


@dataclass(slots=True)
class _Lent:
    """An image that queued bytes refer to, until the VMM has read the stream up to ``end``."""

    image: int
    end: int
    since: float


@dataclass(slots=True)
class _Picture:
    """What goes out now; its image is held."""

    scanout: int
    image: int
    since: float
    given_up: bool = False


class DisplayStream:
    """Sends messages over a non-blocking stream socket.

    Args:
        loop: the session's event loop.
        connection: the socket; the caller's.
        screens: whose images are sent.
        on_news: called when a picture is out, when there is room again while one is not, and when one may have been
            read; ``refresh`` is due then.
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
        self._picture: _Picture | None = None
        self._rest = b""
        self._sent = 0
        self._lent: deque[_Lent] = deque()
        self._look: asyncio.TimerHandle | None = None
        self._queued = array.array("i", [0])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        size = connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        # Never less than what the kernel calls writable (a quarter), or the loop would spin until the VMM reads.
        self._room = max(size // 4, size - 2 * COPIED_AT_ONCE - _SLACK)
        self._sender = Sender(screens.core, connection.fileno(), self._room)
        self._closed = False
        loop.add_reader(self._sender, on_news)

    def close(self) -> None:
        """Gives back what is held, before the socket closes. The queued bytes are nobody's any more."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sender)
        self._sender.close()
        self._end_look()
        if self._picture is not None:
            self._screens.release(self._picture.image)
            self._picture = None
        while self._lent:
            self._screens.release(self._lent.popleft().image)

    @property
    def sent(self) -> int:
        """Bytes that the socket has taken, as of ``refresh``."""
        return self._sent + self._sender.sent

    def refresh(self) -> bool:
        """Takes note of how far the thread and the VMM are.

        Returns:
            Whether images were given back: then ``screens.publish`` is due.

        Raises:
            OSError: the VMM is gone.
        """
        self._sender.refresh()
        ended = self._picture is not None and not self._sender.has_job
        if ended:
            self._end_picture()
        released = self._release_read() or ended
        if ended:
            self._look_soon()
        return released

    @property
    def busy(self) -> bool:
        """Whether the thread sends: ``on_news`` tells of the end, not the socket."""
        return self._sender.busy

    @property
    def has_picture(self) -> bool:
        """Whether a picture goes out, as of ``refresh``."""
        return self._picture is not None

    @property
    def has_room(self) -> bool:
        """Whether what is copied would be taken whole. (Each byte may cost the socket two of its buffer.)"""
        if self._sender.busy:
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

        While a picture goes out, between two messages of that.

        Raises:
            OSError: the VMM is gone.
        """
        if self._sender.busy:
            self._sender.post(b"".join(parts))
            return
        try:
            sent = self._socket.sendmsg(parts, (), socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            sent = 0
        self._sent += sent
        whole = b"".join(parts) if sent < sum(map(len, parts)) else b""
        self._rest = whole[sent:]

    def send_picture(self, scanout: int, frame: Frame, damage: Region, size: tuple[int, int]) -> int:
        """Begins to send what has changed in a frame; no other picture goes out.

        Args:
            scanout: the VMM's number of it.
            frame: what it shows; its image is shown or held now.
            damage: relative to the scanout.
            size: of the scanout as the VMM knows it.

        Returns:
            How many pixels that are; nothing goes out if none.

        Raises:
            OSError: the VMM is gone.
        """
        self._screens.hold(frame.image)
        self._picture = _Picture(scanout, frame.image, self._loop.time())
        pixels = self._sender.begin(scanout, frame, damage, size)
        if not pixels:
            self._screens.release(frame.image)
            self._picture = None
        return pixels

    def _end_picture(self) -> None:
        """Gives its image back, at once or when the VMM has read it."""
        assert self._picture is not None
        image, self._picture = self._picture.image, None
        if self._sender.by_reference:
            self._lent.append(_Lent(image, self.sent, self._loop.time()))
        else:
            self._screens.release(image)

    def relieve(self) -> int | None:
        """Gives images back that the VMM has not read for long. What it reads late may be torn then.

        A picture's own is given back when the thread has put the rest of its message by, as ``on_news`` will tell.

        Returns:
            The scanout of a picture that is given up now, and not sent to its end: all of it is to be sent again.
        """
        now = self._loop.time()
        while self._lent and _is_over(self._lent[0].since, now):
            self._screens.release(self._lent.popleft().image)
        picture = self._picture
        if picture is None or picture.given_up or not _is_over(picture.since, now):
            return None
        picture.given_up = True
        self._sender.cancel()
        return picture.scanout

    def _release_read(self) -> bool:
        """Whether there were any."""
        if not self._lent:
            return False
        read = self.sent - self._queue_length()
        before = len(self._lent)
        while self._lent and self._lent[0].end <= read:
            self._screens.release(self._lent.popleft().image)
        return len(self._lent) < before

    def _queue_length(self) -> int:
        """Bytes that the VMM has not read, and some more: the kernel counts its own overhead."""
        fcntl.ioctl(self._socket, termios.TIOCOUTQ, self._queued)
        return self._queued[0]

    def _look_soon(self) -> None:
        """The kernel does not tell when a queue has run empty. A VMM that reads at all has soon done so."""
        self._end_look()
        self._look_later(_FIRST_LOOK_SECONDS)

    def _look_later(self, delay: float) -> None:
        if self._look is None and self._lent and delay < MAX_HOLD_SECONDS:
            self._look = self._loop.call_later(delay, self._look_now, delay)

    def _look_now(self, delay: float) -> None:
        self._look = None
        self._on_news()
        self._look_later(delay * 2)

    def _end_look(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None


def _is_over(since: float, now: float) -> bool:
    return now - since > MAX_HOLD_SECONDS
