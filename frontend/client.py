"""The viewer protocol's client: one connection to a daemon's display socket, made again when it breaks.

Nothing here waits: the owner watches `fileno()` for reading and calls `receive()`, and calls `connect()` when
`retry_in` seconds have passed without a connection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

from frontend.screens import Screens
from protocol.errors import ConfigError, PeerError
from protocol.viewer import (
    MAX_NAME,
    MAX_PACKET,
    VERSION,
    Error,
    ErrorCode,
    Hello,
    Message,
    Welcome,
    decode_from_daemon,
    encode,
)

FIRST_RETRY = 0.2
LAST_RETRY = 1.0
"""Seconds between attempts to connect: doubled from the first to the last."""
BATCH = 64
"""Packets read before the owner gets a turn again."""
MAX_FDS = 4
"""Descriptors taken from a packet; one is the most that belongs there."""

_NO_SOCKET = (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, errno.EINTR)


class VersionError(Exception):
    """The daemon speaks another version of the protocol: trying again won't help."""


class Client:
    """A connection to a daemon that comes back. `screens` holds what it shows."""

    def __init__(self, path: str, session: str = "") -> None:
        """path: the display socket; session: its name, empty for the newest. ConfigError: a name that can't be one."""
        _check_name(session)
        self._path = path
        self._session = session
        self._socket: socket.socket | None = None
        self._attempts = 0
        self._welcomed = False
        self.screens = Screens(self._send)
        """What the session shows."""
        self.reason = f"no daemon at {path}"
        """Why there is no picture, in words for a person; empty while connected to a session."""

    def fileno(self) -> int:
        """The connection's descriptor, or -1."""
        return self._socket.fileno() if self._socket is not None else -1

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    @property
    def retry_in(self) -> float:
        """Seconds to wait before the next `connect()`."""
        return min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(self._attempts, 8))

    def connect(self) -> bool:
        """Tries to connect, without waiting. ConfigError: the path can never be a daemon's display socket."""
        self._attempts += 1
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            self._refused(error)
            return False
        self._socket = connection
        self.reason = "no answer yet"
        self._send(Hello(self._session))
        return True

    def receive(self) -> bool:
        """Reads what has come. False: the connection is closed, `reason` says why. VersionError: see there."""
        try:
            for packet, fds in self._packets():
                try:
                    self._handle(decode_from_daemon(packet, fds), fds)
                finally:
                    _close_all(fds)
                if not self.connected:
                    break
        except PeerError as error:
            self.close(f"the daemon broke the protocol: {error}")
        return self.connected

    def close(self, reason: str = "closed") -> None:
        """Ends the connection and forgets what it showed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.reason = reason
        self.screens.reset()

    def _refused(self, error: OSError) -> None:
        if self._welcomed:  # it was right once: whatever is wrong now may pass
            self.reason = f"no daemon at {self._path}"
            return
        if error.errno == errno.EPROTOTYPE:
            raise ConfigError(f"{self._path} is not a display socket (is it the vhost-user socket?)") from None
        if error.errno not in _NO_SOCKET:
            raise ConfigError(f"can't connect to {self._path}: {error.strerror or error}") from None
        self.reason = f"no daemon at {self._path}"

    def _packets(self) -> Iterator[tuple[bytes, list[int]]]:
        """Packets with their descriptors, which the caller closes."""
        for _ in range(BATCH):
            if self._socket is None:
                return
            try:
                packet, ancillary, flags, _ = self._socket.recvmsg(
                    MAX_PACKET, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError as error:
                self.close(f"connection lost: {error.strerror}")
                return
            fds = _descriptors(ancillary)
            if not packet:
                _close_all(fds)
                self.close("the daemon is gone")
                return
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                _close_all(fds)
                raise PeerError("packet too large")
            yield packet, fds

    def _handle(self, message: Message, fds: list[int]) -> None:
        if isinstance(message, Error):
            self._on_error(message)
            return
        if isinstance(message, Welcome):
            self._check_version(message.version)
            self.reason = ""
            self._attempts = 0
            self._welcomed = True
        self.screens.handle(message, fds)

    def _on_error(self, message: Error) -> None:
        if message.code == ErrorCode.VERSION:
            raise VersionError(f"the daemon refuses protocol version {VERSION}: {message.text}")
        self.close(message.text or f"error {message.code}")

    def _check_version(self, version: int) -> None:
        if version != VERSION:
            raise VersionError(f"the daemon speaks protocol version {version}, this viewer {VERSION}")

    def _send(self, message: Message) -> None:
        """Sends, or shuts the connection down for `receive` to find it ended.

        A daemon that reads so little that our few small answers pile up is stuck, so nothing waits for it.
        """
        if self._socket is None:
            return
        try:
            self._socket.send(encode(message))
        except OSError:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


def _check_name(session: str) -> None:
    try:
        size = len(session.encode())
    except UnicodeEncodeError:
        raise ConfigError("the session's name is not UTF-8") from None
    if size > MAX_NAME:
        raise ConfigError(f"session name longer than {MAX_NAME} bytes: {session}")


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.extend(struct.unpack(f"{len(data) // 4}i", data[: len(data) // 4 * 4]))
    return fds


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
