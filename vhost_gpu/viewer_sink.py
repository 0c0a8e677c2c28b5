"""Sink 2: one viewer of a session. Frames go in shared memory; the socket carries descriptors, damage and news only.

What a viewer still has to learn is kept as state (which scanouts changed, which damage added up), never as a queue of
messages: so a viewer that does not read costs nothing, and when it reads again it gets the newest.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from backend._core import lib
from backend.feed import Feed, Next
from backend.region import Region
from backend.screens import Cursor, Screens
from protocol import viewer as vp
from protocol.errors import PeerError
from vhost_gpu.sealed import sealed_memfd

MAX_HOLD_SECONDS = 1.0
"""How long a viewer may read a frame while the guest's next ones wait for its image."""
_SEND_BUFFER = 32 * 1024
"""Bytes that may wait unread: some dozen packets, so that a viewer that hangs keeps few descriptors in flight."""

_log = logging.getLogger("vhost_gpu.viewer")


@dataclass(slots=True)
class _CursorState:
    """What this viewer knows of a scanout's cursor."""

    dirty: bool = True
    generation: int = 0
    position: tuple[int, int] = (0, 0)


class ViewerSink:
    """Feeds one viewer, from ``start`` on.

    Args:
        loop: the session's event loop.
        connection: the viewer's SOCK_SEQPACKET connection, HELLO already read; owned from here on.
        screens: what is shown.
        session: its name.
        num_scanouts: how many the viewer is told of.
        on_closed: called once when the viewer is gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        screens: Screens,
        session: str,
        num_scanouts: int,
        on_closed: Callable[["ViewerSink"], None],
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._screens = screens
        self._on_closed = on_closed
        self._welcome: vp.Welcome | None = vp.Welcome(num_scanouts, session)
        self._feed = Feed(screens.core, connection.fileno(), num_scanouts)
        self._cursors = [_CursorState() for _ in range(num_scanouts)]
        self._known_images: set[int] = set()
        self._gone_images: list[int] = []
        self._writing = False
        self._closed = False
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def start(self) -> None:
        """Begins. The viewer may have left already: ``on_closed`` is called in here then."""
        self._loop.add_reader(self._socket, self._readable)
        self._screens.publish()  # what is not told yet is no news to somebody who gets the whole picture
        self._screens.sinks.append(self)
        self._pump()

    def close(self, error: vp.Error | None = None) -> None:
        """Ends the connection, with a last word if there is one; holds are given back."""
        if self._closed:
            return
        self._closed = True
        if error is not None:
            self._try_send(error)
        self._screens.sinks.remove(self)
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._feed.close()
        self._loop.call_soon(self._screens.publish)
        self._on_closed(self)

    def end_session(self) -> None:
        """Ends the connection because the session ends."""
        self.close(vp.Error(vp.ErrorCode.SESSION_ENDED, "the session has ended"))

    # ---- Sink

    def scanout_changed(self, scanout: int, damage: Region) -> None:
        """Adds damage; the frame goes out as soon as the last one was answered."""
        if scanout >= len(self._cursors):
            return
        try:
            if self._feed.add(scanout, damage) > Next.SENT:
                self._pump()
        except OSError:
            self._send_later()

    def cursor_changed(self, scanout: int) -> None:
        """Notes a change of picture, position or visibility."""
        if scanout < len(self._cursors):
            self._cursors[scanout].dirty = True
            self._pump()

    def images_retired(self, images: list[int]) -> None:
        """Has the viewer unmap images that it was given."""
        gone = self._known_images.intersection(images)
        if gone:
            self._known_images -= gone
            self._gone_images.extend(gone)
            self._pump()

    def relieve(self) -> None:
        """Drops a viewer that holds a frame for too long while the guest's frames wait."""
        if self._feed.holds_longer_than(MAX_HOLD_SECONDS):
            _log.info("a viewer that stopped answering is dropped")
            self.close(vp.Error(vp.ErrorCode.TOO_SLOW, "the viewer stopped answering"))

    # ---- from the viewer

    def _readable(self) -> None:
        """One packet: a viewer sends one a frame, and is heard again in this loop's next turn if there are more."""
        lib.vg_hang_pat()
        try:
            self._read_packet()
        except PeerError as error:
            _log.warning("a viewer is dropped: %s", error)
            self.close(vp.Error(vp.ErrorCode.PROTOCOL, str(error)[: vp.MAX_TEXT // 4]))
        except BlockingIOError:  # to the next frame
            self._send_later()
        except OSError:
            self.close()

    def _read_packet(self) -> None:
        left = self._feed.read()
        if left == Next.OTHER:
            self._refuse(self._feed.packet)
        elif left == Next.NEWS:
            # A frame that waited for this image is out now. Its damage is told before it is sent.
            self._screens.publish()
        if left > Next.SENT:
            self._pump()

    def _refuse(self, packet: bytes) -> None:
        """Whatever it is: answers to frames are dealt with."""
        if not packet:
            self.close()
            return
        message = vp.decode_from_viewer(packet)
        raise PeerError(f"unexpected {type(message).__name__}")

    # ---- to the viewer

    def _pump(self) -> None:
        """Sends what can be sent now; comes back when the socket has room."""
        if self._closed:
            return
        try:
            blocked = not self._send_news()
        except OSError:
            self.close()
            return
        if blocked != self._writing and not self._closed:
            self._writing = blocked
            if blocked:
                self._loop.add_writer(self._socket, self._pump)
            else:
                self._loop.remove_writer(self._socket)

    def _send_news(self) -> bool:
        """False when the socket is full."""
        if self._closed:
            return True
        if self._welcome is not None:
            if not self._try_send(self._welcome):
                return False
            self._welcome = None
        while self._gone_images:
            if not self._try_send(vp.ImageGone(self._gone_images[-1])):
                return False
            self._gone_images.pop()
        return all(self._send_cursor(i, cursor) and self._send_frame(i) for i, cursor in enumerate(self._cursors))

    def _send_frame(self, index: int) -> bool:
        try:
            while (left := self._feed.send(index)) > Next.SENT:
                if not (self._send_mode(index) if left == Next.MODE else self._send_image(index)):
                    return False
        except BlockingIOError:
            self._publish_later()
            return False
        return True

    def _send_later(self) -> None:
        """The core could not send a frame: this meets the reason again, and deals with it."""
        self._publish_later()
        self._pump()

    def _publish_later(self) -> None:
        """An image was held for a moment: a frame that waited for it may be out."""
        self._loop.call_soon(self._screens.publish)

    def _send_mode(self, index: int) -> bool:
        frame = self._screens.frame(index)
        mode = vp.Scanout(index, bool(frame.resource_id), frame.generation, frame.width, frame.height)
        if not self._try_send(mode):
            return False
        self._feed.mode_sent(index, frame.generation, frame.width, frame.height)
        return True

    def _send_image(self, index: int) -> bool:
        """Of the frame that is shown now, held meanwhile."""
        frame = self._screens.hold_shown(index)
        if not frame.resource_id:
            return True
        try:
            return self._tell_image(frame.image)
        finally:
            self._screens.release(frame.image)
            self._publish_later()

    def _tell_image(self, number: int) -> bool:
        if number not in self._known_images:
            image = self._screens.image(number)
            message = vp.Image(image.id, image.size, image.width, image.height, image.stride, image.format)
            if not self._try_send(message, image.fd):
                return False
            self._known_images.add(number)
        self._feed.image_sent(number)
        return True

    def _send_cursor(self, index: int, state: _CursorState) -> bool:
        if not state.dirty:
            return True
        cursor = self._screens.cursor(index)
        if cursor.generation != state.generation:
            if not self._send_cursor_image(index, cursor):
                return False
            state.generation = cursor.generation
        position = (cursor.x, cursor.y)
        if position != state.position and not self._try_send(vp.CursorPos(index, *position)):
            return False
        state.position = position
        state.dirty = False
        return True

    def _send_cursor_image(self, index: int, cursor: Cursor) -> bool:
        message = vp.CursorImage(index, cursor.hot_x, cursor.hot_y, cursor.visible, cursor.generation)
        if not cursor.visible:
            return self._try_send(message)
        fd = sealed_memfd("vhost-gpu-cursor", cursor.pixels)
        try:
            return self._try_send(message, fd)
        finally:
            os.close(fd)

    def _try_send(self, message: vp.Message, fd: int = -1) -> bool:
        """One packet, whole or not at all. False when the socket is full; OSError when the viewer is gone."""
        try:
            socket.send_fds(self._socket, [vp.encode(message)], [fd] if fd >= 0 else [], socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            if not self._closed:
                raise
        return True


def refuse(connection: socket.socket) -> None:
    """Ends a connection that is one too many."""
    connection.setblocking(False)
    with contextlib.suppress(OSError), connection:
        connection.send(vp.encode(vp.Error(vp.ErrorCode.BUSY, "too many viewers")), socket.MSG_NOSIGNAL)
