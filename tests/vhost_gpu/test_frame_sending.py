"""A frame's rectangles on the display socket: which bytes, in how many messages, and what is held meanwhile."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from backend.region import Rect
from backend.screens import Frame, Image
from backend.sender import Message
from protocol.vhost_user_gpu import DisplayEncoder, RequestDecoder, Update
from protocol.virtio_gpu import Format
from vhost_gpu.display_stream import COPIED_MESSAGE
from vhost_gpu.frame_sending import FrameSending

WIDTH, HEIGHT = 512, 512
STRIDE = WIDTH * 4
FRAME = Frame(1, 1, 0, 1, WIDTH, HEIGHT, 0, 0, Format.B8G8R8X8_UNORM, 7)


@dataclass
class FakeScreens:
    """One image, and who holds it."""

    shown: Image
    holds: int = 0

    def hold(self, image: int) -> None:
        assert image == self.shown.id
        self.holds += 1

    def release(self, image: int) -> None:
        assert image == self.shown.id
        self.holds -= 1

    def image(self, image: int) -> Image:
        assert image == self.shown.id
        return self.shown

    def read_xrgb(self, image: int, rect: Rect, pixels: memoryview) -> None:
        """Turned round, so that it can be told from pixels that were sent as they are."""
        pixels[:] = rows(self.image(image), rect)[::-1]


@dataclass
class FakeStream:
    """Sends into a buffer; notes how many calls it took."""

    sent: bytearray = field(default_factory=bytearray)
    calls: int = 0
    lent: list[int] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)
    message_size: int = 256 * 1024

    def send(self, parts: list[bytes | memoryview]) -> None:
        self.calls += 1
        self.sent += b"".join(parts)

    def send_image(self, image: Image, messages: Sequence[Message]) -> None:
        """Half at once, the rest when it is asked for."""
        assert not self.waiting
        self.calls += 1
        self.waiting = [message.header + os.pread(image.fd, message.size, message.offset) for message in messages]
        self.go_on((len(messages) + 1) // 2)

    def go_on(self, count: int) -> None:
        self.sent += b"".join(self.waiting[:count])
        del self.waiting[:count]

    @property
    def has_image(self) -> bool:
        return bool(self.waiting)

    def stop_image(self) -> None:
        self.waiting.clear()

    def lend(self, image: int) -> None:
        self.lent.append(image)


def rows(image: Image, rect: Rect) -> bytes:
    """A rectangle's pixels as they are in the image."""
    starts = ((rect.y + row) * image.stride + rect.x * 4 for row in range(rect.height))
    return b"".join(os.pread(image.fd, rect.width * 4, start) for start in starts)


class Kit:
    """An image, a stream, and what came out of it."""

    def __init__(self, fd: int, format_: Format = Format.B8G8R8X8_UNORM) -> None:
        self.image = Image(7, fd, WIDTH, HEIGHT, STRIDE, format_, STRIDE * HEIGHT)
        self.screens = FakeScreens(self.image)
        self.stream = FakeStream()

    def begin(self, rects: list[Rect], frame: Frame = FRAME) -> FrameSending:
        encoder = DisplayEncoder(1)
        encoder.scanout(0, frame.width, frame.height)
        return FrameSending(self.screens, self.stream, encoder, 0, frame, rects, 0.0)  # type: ignore[arg-type]

    def send(self, rects: list[Rect], frame: Frame = FRAME) -> list[Update]:
        """Sends it all; the messages."""
        buffer = memoryview(bytearray(COPIED_MESSAGE))
        sending = self.begin(rects, frame)
        while not sending.done:
            if self.stream.has_image:
                self.stream.go_on(1)
            else:
                sending.send_some(buffer)
        sending.finish()
        messages = RequestDecoder().feed(self.stream.sent)
        assert all(isinstance(message, Update) for message in messages)
        return messages  # type: ignore[return-value]


@pytest.fixture
def fd() -> Iterator[int]:
    made = os.memfd_create("image")
    os.write(made, os.urandom(STRIDE * HEIGHT))
    yield made
    os.close(made)


def covered(messages: list[Update]) -> list[Rect]:
    return [Rect(m.x, m.y, m.width, m.height) for m in messages]


def test_whole_rows_go_by_reference_and_are_lent(fd: int) -> None:
    kit = Kit(fd)
    messages = kit.send([Rect(0, 0, WIDTH, HEIGHT)])
    assert covered(messages) == [Rect(0, y, WIDTH, 128) for y in range(0, HEIGHT, 128)]
    assert b"".join(m.pixels for m in messages) == os.pread(fd, STRIDE * HEIGHT, 0)
    assert kit.stream.lent == [7]
    assert kit.screens.holds == 1  # the stream has it now


def test_parts_of_rows_are_copied_and_given_back_at_once(fd: int) -> None:
    kit = Kit(fd)
    rect = Rect(100, 50, 64, 64)
    (message,) = kit.send([rect])
    assert message.pixels == rows(kit.image, rect)[::-1]
    assert kit.stream.lent == []
    assert kit.screens.holds == 0


def test_other_formats_are_converted(fd: int) -> None:
    kit = Kit(fd, Format.R8G8B8A8_UNORM)
    (first, *_) = kit.send([Rect(0, 0, WIDTH, HEIGHT)])
    assert first.pixels == rows(kit.image, Rect(0, 0, WIDTH, first.height))[::-1]
    assert kit.stream.lent == []


def test_small_rectangles_share_one_call(fd: int) -> None:
    kit = Kit(fd)
    rects = [Rect(70 * i, 0, 64, 64) for i in range(7)]
    assert covered(kit.send(list(rects))) == rects
    assert kit.stream.calls == 1


def test_what_is_too_large_for_one_call_is_cut_between_rows(fd: int) -> None:
    kit = Kit(fd)
    messages = kit.send([Rect(1, 0, 500, HEIGHT)])
    assert kit.stream.calls == -(-500 * 4 * HEIGHT // COPIED_MESSAGE)
    assert sum(m.height for m in messages) == HEIGHT
    assert all(m.width == 500 for m in messages)


def test_both_ways_in_the_order_of_the_rectangles(fd: int) -> None:
    rects = [Rect(0, 0, 8, 8), Rect(0, 8, WIDTH, 16), Rect(8, 24, 8, 8)]
    kit = Kit(fd)
    assert covered(kit.send(list(rects))) == rects
    assert kit.stream.lent == [7]


def test_a_scanout_in_the_middle_of_its_image(fd: int) -> None:
    """The message's place is the scanout's, the pixels' the image's."""
    kit = Kit(fd)
    frame = replace(FRAME, x=128, y=64, width=200, height=100)
    (message,) = kit.send([Rect(10, 20, 30, 40)], frame)
    assert covered([message]) == [Rect(10, 20, 30, 40)]
    assert message.pixels == rows(kit.image, Rect(138, 84, 30, 40))[::-1]


def test_whole_rows_below_the_top_of_the_image(fd: int) -> None:
    kit = Kit(fd)
    frame = replace(FRAME, y=64, height=100)
    (message,) = kit.send([Rect(0, 20, WIDTH, 40)], frame)
    assert message.pixels == rows(kit.image, Rect(0, 84, WIDTH, 40))


def test_a_frame_that_is_given_up_before_anything_was_sent(fd: int) -> None:
    kit = Kit(fd)
    sending = kit.begin([Rect(0, 0, WIDTH, HEIGHT)])
    assert kit.screens.holds == 1
    assert not sending.done
    sending.finish()
    assert kit.screens.holds == 0


def test_a_frame_that_is_given_up_in_the_middle(fd: int) -> None:
    kit = Kit(fd)
    sending = kit.begin([Rect(0, 0, WIDTH, HEIGHT)])
    sending.send_some(memoryview(bytearray(COPIED_MESSAGE)))
    assert not sending.done
    sending.finish()
    assert not kit.stream.has_image
    assert kit.stream.lent == [7]  # what is out already was not read yet
