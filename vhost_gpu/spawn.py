"""Starts session processes. Imports no asyncio: the first one is started before the supervisor has its loop."""

from __future__ import annotations

import contextlib
import os
import signal
import site
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from vhost_gpu.control import socketpair

CONTROL_FD = 3
# What systemd told the supervisor about itself is not the session's.
_PRIVATE_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass
class SessionProcess:
    """A child, not yet reaped, and our end of its control channel."""

    pid: int
    pidfd: int
    control: socket.socket

    def kill(self) -> None:
        """SIGKILL; the process stays to be reaped."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    @property
    def ended(self) -> bool:
        """Whether it has ended and waits to be reaped."""
        return os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def reap(self, wait: bool = False) -> int | None:
        """The exit code, or the negative number of the signal, once it has ended (else ``None``). Closes the pidfd."""
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | (0 if wait else os.WNOHANG))
        if result is None:
            return None
        os.close(self.pidfd)
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def module_command(module: str) -> list[str]:
    """A module as a program. ``-P``: what lies in the current directory is never imported; isolated as we are."""
    return [sys.executable, "-I" if sys.flags.isolated else "-P", "-m", module]


def session_command() -> list[str]:
    """The program of a session."""
    return module_command("vhost_gpu.session")


def spawn(command: Sequence[str]) -> SessionProcess:
    """Runs ``command --control-fd 3`` with nothing but standard streams (no input) and its control channel.

    It gets a process group of its own, so that Ctrl-C reaches the supervisor alone, and default signals. Raises
    ``OSError``.
    """
    ours, theirs = socketpair()
    with theirs:
        try:
            pid = _posix_spawn([*command, "--control-fd", str(CONTROL_FD)], theirs.fileno())
            return SessionProcess(pid, os.pidfd_open(pid), ours)
        except BaseException:
            ours.close()  # also the end of a child that did start
            raise


def _posix_spawn(arguments: list[str], control: int) -> int:
    return os.posix_spawn(
        arguments[0],
        arguments,
        child_environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, control, CONTROL_FD),
        ],
        setpgroup=0,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE),
    )


def child_environment() -> dict[str, str]:
    """Ours, without what is private, and with a path on which the child finds this very package."""
    environment = {name: value for name, value in os.environ.items() if name not in _PRIVATE_VARIABLES}
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if root not in site.getsitepackages():
        inherited = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = root + os.pathsep + inherited if inherited else root
    return environment


def seal_descriptors() -> None:
    """Makes every descriptor above 2 close-on-exec: whatever our parent left open is no session's business."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(fd, False)
