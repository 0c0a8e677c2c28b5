"""``--trace FILE``: the session's side. The C core writes the records; ``vhost-gpu-trace`` reads them."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from backend._core import lib
from protocol.trace import TraceHeader

NAME = "{name}"
"""Stands for the session's name in the file's path."""

_log = logging.getLogger("vhost_gpu.trace")


class TraceFile:
    """A trace that is being written.

    Args:
        core: the device's C core.
        path: of the file; an older one with this name is replaced, not written to: its session may live.
        name: the session's.

    Raises:
        OSError: the file can't be made.
    """

    def __init__(self, core: Any, path: str, name: str) -> None:
        self._core = core
        self.path = path.replace(NAME, name)
        self._fd = _create(self.path)
        os.write(self._fd, TraceHeader(time.time_ns(), time.monotonic_ns()).encode())
        lib.vg_trace_start(core, self._fd)

    def close(self) -> None:
        """The end of the trace; says in the log when it ended before."""
        if self._fd < 0:
            return
        error = lib.vg_trace_stop(self._core)
        if error:
            _log.error("the trace %s is not whole: %s", self.path, os.strerror(error))
        os.close(self._fd)
        self._fd = -1


def start(core: Any, path: str, name: str) -> TraceFile | None:
    """A trace, or None with the reason in the log: the session goes on without."""
    try:
        trace = TraceFile(core, path, name)
    except OSError as error:
        _log.error("no trace: %s: %s", error.filename or path, error.strerror)
        return None
    _log.info("every command is written to %s", trace.path)
    return trace


def _create(path: str) -> int:
    """A new file. What guests draw is nobody else's business: only its owner may read it."""
    beside = f"{path}.{os.getpid()}"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.rename(beside, path)
    except OSError:
        os.close(fd)
        os.unlink(beside)
        raise
    return fd
