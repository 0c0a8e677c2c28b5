"""A viewer that looks at no pixel (``core/viewer.c``): it answers frames at once, sixty times a second, or never."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from protocol.viewer import Hello, encode
from vhost_gpu.bench._loop import ffi, lib
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.target import Target

_FRAME_SECONDS = 5.0
_LOOK_SECONDS = 0.001


class Mode(IntEnum):
    """When it answers a frame."""

    PROMPT = lib.VB_VIEWER_PROMPT
    PACED = lib.VB_VIEWER_PACED
    STALLED = lib.VB_VIEWER_STALLED


@dataclass(frozen=True, slots=True)
class Seen:
    """What a viewer has got so far; ``latency``: seconds from flush to arrival, summed over the frames."""

    frames: int
    damage_pixels: int
    skipped: int
    errors: int
    latency: float


class Viewer:
    """One viewer, served by a thread of its own."""

    def __init__(self, connection: socket.socket, mode: Mode, rate: float) -> None:
        """Takes over a connection; ``rate``: answers a second of a paced one."""
        self._socket = connection
        self._state = ffi.new("vb_viewer *")
        self._state.fd = connection.fileno()
        self._state.mode = mode
        self._state.interval_ns = int(1e9 / rate)
        connection.send(encode(Hello()))
        self._thread = threading.Thread(target=lib.vb_viewer_run, args=(self._state,), daemon=True)
        self._thread.start()

    @classmethod
    @contextmanager
    def watch(cls, target: Target, mode: Mode = Mode.PROMPT, rate: float = 60.0) -> Iterator[Self]:
        """A viewer of the newest session, until leaving."""
        viewer = cls(target.connect_viewer(), mode, rate)
        try:
            yield viewer
        finally:
            viewer.close()

    def wait_frame(self) -> None:
        """Returns when the first frame has come. Raises BenchError when none does."""
        end = time.monotonic() + _FRAME_SECONDS
        while not self._state.frames:
            if self._state.errors or not self._thread.is_alive() or time.monotonic() > end:
                raise BenchError("the viewer was given no frame")
            time.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Closes the connection and waits for the thread."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def seen(self) -> Seen:
        """The counts now."""
        state = self._state
        return Seen(state.frames, state.damage_pixels, state.skipped, state.errors, state.latency_ns / 1e9)
