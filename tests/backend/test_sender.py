"""The thread that sends pictures: which bytes, in what order, and how jobs end."""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from backend.region import Rect, Region
from backend.screens import Screens
from backend.sender import COPIED_AT_ONCE, Sender
from protocol.vhost_user_gpu import RequestDecoder, Update
from tests.backend.devicekit import OK, Device
from tests.backend.senderkit import HEIGHT, WHOLE, WIDTH, SenderKit, places, without_x

MESSAGE = 32 + WIDTH * HEIGHT * 4
"""Bytes of the message of a whole picture."""
HALVES = [Rect(0, 0, WIDTH, 200), Rect(0, 300, WIDTH, 200)]
"""Each far more than the socket takes at once."""


@contextmanager
def socketpair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.settimeout(10)
    with ours, peer:
        yield ours, peer


Make = Callable[..., SenderKit]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[SenderKit] = []

    def new(*args: object) -> SenderKit:
        made.append(SenderKit(*args))  # type: ignore[arg-type]
        return made[-1]

    yield new
    for kit in made:
        kit.close()


@pytest.fixture
def kit(make: Make) -> SenderKit:
    return make()


# ---- pictures


def test_whole_rows_go_by_reference(kit: SenderKit) -> None:
    assert kit.begin() == WIDTH * HEIGHT
    (message,) = kit.updates(WIDTH * HEIGHT)
    assert places([message]) == [WHOLE]
    assert message.pixels == kit.noise
    kit.wait_idle()
    assert kit.sender.by_reference
    assert kit.sender.sent == MESSAGE


def test_parts_of_rows_are_copied(kit: SenderKit) -> None:
    rect = Rect(100, 50, 64, 64)
    assert kit.begin(rect) == rect.area
    (message,) = kit.updates(rect.area)
    assert places([message]) == [rect]
    assert message.pixels == without_x(kit.rows(rect))
    kit.wait_idle()
    assert not kit.sender.by_reference


def test_other_formats_are_converted(make: Make) -> None:
    kit = make(67)  # R8G8B8A8
    kit.begin()
    first = kit.updates(WIDTH * HEIGHT)[0]
    red, green, blue = kit.noise[0:3]
    assert bytes(first.pixels[0:4]) == bytes((blue, green, red, 0))
    kit.wait_idle()
    assert not kit.sender.by_reference


def test_many_small_rectangles(kit: SenderKit) -> None:
    rects = [Rect(80 * i, 90 * j, 32, 32) for i in range(6) for j in range(5)]
    kit.begin(*rects)
    messages = kit.updates(len(rects) * 32 * 32)
    assert sorted(places(messages)) == sorted(rects)
    for message in messages:
        assert message.pixels == without_x(kit.rows(Rect(message.x, message.y, 32, 32)))


def test_what_is_copied_in_several_parts_is_one_message_all_the_same(kit: SenderKit) -> None:
    """A VMM that shows its screen between two messages shows no half of it."""
    rect = Rect(1, 0, 500, HEIGHT)
    assert rect.area * 4 > 2 * COPIED_AT_ONCE
    kit.begin(rect)
    (message,) = kit.updates(rect.area)
    assert places([message]) == [rect]
    assert message.pixels == without_x(kit.rows(rect))


@pytest.mark.parametrize("x", [0, 1])
def test_what_no_vmm_would_read_in_one_piece_is_cut_between_rows(x: int) -> None:
    """A picture larger than any screen."""
    side, most = 16384, 128 << 20
    width = side - 16 * x
    with Device(hostmem=1 << 30) as device, socketpair() as (ours, peer):
        assert device.create(1, side, 2200) == OK
        assert device.set_scanout(0, 1, (0, 0, side, 2200)) == OK
        screens, region = Screens(device.dev), Region()
        region.add(Rect(x, 0, width, 2200))
        sender = Sender(device.dev, ours.fileno(), 100_000)
        assert sender.begin(0, screens.frame(0), region, (side, 2200)) == width * 2200
        rows = [most // (width * 4), 2200 - most // (width * 4)]
        at = 0
        for height in rows:
            head = struct.unpack("=8I", peer.recv(32, socket.MSG_WAITALL))
            assert head == (8, 0, 20 + width * height * 4, 0, x, at, width, height)
            left = width * height * 4
            while left:
                left -= len(peer.recv(min(left, 1 << 20)))
            at += height
        sender.close()


def test_large_and_small_ones_that_are_copied_together(kit: SenderKit) -> None:
    rects = [Rect(1, 0, 100, 100), Rect(150, 120, 360, 200), Rect(1, 360, 100, 100), Rect(300, 400, 3, 3)]
    kit.begin(*rects)
    messages = kit.updates(sum(rect.area for rect in rects))
    assert sorted(places(messages)) == sorted(rects)
    for message, rect in zip(messages, places(messages), strict=True):
        assert message.pixels == without_x(kit.rows(rect))


def test_both_ways_in_one_job(kit: SenderKit) -> None:
    rects = [Rect(0, 0, 8, 8), Rect(0, 100, WIDTH, 16), Rect(8, 300, 8, 8)]
    kit.begin(*rects)
    assert sorted(places(kit.updates(sum(rect.area for rect in rects)))) == sorted(rects)
    kit.wait_idle()
    assert kit.sender.by_reference


def test_a_scanout_in_the_middle_of_its_image(make: Make) -> None:
    """The message's place is the scanout's, the pixels' the image's."""
    kit = make(2, Rect(128, 64, 200, 100))
    kit.begin(Rect(10, 20, 30, 40))
    (message,) = kit.updates(30 * 40)
    assert places([message]) == [Rect(10, 20, 30, 40)]
    assert message.pixels == without_x(kit.rows(Rect(138, 84, 30, 40)))


def test_whole_rows_below_the_top_of_the_image(make: Make) -> None:
    kit = make(2, Rect(0, 64, WIDTH, 100))
    kit.begin(Rect(0, 20, WIDTH, 40))
    (message,) = kit.updates(WIDTH * 40)
    assert message.pixels == kit.rows(Rect(0, 84, WIDTH, 40))


def test_the_vmm_may_know_a_smaller_scanout(kit: SenderKit) -> None:
    rects = [Rect(0, 0, 20, 20), Rect(90, 90, 100, 100), Rect(200, 200, 5, 5)]
    assert kit.begin(*rects, size=(100, 95)) == 400 + 50
    assert sorted(places(kit.updates(450))) == [Rect(0, 0, 20, 20), Rect(90, 90, 10, 5)]


def test_no_damage_inside_is_no_job(kit: SenderKit) -> None:
    assert kit.begin(Rect(200, 200, 5, 5), size=(100, 100)) == 0
    assert not kit.sender.busy


@pytest.mark.parametrize("size", [(WIDTH + 1, 1), (1, HEIGHT + 1), (2**32 - 1, 2**32 - 1)])
def test_a_place_outside_the_image_is_refused(kit: SenderKit, size: tuple[int, int]) -> None:
    with pytest.raises(OSError, match="Invalid"):
        kit.begin(size=size)


# ---- jobs and posts


def test_job_after_job(kit: SenderKit) -> None:
    for number in range(50):
        rect = Rect(number, number, number + 1, 7)
        kit.begin(rect)
        assert places(kit.updates(rect.area)) == [rect]
        kit.wait_idle()


def test_one_job_at_a_time(kit: SenderKit) -> None:
    kit.begin()
    with pytest.raises(OSError, match="busy"):
        kit.begin()


def test_posts_without_a_job(kit: SenderKit) -> None:
    kit.sender.post(b"one")
    kit.sender.post(b"two")
    assert kit.read(6) == b"onetwo"
    kit.wait_idle()
    assert kit.sender.sent == 6


@pytest.mark.parametrize("width", [WIDTH, 500])
def test_posts_come_between_messages(kit: SenderKit, width: int) -> None:
    kit.begin(Rect(0, 0, width, 200), Rect(0, 300, width, 200))
    word = b"\x77" * 32
    kit.sender.post(word)
    heads = []
    for _ in range(3):
        heads.append(kit.read(32))
        if heads[-1] != word:
            kit.read(width * 200 * 4)
    kit.wait_idle()
    assert heads.count(word) == 1
    assert heads[-1] != word


@pytest.mark.parametrize("rect", [WHOLE, Rect(1, 0, 500, HEIGHT)])
def test_no_post_comes_within_a_message(kit: SenderKit, rect: Rect) -> None:
    kit.begin(rect)
    head = kit.read(32)
    kit.sender.post(b"\x77" * 32)
    pixels = kit.read(rect.area * 4)
    assert without_x(pixels) == without_x(kit.rows(rect))
    assert kit.read(32) == b"\x77" * 32
    assert head != b"\x77" * 32


def test_large_posts_to_a_peer_that_reads_slowly(kit: SenderKit) -> None:
    data = os.urandom(3_000_000)
    kit.sender.post(data)
    assert kit.read(1000) == data[:1000]
    kit.sender.post(b"more")
    assert kit.read(len(data) - 1000) == data[1000:]
    assert kit.read(4) == b"more"
    kit.wait_idle()


# ---- ends


@pytest.mark.parametrize("rects", [HALVES, [Rect(1, 0, 500, 200), Rect(1, 300, 500, 200)]])
@pytest.mark.parametrize("read", [0, 1000, 50_000])
def test_cancelling_leaves_no_message_cut(kit: SenderKit, rects: list[Rect], read: int) -> None:
    kit.begin(*rects)
    while not kit.sender.sent:
        kit.sender.refresh()
    got = kit.read(read)
    kit.cancel()
    size = 32 + rects[0].area * 4
    if rects != HALVES:  # what is missing was copied: the image may be drawn into
        kit.device.ram[: len(kit.noise)] = bytes(len(kit.noise))
        for _ in range(4):
            kit.draw()
    kit.sender.post(b"end")
    got += kit.read(size - len(got))
    (message,) = RequestDecoder().feed(got)
    assert isinstance(message, Update)
    assert without_x(message.pixels) == without_x(kit.rows(rects[0]))
    assert kit.read(3) == b"end"
    kit.wait_idle()


def test_cancelling_what_has_not_begun_or_is_over(kit: SenderKit) -> None:
    kit.cancel()
    kit.begin(Rect(0, 0, 1, 1))
    kit.wait_idle()
    kit.cancel()
    assert not kit.sender.busy


def test_a_peer_that_leaves_ends_job_and_posts(kit: SenderKit) -> None:
    kit.begin()
    kit.peer.close()
    with pytest.raises(OSError, match=r"pipe|reset"):
        kit.wait_idle()
    assert not kit.sender.has_job
    with pytest.raises(OSError, match=r"pipe|reset"):
        kit.begin()
    kit.sender.cancel()


def test_a_peer_that_will_read_no_more_is_gone(kit: SenderKit) -> None:
    kit.begin()
    kit.peer.recv(1, socket.MSG_PEEK)
    kit.peer.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OSError, match=r"pipe|reset"):
        kit.wait_idle()


def test_it_ends_in_the_middle_of_a_job(make: Make) -> None:
    kit = make()
    kit.begin()
    kit.sender.post(bytes(1000))
    kit.sender.close()
    kit.ours.close()
    while kit.peer.recv(1 << 20):  # to the end, which comes
        pass


def test_an_image_outlives_its_resource_while_it_is_sent(kit: SenderKit) -> None:
    kit.screens.hold(kit.frame.image)
    image = kit.frame.image
    kit.begin()
    assert kit.device.unref(1) == 0x1100
    assert b"".join(bytes(m.pixels) for m in kit.updates(WHOLE.area)) == kit.noise
    kit.wait_idle()
    kit.screens.release(image)
    assert image in kit.device.retired()
