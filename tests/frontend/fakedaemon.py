"""A daemon's display socket as the tests need it: says what it is told to, and keeps what viewers answer."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from frontend.pixels import Pixels
from protocol.viewer import (
    CursorImage,
    CursorPos,
    Frame,
    FrameDone,
    Hello,
    Image,
    Message,
    Scanout,
    Welcome,
    decode_from_viewer,
    encode,
)
from protocol.virtio_gpu import Format, Rect

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
DEADLINE = 20.0


def memfd(data: bytes, seals: int = SEALS) -> int:
    """A memfd with this content, sealed."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data) if data else None
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


class SharedImage:
    """An image as the daemon has it: the test may write its pixels at any time."""

    def __init__(self, number: int, width: int, height: int, fmt: int = Format.B8G8R8X8_UNORM, pad: int = 0) -> None:
        self.number, self.width, self.height, self.format = number, width, height, fmt
        self.stride = (width + pad) * 4
        self.fd = memfd(bytes(self.stride * height))
        memory = np.memmap(f"/proc/self/fd/{self.fd}", np.uint8, "r+", shape=(height, self.stride))
        self.pixels: Pixels = memory[:, : width * 4].reshape(height, width, 4)

    def message(self) -> Image:
        return Image(self.number, self.stride * self.height, self.width, self.height, self.stride, self.format)


class FakeDaemon:
    """Listens; `accept` a viewer, then `send` to it and `expect` its answers. All waits end at a deadline."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen(4)
        self.listener.settimeout(DEADLINE)
        self.viewer: socket.socket | None = None
        self._sequence = 0
        self._generations: dict[int, int] = {}

    def close(self) -> None:
        """Gone, with its socket."""
        self.hang_up()
        self.listener.close()
        self.path.unlink(missing_ok=True)

    def hang_up(self) -> None:
        if self.viewer is not None:
            self.viewer.close()
            self.viewer = None

    def accept(self) -> Hello:
        """Waits for a viewer's connection and its HELLO."""
        self.hang_up()
        self.viewer, _ = self.listener.accept()
        self.viewer.settimeout(DEADLINE)
        hello = self.receive()
        assert isinstance(hello, Hello)
        return hello

    def welcome(self, scanouts: int = 1, session: str = "session-1") -> Hello:
        hello = self.accept()
        self.send(Welcome(scanouts, session))
        return hello

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        self.send_packet(encode(message), fds)

    def send_packet(self, packet: bytes, fds: Sequence[int] = ()) -> None:
        assert self.viewer is not None
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.viewer.sendmsg([packet], rights)

    def receive(self) -> Message:
        assert self.viewer is not None
        packet = self.viewer.recv(4096)
        if not packet:
            raise EOFError("the viewer is gone")
        return decode_from_viewer(packet)

    def image(self, image: SharedImage) -> None:
        self.send(image.message(), [image.fd])

    def mode(self, width: int, height: int, scanout: int = 0) -> None:
        self.send(Scanout(scanout, True, self._next_generation(scanout), width, height))

    def clear(self, scanout: int = 0) -> None:
        self.send(Scanout(scanout, False, self._next_generation(scanout), 0, 0))

    def _next_generation(self, scanout: int) -> int:
        self._generations[scanout] = self._generations.get(scanout, 0) + 1
        return self._generations[scanout]

    def frame(
        self,
        image: SharedImage,
        damage: Sequence[tuple[int, int, int, int]] | None = None,
        at: tuple[int, int] = (0, 0),
        scanout: int = 0,
        skipped: int = 0,
    ) -> int:
        """Sends a frame of the newest mode; damage None: the whole image. Returns its sequence."""
        self._sequence += 1
        rects = [Rect(*part) for part in damage or [(0, 0, image.width, image.height)]]
        self.send(
            Frame(
                scanout,
                image.format,
                self._generations.get(scanout, 0),
                self._sequence,
                time.monotonic_ns(),
                image.number,
                *at,
                skipped,
                tuple(rects),
            )
        )
        return self._sequence

    def expect_done(self, sequence: int, scanout: int = 0) -> None:
        """Waits until the viewer gave this frame back."""
        while True:
            message = self.receive()
            assert isinstance(message, FrameDone)
            if (message.scanout, message.sequence) == (scanout, sequence):
                return

    def show(self, image: SharedImage, scanout: int = 0) -> None:
        """A mode of the image's size with the image on it, seen through until the viewer has it."""
        self.image(image)
        self.mode(image.width, image.height, scanout)
        self.expect_done(self.frame(image, scanout=scanout), scanout)

    def cursor(self, bgra: bytes, hot: tuple[int, int] = (0, 0), scanout: int = 0) -> None:
        fd = memfd(bgra)
        self.send(CursorImage(scanout, *hot, True, 1), [fd])
        os.close(fd)

    def hide_cursor(self, scanout: int = 0) -> None:
        self.send(CursorImage(scanout, 0, 0, False, 1))

    def move_cursor(self, x: int, y: int, scanout: int = 0) -> None:
        self.send(CursorPos(scanout, x % 2**32, y % 2**32))
