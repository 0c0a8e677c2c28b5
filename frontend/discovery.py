"""Finds running daemons by their display sockets, for a person who names none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

from protocol.errors import ConfigError

SUFFIX = ".display"
PROC_NET_UNIX = Path("/proc/net/unix")
_SEQPACKET = "0005"
_PATH_FIELD = 7


def display_socket(named: str | None) -> str:
    """The socket to use: the named one, else the only running daemon's. ConfigError: none or several."""
    if named is not None:
        return named
    found = find_sockets()
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError("no running vhost-gpu found; start one, or name its display socket (PATH.display)")
    listing = "".join(f"\n  {path}" for path in found)
    raise ConfigError(f"several vhost-gpu daemons are running, name one:{listing}")


def find_sockets(folders: Iterable[Path] | None = None, listeners: Path = PROC_NET_UNIX) -> list[str]:
    """Paths of display sockets that somebody listens on and we may connect to, sorted."""
    candidates = {path for folder in (_folders() if folders is None else folders) for path in _sockets_in(folder)}
    candidates.update(_listening(listeners))
    return sorted({_real(path) for path in candidates if _answers(path)})


def _folders() -> list[Path]:
    """Where daemons put their sockets unless told otherwise."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [*([Path(runtime) / "vhost-gpu"] if runtime else []), Path("/run/vhost-gpu")]


def _sockets_in(folder: Path) -> list[str]:
    try:
        return [str(path) for path in folder.glob(f"*{SUFFIX}")]
    except OSError:
        return []


def _listening(table: Path) -> list[str]:
    """Absolute paths of this network namespace's SOCK_SEQPACKET listeners with a display socket's name (proc(5))."""
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return []
    fields = (line.split(maxsplit=_PATH_FIELD) for line in lines)
    named = [row for row in fields if len(row) > _PATH_FIELD and row[4] == _SEQPACKET]
    return [row[_PATH_FIELD] for row in named if row[_PATH_FIELD].startswith("/") and row[_PATH_FIELD].endswith(SUFFIX)]


def _real(path: str) -> str:
    return os.path.realpath(path)


def _answers(path: str) -> bool:
    """Whether a connection is accepted. It is closed at once, before a HELLO."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            return True  # its queue of connections is full: somebody listens
        except OSError:
            return False
    return True
