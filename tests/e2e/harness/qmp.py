"""QEMU's machine protocol over a unix socket: commands one at a time, events kept until waited for."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any


class QmpError(Exception):
    """QEMU refused a command."""


class Qmp:
    """One QMP connection. Every call blocks, up to timeout seconds."""

    def __init__(self, path: Path, timeout: float = 60) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")
        self._events: list[dict[str, Any]] = []
        self._read()  # the greeting
        self.command("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        line = self._file.readline()
        if not line:
            raise EOFError("QEMU closed its monitor")
        message: dict[str, Any] = json.loads(line)
        return message

    def command(self, name: str, **arguments: Any) -> Any:
        """Runs a command; argument names have _ where QMP has -."""
        request = {"execute": name, "arguments": {key.replace("_", "-"): value for key, value in arguments.items()}}
        self._socket.sendall(json.dumps(request).encode())
        while True:
            message = self._read()
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                raise QmpError(f"{name}: {message['error']['desc']}")
            else:
                return message["return"]

    def wait_event(self, name: str, timeout: float = 30) -> dict[str, Any]:
        """The next event of this name that nobody has taken yet."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self._events:
                if event["event"] == name:
                    self._events.remove(event)
                    return event
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no {name} event within {timeout} s")
            self._events.append(self._read())

    def close(self) -> None:
        self._file.close()
        self._socket.close()
