"""Viewer connections until a session has them: accepted, their HELLO read, routed by name, or kept in the lobby.

A viewer may say anything or nothing: it gets two seconds for its HELLO, and only so many may be undecided at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from protocol import viewer as protocol
from protocol.errors import PeerError
from vhost_gpu.sessions import Session

HELLO_TIMEOUT = 2.0  # seconds
MAX_PENDING = 64  # viewers whose HELLO is awaited; one more, and the oldest is dropped
MAX_LOBBY = 64  # viewers that wait for a session

_log = logging.getLogger("viewers")


@dataclass
class _Waiting:
    """A viewer nobody serves yet. ``hello`` is its first packet, empty while it is awaited."""

    sock: socket.socket
    hello: bytes = b""
    timer: asyncio.TimerHandle | None = None


class ViewerRouter:
    """Takes accepted viewer sockets (``add``) and hands each to the session it names.

    ``find_session(name)`` returns a living session, the newest for the empty name, or ``None``.
    """

    def __init__(self, find_session: Callable[[str], Session | None]) -> None:
        self._find_session = find_session
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, _Waiting] = {}
        self._lobby: dict[int, _Waiting] = {}

    @property
    def waiting(self) -> int:
        """Viewers in the lobby."""
        return len(self._lobby)

    def add(self, sock: socket.socket) -> None:
        """Owns the socket from here on."""
        if len(self._pending) >= MAX_PENDING:
            _log.warning("too many viewers without a hello: dropping the oldest")
            self._drop(next(iter(self._pending.values())))
        sock.setblocking(False)
        waiting = _Waiting(sock)
        self._pending[sock.fileno()] = waiting
        waiting.timer = self._loop.call_later(HELLO_TIMEOUT, self._refuse, waiting, "no hello in time")
        self._loop.add_reader(sock, self._readable, waiting)

    def session_started(self) -> None:
        """Lets the lobby in: a session has appeared."""
        for waiting in list(self._lobby.values()):
            self._route(waiting)

    def close(self) -> None:
        for waiting in [*self._pending.values(), *self._lobby.values()]:
            self._drop(waiting)

    def _readable(self, waiting: _Waiting) -> None:
        try:
            packet = waiting.sock.recv(protocol.MAX_PACKET)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            packet = b""
        if not packet:
            self._drop(waiting)
        elif waiting.hello:
            self._refuse(waiting, "spoke before it was welcomed")
        else:
            waiting.hello = packet
            self._route(waiting)

    def _route(self, waiting: _Waiting) -> None:
        try:
            hello = decode_hello(waiting.hello)
        except PeerError as error:
            self._refuse(waiting, str(error))
            return
        if hello.version != protocol.VERSION:
            text = f"version {hello.version} of the viewer protocol; this daemon speaks {protocol.VERSION}"
            self._refuse(waiting, text, protocol.ErrorCode.VERSION)
            return
        session = self._find_session(hello.session)
        if session is not None:
            self._forget(waiting)
            session.add_viewer(waiting.hello, waiting.sock)
            waiting.sock.close()
        elif hello.session:
            self._refuse(waiting, f"no session {hello.session!r}", protocol.ErrorCode.NO_SESSION)
        else:
            self._keep(waiting)

    def _keep(self, waiting: _Waiting) -> None:
        """Into the lobby; its socket stays watched, so that one that leaves is noticed."""
        fd = waiting.sock.fileno()
        if fd in self._lobby:
            return
        if len(self._lobby) >= MAX_LOBBY:
            self._refuse(waiting, "too many viewers wait for a guest", protocol.ErrorCode.BUSY)
            return
        self._cancel_timer(waiting)
        self._pending.pop(fd, None)
        self._lobby[fd] = waiting

    def _refuse(self, waiting: _Waiting, text: str, code: protocol.ErrorCode = protocol.ErrorCode.PROTOCOL) -> None:
        _log.warning("viewer refused: %s", text)
        with contextlib.suppress(OSError):  # gone, or not reading: closing says enough
            waiting.sock.send(protocol.encode(protocol.Error(code, text)), socket.MSG_NOSIGNAL)
        self._drop(waiting)

    def _drop(self, waiting: _Waiting) -> None:
        self._forget(waiting)
        waiting.sock.close()

    def _forget(self, waiting: _Waiting) -> None:
        fd = waiting.sock.fileno()
        self._loop.remove_reader(waiting.sock)
        self._cancel_timer(waiting)
        self._pending.pop(fd, None)
        self._lobby.pop(fd, None)

    def _cancel_timer(self, waiting: _Waiting) -> None:
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None


def decode_hello(packet: bytes) -> protocol.Hello:
    """Raises ``PeerError`` for any other packet."""
    message = protocol.decode_from_viewer(packet)
    if not isinstance(message, protocol.Hello):
        raise PeerError("the first message is not HELLO")
    return message
