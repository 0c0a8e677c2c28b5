"""What libraries write to standard error themselves, as lines of the log.

virglrenderer's parser of shaders quotes there what it does not understand, which is the guest's own text, in any bytes
and any amount. The log escapes it and bounds it, like everything that peers say.
"""

import asyncio
import faulthandler
import logging
import os
import sys

from backend._core import lib
from vhost_gpu.log import LimitedHandler

_log = logging.getLogger("vhost_gpu.render")
_CHUNK = 4096
_MAX_LINE = 512
_CHUNKS_A_TURN = 16


class StrayOutput:
    """From now on descriptor 2 is a pipe that the loop reads; the log and the last words go where they went.

    A writer never waits: what the pipe has no room for is lost, and so is what is in it when the process crashes.

    Args:
        loop: the running loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stderr = sys.stderr
        self._before = os.dup(2)
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.dup2(writer, 2)
        os.close(writer)
        sys.stderr = os.fdopen(self._before, "w", buffering=1, errors="backslashreplace", closefd=False)
        self._set_streams()
        faulthandler.enable(self._before)
        lib.vg_hang_report_to(self._before)
        self._line = b""
        loop.add_reader(self._reader, self._read)

    def close(self) -> None:
        """Reads what is left, and gives descriptor 2 back."""
        self._read()
        self._loop.remove_reader(self._reader)
        sys.stderr.flush()
        os.dup2(self._before, 2)
        sys.stderr = self._stderr
        self._set_streams()
        faulthandler.enable(2)
        lib.vg_hang_report_to(2)
        os.close(self._before)
        os.close(self._reader)

    def _set_streams(self) -> None:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, LimitedHandler):
                handler.setStream(sys.stderr)

    def _read(self) -> None:
        for _ in range(_CHUNKS_A_TURN):
            try:
                data = os.read(self._reader, _CHUNK)
            except BlockingIOError:
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[:_MAX_LINE]
        for line in lines:
            text = line[:_MAX_LINE].decode(errors="replace").strip()
            if text:
                _log.info("renderer: %s", text)
