"""The command line inside the guest: scripts/guest/guest-agent at the other end of a serial port."""

from __future__ import annotations

import base64
import itertools
import socket
import time
from pathlib import Path

_LONGEST_REQUEST = 4000  # what the guest's terminal layer takes without losing bytes


class CommandFailed(Exception):
    """A command in the guest ended with another status than 0."""


class Agent:
    """Runs shell commands in the guest, one at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._buffer = b""
        self._ids = itertools.count(1)

    def _line(self, deadline: float, doing: str) -> str:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"guest: no answer to {doing}")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise TimeoutError(f"guest: no answer to {doing}") from None
            if not data:
                raise EOFError("QEMU closed the guest's serial port")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def wait_ready(self, timeout: float) -> None:
        """Returns when the agent has started (once for every boot)."""
        deadline = time.monotonic() + timeout
        while not self._line(deadline, "boot").endswith("@@ready"):
            pass

    def run(self, command: str, timeout: float = 60) -> str:
        """Output of a shell command (both streams); CommandFailed unless its status is 0."""
        number = next(self._ids)
        self.send(command, number)
        deadline = time.monotonic() + timeout
        while True:
            words = self._line(deadline, command).split()
            if words[:2] != ["@@reply", str(number)]:
                continue
            output = base64.b64decode(words[3]).decode(errors="replace") if len(words) > 3 else ""
            if words[2] != "0":
                raise CommandFailed(f"{command}: status {words[2]}\n{output}")
            return output

    def send(self, command: str, number: int = 0) -> None:
        """Starts a command whose answer nobody waits for (a reboot)."""
        request = f"{number} {base64.b64encode(command.encode()).decode()}\n".encode()
        if len(request) > _LONGEST_REQUEST:
            raise ValueError(f"command too long for the guest's serial line: {len(request)} bytes")
        self._socket.sendall(request)

    def close(self) -> None:
        self._socket.close()
