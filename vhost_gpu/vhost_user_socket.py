"""The vhost-user connection on the event loop: bytes and descriptors in, requests handled, replies out."""

import array
import asyncio
import logging
import os
import socket
from collections.abc import Callable

from backend._core import lib
from protocol import vhost_user as vu
from protocol.errors import PeerError

_MESSAGES_PER_TURN = 64
_ACK_FAILED = 1

_log = logging.getLogger("vhost_gpu.vhost_user")

Handle = Callable[[vu.Message], vu.Payload | None]


class VhostUserSocket:
    """Serves the VMM's requests in order.

    Args:
        loop: the session's event loop.
        connection: the connected stream socket; owned from here on.
        handle: runs one request and returns the payload of its reply; raises PeerError.
        on_closed: called once with the reason ("" for a clean end) when the connection is over.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        handle: Handle,
        on_closed: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._handle = handle
        self._on_closed = on_closed
        self._decoder = vu.Decoder()
        self._out = bytearray()
        self._closed = False
        connection.setblocking(False)
        loop.add_reader(connection, self._readable)

    def close(self, reason: str = "") -> None:
        """Closes the connection; descriptors of a half received message too."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        for fd in self._decoder.take_fds():
            os.close(fd)
        self._socket.close()
        self._on_closed(reason)

    def _readable(self) -> None:
        lib.vg_hang_pat()
        try:
            for _ in range(_MESSAGES_PER_TURN):
                if self._closed or self._out or not self._read_some():
                    return
        except PeerError as error:
            self.close(str(error))
        except OSError as error:
            self.close(f"connection lost: {error}")

    def _read_some(self) -> bool:
        """Reads no further than the message at hand, so that descriptors stay with theirs. False: nothing there."""
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                self._decoder.wants(), socket.CMSG_SPACE(vu.MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return False
        fds = _descriptors(ancillary)
        if not data:
            for fd in fds:
                os.close(fd)
            self.close("" if self._decoder.idle else "connection ended inside a message")
            return False
        if flags & socket.MSG_CTRUNC:
            for fd in fds:
                os.close(fd)
            raise PeerError(f"more than {vu.MAX_FDS} descriptors with one message")
        message = self._decoder.feed(data, fds)
        if message is not None:
            self._serve(message)
        return True

    def _serve(self, message: vu.Message) -> None:
        _log.debug("%r", message)
        try:
            payload = self._run(message)
        except PeerError as error:
            if not message.need_reply or message.request == vu.Request.GET_VRING_BASE:
                raise  # nobody asked, or the answer would be taken for something else
            _log.warning("request %r refused: %s", message.request, error)
            payload = vu.U64(_ACK_FAILED)
        if payload is None and message.need_reply:
            payload = vu.U64(0)
        if payload is not None:
            self._send(vu.encode_reply(message.request, payload))

    def _run(self, message: vu.Message) -> vu.Payload | None:
        try:
            return self._handle(message)
        except PeerError:
            raise
        except Exception as error:
            # The VMM may be waiting with its big lock held: it must not wait for our fault to go away.
            _log.exception("our fault: request %r failed", message.request)
            raise PeerError("internal error") from error

    def _send(self, data: bytes) -> None:
        self._out += data
        self._flush()
        if self._out:
            # A VMM waits for each reply, so this one is not reading: no further requests until it does.
            self._loop.remove_reader(self._socket)
            self._loop.add_writer(self._socket, self._writable)

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._out, socket.MSG_NOSIGNAL)
            del self._out[:sent]
        except (BlockingIOError, InterruptedError):
            pass

    def _writable(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self.close(f"connection lost: {error}")
            return
        if not self._out:
            self._loop.remove_writer(self._socket)
            self._loop.add_reader(self._socket, self._readable)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
