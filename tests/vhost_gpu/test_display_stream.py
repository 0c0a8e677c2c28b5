"""The display socket's outgoing half, against a peer that reads when it is told to."""

import asyncio
import math
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from backend.region import Rect, Region
from protocol.vhost_user_gpu import RequestDecoder, Update
from tests.backend.senderkit import HEIGHT, WHOLE, WIDTH, Picture, without_x
from vhost_gpu.display_stream import DisplayStream

SMALL = Rect(3, 4, 5, 6)
WHOLE_SIZE = WIDTH * HEIGHT * 4 + 32
"""Bytes of the whole picture's message."""


class Kit(Picture):
    """A picture, a stream and its peer."""

    def __init__(self) -> None:
        super().__init__()
        self.ours, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.ours.setblocking(False)
        self.peer.settimeout(10)
        self.news = asyncio.Event()
        self.stream = DisplayStream(asyncio.get_running_loop(), self.ours, self.screens, self._note_news)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.peer.recv(size - len(data))
        return data

    def _note_news(self) -> None:
        with suppress(OSError):
            self.stream.refresh()
        self.news.set()

    def begin(self, rect: Rect = WHOLE) -> int:
        region = Region()
        region.add(rect)
        return self.stream.send_picture(0, self.frame, region, (WIDTH, HEIGHT))

    async def until_idle(self) -> None:
        await self._until(lambda: not self.stream.busy)

    async def until_out(self) -> None:
        """No picture goes out any more; the rest of its last message may be left."""
        await self._until(lambda: not self.stream.has_picture)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                await self.news.wait()

    def is_held(self, image: int) -> bool:
        """Whether anybody but a scanout needs it: drawing goes on until every image was written again."""
        for _ in range(8):
            self.draw()
            if self.frame.image == image:
                return False
        return True

    def close(self) -> None:
        self.stream.close()
        self.ours.close()
        self.peer.close()
        super().close()


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    made = Kit()
    yield made
    made.close()


async def test_a_picture_is_held_until_it_is_read(kit: Kit) -> None:
    image = kit.frame.image
    assert kit.begin() == WHOLE.area
    kit.draw()
    await kit.until_idle()
    assert not kit.stream.has_picture
    kit.read(WHOLE_SIZE - 1)
    assert not kit.stream.refresh()
    assert kit.is_held(image)
    kit.read(1)
    assert kit.stream.refresh()
    assert not kit.is_held(image)


async def test_nobody_needs_to_ask_for_what_was_read(kit: Kit) -> None:
    image = kit.frame.image
    kit.begin()
    kit.draw()
    await kit.until_idle()
    kit.read(WHOLE_SIZE)
    async with asyncio.timeout(10):
        while kit.is_held(image):
            await asyncio.sleep(0.001)


async def test_what_was_read_by_the_end_is_not_looked_for(kit: Kit) -> None:
    """Each look is a wake-up in the middle of the guest's frames."""
    image = kit.frame.image
    kit.begin()
    kit.draw()
    kit.read(WHOLE_SIZE)
    await kit.until_idle()
    assert not kit.is_held(image)
    kit.news.clear()
    await asyncio.sleep(0.02)
    assert not kit.news.is_set()


async def test_looks_become_rare_while_nobody_reads(kit: Kit) -> None:
    kit.begin(Rect(0, 0, WIDTH, 16))
    await kit.until_idle()
    looks, begun = 0, time.monotonic()
    for _ in range(100):
        kit.news.clear()
        await asyncio.sleep(0.001)
        looks += kit.news.is_set()
    assert looks <= math.log2((time.monotonic() - begun) * 1000) + 2


async def test_a_copied_picture_is_given_back_at_once(kit: Kit) -> None:
    image = kit.frame.image
    assert kit.begin(SMALL) == SMALL.area
    assert kit.stream.has_picture
    kit.draw()
    await kit.until_idle()
    assert not kit.is_held(image)


async def test_nothing_to_send_holds_nothing(kit: Kit) -> None:
    image = kit.frame.image
    assert kit.begin(Rect(WIDTH, 0, 5, 5)) == 0
    assert not kit.stream.has_picture
    assert not kit.is_held(image)


async def test_a_later_picture_does_not_keep_an_earlier_one(kit: Kit) -> None:
    first = kit.frame.image
    kit.begin(Rect(0, 0, WIDTH, 16))
    await kit.until_idle()
    kit.draw()
    kit.begin()
    await kit.until_idle()
    kit.draw()
    kit.read(kit.stream.sent - 1)
    assert kit.stream.refresh()
    assert not kit.is_held(first)


async def test_what_the_socket_does_not_take_goes_out_later(kit: Kit) -> None:
    """No message is cut, whatever is in the way of it."""
    wanted = b""
    while not kit.stream.has_rest:
        wanted += os.urandom(WHOLE_SIZE)
        kit.stream.send([wanted[-WHOLE_SIZE:]])
    assert not kit.stream.has_room
    got = b""
    while kit.stream.has_rest:
        got += kit.peer.recv(WHOLE_SIZE)
        kit.stream.send_rest()
    got += kit.read(len(wanted) - len(got))
    assert got == wanted
    assert kit.stream.has_room


async def test_there_is_room_for_a_whole_message_whenever_it_says_so(kit: Kit) -> None:
    while kit.stream.has_room:
        kit.stream.send([bytes(32), bytes(128 * 1024)])
        assert not kit.stream.has_rest


async def test_what_is_said_meanwhile_comes_between_two_messages(kit: Kit) -> None:
    while kit.stream.has_room:
        kit.stream.send([bytes(1 << 16)])
    before = kit.stream.sent
    kit.begin()
    word = b"w" * 32
    kit.stream.send([word[:16], word[16:]])
    assert not kit.stream.has_room
    kit.read(before)
    assert kit.read(32) == word
    kit.read(WHOLE_SIZE)
    await kit.until_idle()
    assert kit.stream.has_room
    assert kit.stream.sent == before + 32 + WHOLE_SIZE


async def test_a_picture_that_is_never_read_is_given_up(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    image = kit.frame.image
    while kit.stream.has_room:
        kit.stream.send([bytes(1 << 16)])
    kit.begin()
    kit.draw()
    assert kit.stream.relieve() is None
    assert kit.is_held(image)
    monkeypatch.setattr("vhost_gpu.display_stream.MAX_HOLD_SECONDS", -1)
    assert kit.stream.relieve() == 0
    await kit.until_out()
    assert not kit.is_held(image)


async def test_a_picture_is_given_up_once_and_its_message_ends(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop does not wait for the thread, which puts by what is missing."""
    image = kit.frame.image
    kit.begin()
    while not kit.stream.sent:
        kit.stream.refresh()
    kit.draw()
    monkeypatch.setattr("vhost_gpu.display_stream.MAX_HOLD_SECONDS", -1)
    assert kit.stream.relieve() == 0
    assert kit.stream.relieve() is None
    kit.stream.send([b"w" * 32])
    await kit.until_out()
    kit.stream.relieve()
    assert not kit.is_held(image)
    (message,) = RequestDecoder().feed(kit.read(WHOLE_SIZE))
    assert isinstance(message, Update)
    assert without_x(message.pixels) == without_x(kit.noise)
    assert kit.read(32) == b"w" * 32
    await kit.until_idle()


async def test_a_picture_that_is_out_and_never_read_is_given_back(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    image = kit.frame.image
    kit.begin(Rect(0, 0, WIDTH, 16))
    kit.draw()
    await kit.until_idle()
    assert kit.stream.relieve() is None
    assert kit.is_held(image)
    monkeypatch.setattr("vhost_gpu.display_stream.MAX_HOLD_SECONDS", -1)
    assert kit.stream.relieve() is None
    assert not kit.is_held(image)


@pytest.mark.parametrize("idle", [True, False])
async def test_closing_gives_everything_back(kit: Kit, idle: bool) -> None:
    image = kit.frame.image
    kit.begin()
    kit.draw()
    if idle:
        await kit.until_idle()
    kit.stream.close()
    assert not kit.is_held(image)


async def test_a_peer_that_left_is_an_error(kit: Kit) -> None:
    kit.peer.close()
    kit.begin()
    await kit.until_idle()
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        kit.stream.refresh()
