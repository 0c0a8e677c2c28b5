"""A viewer's frames, from the core's side of the socket."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from backend.feed import Feed, Next
from backend.region import Region
from backend.screens import Screens
from protocol import viewer as vp
from protocol.virtio_gpu import Rect
from tests.backend.devicekit import B8G8R8X8, OK, Device

SIDE = 64
WHOLE = (0, 0, SIDE, SIDE)
PLACE = (16, 8, 32, 32)


class Kit:
    """A picture on scanout 0, and a feed whose other end is ``peer``."""

    def __init__(self, device: Device, socket_: socket.socket, peer: socket.socket) -> None:
        self.device, self.socket, self.peer = device, socket_, peer
        self.screens = Screens(device.dev)
        self.feed = Feed(device.dev, socket_.fileno(), 2)
        assert device.create(1, SIDE, SIDE, B8G8R8X8) == OK
        assert device.attach(1) == OK
        assert device.set_scanout(0, 1, PLACE) == OK

        self.told = 0
        self.left = -1
        self.screens.publish()
        self.screens.sinks.append(self)

    def draw(self, rect: tuple[int, int, int, int] = WHOLE) -> int:
        """Another frame, which the feed hears of."""
        assert self.device.transfer(1, rect) == OK
        assert self.device.flush(1, rect) == OK
        return self.tell()

    def tell(self) -> int:
        """What the feed says to the news; images are told of."""
        self.left = -1
        self.screens.publish()
        if self.left == Next.IMAGE:
            self.told += 1
            self.feed.image_sent(self.screens.frame(0).image)
            self.left = self.feed.send(0)
        return self.left

    def ready(self) -> vp.Frame:
        """Says what comes before the first frame. That frame."""
        frame = self.screens.frame(0)
        assert self.feed.send(0) == Next.MODE
        self.feed.mode_sent(0, frame.generation, frame.width, frame.height)
        assert self.feed.send(0) == Next.IMAGE
        self.feed.image_sent(frame.image)
        assert self.feed.send(0) == Next.SENT
        return self.received()

    def received(self) -> vp.Frame:
        message = vp.decode_from_daemon(self.peer.recv(vp.MAX_PACKET))
        assert isinstance(message, vp.Frame)
        return message

    def flow(self, count: int) -> vp.Frame:
        """So many frames, each answered before the next, but for the last, which is returned."""
        frame = self.ready()
        for _ in range(count):
            assert self.answer(frame.sequence) == Next.DONE
            assert self.draw() == Next.SENT
            frame = self.received()
            assert frame.skipped == 0
        return frame

    def answer(self, sequence: int, scanout: int = 0) -> int:
        self.peer.send(vp.encode(vp.FrameDone(scanout, sequence)))
        return self.feed.read()

    # ---- Sink

    def scanout_changed(self, scanout: int, damage: Region) -> None:
        self.left = self.feed.add(scanout, damage)

    def cursor_changed(self, scanout: int) -> None: ...

    def images_retired(self, images: list[int]) -> None: ...

    def relieve(self) -> None: ...


@contextlib.contextmanager
def kits() -> Iterator[Kit]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Device() as device, ours, theirs:
        kit = Kit(device, ours, theirs)
        yield kit
        kit.feed.close()


def test_a_mode_and_an_image_come_first() -> None:
    with kits() as kit:
        frame, shown = kit.ready(), kit.screens.frame(0)
        assert (frame.scanout, frame.format, frame.generation) == (0, B8G8R8X8, shown.generation)
        assert (frame.sequence, frame.image, frame.flush_ns) == (shown.sequence, shown.image, shown.flush_ns)
        assert (frame.x, frame.y, frame.skipped, frame.damage) == (16, 8, 0, (Rect(0, 0, 32, 32),))


def test_what_was_never_shown_is_not_told() -> None:
    with kits() as kit:
        assert kit.feed.send(1) == Next.DONE
        with pytest.raises(BlockingIOError):
            kit.peer.recv(1, socket.MSG_DONTWAIT)


def test_nothing_new_is_no_frame() -> None:
    with kits() as kit:
        first = kit.ready()
        kit.feed.look(0)
        assert kit.feed.send(0) == Next.DONE
        assert kit.answer(first.sequence) == Next.DONE


def test_one_frame_at_a_time_and_the_answer_brings_the_next() -> None:
    with kits() as kit:
        first = kit.flow(5)
        for rect in ((16, 8, 4, 4), (40, 30, 4, 4), (16, 8, 2, 2)):
            kit.draw(rect)
        left = kit.answer(first.sequence)
        assert left == Next.SENT or (left == Next.NEWS and kit.tell() == Next.SENT)
        second = kit.received()
        assert second.sequence > first.sequence
        assert {(r.x, r.y, r.width, r.height) for r in second.damage} == {(0, 0, 4, 4), (24, 22, 4, 4)}


def test_a_frame_that_waited_for_the_image_is_told_to_all_first() -> None:
    """Every other image is held: the answer frees the one that a flush waits for."""
    with kits() as kit:
        first = kit.flow(5)
        others = []
        while not kit.screens.starved:
            kit.draw()
            others.append(kit.screens.frame(0).image)
            kit.screens.hold(others[-1])
        assert kit.answer(first.sequence) == Next.NEWS
        assert kit.tell() == Next.SENT
        assert kit.received().damage == (Rect(0, 0, 32, 32),)
        for image in others:
            kit.screens.release(image)


@pytest.mark.parametrize("sequence", [0, -1])
def test_an_answer_to_an_older_frame_is_none(sequence: int) -> None:
    with kits() as kit:
        first = kit.ready()
        assert kit.answer(first.sequence + sequence if sequence else 0) == Next.DONE
        kit.draw()
        with pytest.raises(BlockingIOError):
            kit.peer.recv(1, socket.MSG_DONTWAIT)


def test_a_steady_flow_needs_nobody_else() -> None:
    """Images take turns; once all were told of, a frame and an answer are all there is."""
    with kits() as kit:
        kit.flow(50)
        assert kit.told <= 3


def test_a_new_mode_is_told_while_a_frame_is_unanswered() -> None:
    with kits() as kit:
        first = kit.ready()
        assert kit.device.set_scanout(0, 1, WHOLE) == OK
        assert kit.tell() == Next.MODE
        kit.feed.mode_sent(0, kit.screens.frame(0).generation, SIDE, SIDE)
        assert kit.feed.send(0) == Next.DONE
        left = kit.answer(first.sequence)
        assert left in (Next.SENT, Next.IMAGE, Next.NEWS)


@pytest.mark.parametrize(
    "packet",
    [b"", b"x", bytes(24), vp.encode(vp.Hello()), vp.encode(vp.FrameDone(2, 1)), vp.encode(vp.FrameDone(0, 1)) + b"y"],
)
def test_anything_else_is_the_callers(packet: bytes) -> None:
    with kits() as kit:
        if packet:
            kit.peer.send(packet)
        else:
            kit.peer.close()
        assert kit.feed.read() == Next.OTHER
        assert kit.feed.packet == packet


def test_nothing_to_read() -> None:
    with kits() as kit:
        assert kit.feed.read() == Next.DONE


def filled(socket_: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            socket_.send(bytes(512), socket.MSG_DONTWAIT)


def test_a_full_socket_holds_no_image_and_loses_nothing() -> None:
    with kits() as kit:
        frame = kit.flow(5)
        assert kit.answer(frame.sequence) == Next.DONE
        filled(kit.socket)
        with pytest.raises(BlockingIOError):
            kit.draw((16, 8, 4, 4))
        assert not kit.feed.holds_longer_than(-1)
        assert len(kit.peer.recv(vp.MAX_PACKET)) == 512
        assert kit.feed.send(0) == Next.SENT
        filled_with = iter(lambda: kit.peer.recv(vp.MAX_PACKET), None)
        message = vp.decode_from_daemon(next(packet for packet in filled_with if any(packet)))
        assert isinstance(message, vp.Frame)
        assert message.damage == (Rect(0, 0, 4, 4),)


def test_a_full_socket_when_the_answer_comes() -> None:
    with kits() as kit:
        frame = kit.flow(5)
        assert kit.draw((16, 8, 4, 4)) == Next.DONE
        filled(kit.socket)
        with pytest.raises(BlockingIOError):
            kit.answer(frame.sequence)
        assert not kit.feed.holds_longer_than(-1)
        assert len(kit.peer.recv(vp.MAX_PACKET)) == 512
        assert kit.feed.send(0) == Next.SENT
        assert kit.feed.holds_longer_than(-1)


def test_a_viewer_that_is_gone() -> None:
    with kits() as kit:
        frame = kit.flow(5)
        assert kit.answer(frame.sequence) == Next.DONE
        kit.peer.close()
        with pytest.raises(BrokenPipeError):
            kit.draw()
        kit.feed.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            kit.draw()


def test_how_long_an_image_is_held() -> None:
    with kits() as kit:
        assert not kit.feed.holds_longer_than(-1)
        frame = kit.ready()
        assert kit.feed.holds_longer_than(-1)
        assert not kit.feed.holds_longer_than(1000)
        kit.answer(frame.sequence)
        assert not kit.feed.holds_longer_than(-1)
