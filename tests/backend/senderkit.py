"""A picture on a device, a sender, and its peer, who reads when it is told to."""

import os
import select
import socket

from backend.region import Rect, Region
from backend.screens import Frame, Screens
from backend.sender import Sender
from protocol.vhost_user_gpu import RequestDecoder, Update
from tests.backend.devicekit import B8G8R8X8, OK, RAM_SIZE, Device

WIDTH, HEIGHT = 512, 512
STRIDE = WIDTH * 4
WHOLE = Rect(0, 0, WIDTH, HEIGHT)
QUEUE_LIMIT = 100_000


class Picture:
    """Noise of WIDTH x HEIGHT on scanout 0, or a part of it."""

    def __init__(self, format_: int = B8G8R8X8, place: Rect = WHOLE) -> None:
        self.device = Device()
        self.noise = os.urandom(STRIDE * HEIGHT)
        self.device.ram[: len(self.noise)] = self.noise
        assert len(self.noise) <= RAM_SIZE
        assert self.device.create(1, WIDTH, HEIGHT, format_) == OK
        assert self.device.attach(1) == OK
        assert self.device.transfer(1, tuple(WHOLE)) == OK
        assert self.device.set_scanout(0, 1, tuple(place)) == OK
        self.screens = Screens(self.device.dev)

    @property
    def frame(self) -> Frame:
        return self.screens.frame(0)

    def draw(self) -> None:
        """Another frame, of the same pixels."""
        assert self.device.transfer(1, tuple(WHOLE)) == OK
        assert self.device.flush(1, tuple(WHOLE)) == OK

    def rows(self, rect: Rect) -> bytes:
        """A rectangle's pixels as they are, in image coordinates."""
        starts = ((rect.y + row) * STRIDE + rect.x * 4 for row in range(rect.height))
        return b"".join(self.noise[start : start + rect.width * 4] for start in starts)

    def close(self) -> None:
        self.device.__exit__(None, None, None)


def without_x(pixels: bytes) -> bytes:
    """As the copied ones are: X is 0."""
    masked = bytearray(pixels)
    masked[3::4] = bytes(len(masked) // 4)
    return bytes(masked)


class SenderKit(Picture):
    """The same with a sender."""

    def __init__(self, format_: int = B8G8R8X8, place: Rect = WHOLE) -> None:
        super().__init__(format_, place)
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.peer.settimeout(10)
        self.sender = Sender(self.device.dev, self.ours.fileno(), QUEUE_LIMIT)
        self._decoder = RequestDecoder()

    def begin(self, *rects: Rect, size: tuple[int, int] | None = None) -> int:
        """Begins a job of those, all of the frame if none."""
        frame, region = self.frame, Region()
        for rect in rects or [Rect(0, 0, frame.width, frame.height)]:
            region.add(rect)
        return self.sender.begin(0, frame, region, size or (frame.width, frame.height))

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.peer.recv(size - len(data))
        return data

    def updates(self, pixels: int) -> list[Update]:
        """Reads messages until they make so many pixels."""
        found: list[Update] = []
        while sum(m.width * m.height for m in found) < pixels:
            for message in self._decoder.feed(self.peer.recv(1 << 16)):
                assert isinstance(message, Update)
                found.append(message)
        return found

    def wait_idle(self) -> None:
        self.sender.refresh()
        while self.sender.busy:
            assert select.select([self.sender], [], [], 10)[0]
            self.sender.refresh()

    def cancel(self) -> None:
        """Until the job has ended; what is left of its message may not be out."""
        self.sender.cancel()
        self.sender.refresh()
        while self.sender.has_job:
            assert select.select([self.sender], [], [], 10)[0]
            self.sender.refresh()

    def close(self) -> None:
        self.sender.close()
        self.ours.close()
        self.peer.close()
        super().close()


def places(messages: list[Update]) -> list[Rect]:
    return [Rect(m.x, m.y, m.width, m.height) for m in messages]
