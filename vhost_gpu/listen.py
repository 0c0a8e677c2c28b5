"""The daemon's sockets: bound here, inherited from systemd, or handed over as a descriptor. Imports no asyncio.

A bound path is guarded by a lock (``PATH.lock``, held as long as the daemon lives), so that of two daemons that start
at once one gets it. A path left behind by a killed one is replaced, one that anybody listens on is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass

from protocol.errors import ConfigError

VHOST_USER = "vhost-user"
DISPLAY = "display"
_KINDS = {VHOST_USER: socket.SOCK_STREAM, DISPLAY: socket.SOCK_SEQPACKET}
_BACKLOG = 128
_FIRST_PASSED_FD = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


@dataclass
class Listener:
    """A listening socket; ``path`` and ``lock`` only where we made it ourselves."""

    sock: socket.socket
    path: str | None = None
    identity: tuple[int, int] | None = None  # device and inode of our path
    lock: int = -1

    def close(self) -> None:
        """Closes it and removes its path, if the path is still the one that we bound; idempotent."""
        self.sock.close()
        if self.path is None:
            return
        if _identity(self.path) == self.identity:
            _unlink(self.path)
        _unlink(self.path + ".lock")
        os.close(self.lock)
        self.path = None


def bind(kind: str, path: str) -> Listener:
    """Binds and listens, mode 0600 from the first moment; raises ``ConfigError``."""
    lock = _lock(path)
    sock = socket.socket(socket.AF_UNIX, _KINDS[kind])
    try:
        _remove_stale(path)
        _bind_private(sock, path)
        sock.listen(_BACKLOG)
    except BaseException as error:
        sock.close()
        _unlink(path + ".lock")
        os.close(lock)
        if isinstance(error, OSError):
            raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from error
        raise
    sock.setblocking(False)
    return Listener(sock, path, _identity(path), lock)


def _bind_private(sock: socket.socket, path: str) -> None:
    """The file's mode is the socket's own, less the umask (or a directory's default ACL): so both are set first."""
    os.fchmod(sock.fileno(), 0o600)
    umask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(umask)


def _lock(path: str) -> int:
    """An exclusive lock on ``path.lock``; raises ``ConfigError`` when a living daemon has it."""
    name = path + ".lock"
    while True:
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot listen on {path}: {name}: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise ConfigError(f"another vhost-gpu is listening on {path}") from error
        status = os.fstat(lock)
        if _identity(name) == (status.st_dev, status.st_ino):
            return lock
        os.close(lock)  # its last owner has just removed it: this lock guards nothing


def _remove_stale(path: str) -> None:
    """Removes a socket nobody listens on; raises ``ConfigError`` for anything else that is there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ConfigError(f"{path} exists and is not a socket")
    if _somebody_listens(path):
        raise ConfigError(f"another program is listening on {path}")
    _unlink(path)


def _somebody_listens(path: str) -> bool:
    """Whether a connection would meet anybody: all but "refused" means yes (a full backlog, another socket type)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    return code not in (errno.ECONNREFUSED, errno.ENOENT)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def display_path_beside(path: str) -> str:
    """The default display socket of a vhost-user socket: ``vm1.sock`` has ``vm1.display`` beside it."""
    for suffix in (".sock", ".socket"):
        if path.endswith(suffix) and os.path.basename(path) != suffix:
            return path.removesuffix(suffix) + ".display"
    return path + ".display"


def runtime_display_path(environ: MutableMapping[str, str] = os.environ) -> str:
    """Where the display socket goes when there is no vhost-user path (``--fd``); makes the directory.

    Raises ``ConfigError`` when there is no such place for this user.
    """
    base = environ.get("XDG_RUNTIME_DIR") or "/run"
    directory = os.path.join(base, "vhost-gpu")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"no place for a display socket: {directory}: {error.strerror}") from error
    return os.path.join(directory, f"{os.getpid()}.display")


def inherited(environ: MutableMapping[str, str] = os.environ) -> dict[str, Listener]:
    """The sockets systemd passed (sd_listen_fds(3)), by kind: by their names, else by their types.

    Takes the variables out of the environment. Raises ``ConfigError`` for sockets that we can't serve.
    """
    pid, count, names = (environ.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if not count or pid != str(os.getpid()):
        return {}
    if not count.isdecimal():
        raise ConfigError(f"LISTEN_FDS is {count!r}")
    listeners: dict[str, Listener] = {}
    fdnames = names.split(":")
    for index in range(int(count)):
        kind, sock = _inherited_socket(_FIRST_PASSED_FD + index, fdnames[index] if index < len(fdnames) else "")
        if kind in listeners:
            raise ConfigError(f"LISTEN_FDS passes two {kind} sockets")
        listeners[kind] = Listener(sock)
    return listeners


def _inherited_socket(fd: int, name: str) -> tuple[str, socket.socket]:
    sock = _adopt(fd, "LISTEN_FDS")
    kinds = [kind for kind, socktype in _KINDS.items() if socktype == sock.type]
    listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not kinds or not listening or (name in _KINDS and name not in kinds):
        sock.detach()
        raise ConfigError(f"LISTEN_FDS: descriptor {fd} ({name or 'no name'}) is not a listening socket of its type")
    return kinds[0], sock


def connection(fd: int) -> socket.socket:
    """The vhost-user connection of ``--fd``; raises ``ConfigError``."""
    sock = _adopt(fd, "--fd")
    if sock.type != socket.SOCK_STREAM or sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ConfigError(f"--fd: descriptor {fd} is not a connected stream socket")
    return sock


def _adopt(fd: int, source: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"{source}: descriptor {fd} is not a socket") from error
    if sock.family != socket.AF_UNIX:
        sock.detach()
        raise ConfigError(f"{source}: descriptor {fd} is not a Unix socket")
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock
