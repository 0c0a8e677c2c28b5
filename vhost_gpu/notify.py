"""sd_notify(3): readiness, status text and watchdog, where systemd asked for them."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """Sends state to ``$NOTIFY_SOCKET``; does nothing without one. Takes the variables out of the environment.

    ``watchdog_interval``: seconds between two ``alive()`` that systemd wants, ``None`` without a watchdog.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        self.watchdog_interval = _watchdog_interval(environ)
        self._status = ""
        self._socket: socket.socket | None = None
        if address[:1] not in ("/", "@"):
            return
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(1.0)  # READY=1 must not be lost, and the manager is quick

    def ready(self, status: str) -> None:
        self._status = status
        self._send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """Sends the text if it is another one than the last."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stopping")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if self._socket is not None:
            # A manager that is gone or overrun is no reason to stop serving: the next state follows.
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)


def _watchdog_interval(environ: MutableMapping[str, str]) -> float | None:
    """Half of ``WATCHDOG_USEC`` in seconds, when it is meant for this process (sd_watchdog_enabled(3))."""
    usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2e6
