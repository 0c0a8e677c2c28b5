"""The display socket's outgoing half, against a peer that reads when it is told to."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from backend.screens import Image
from backend.sender import Message
from protocol.virtio_gpu import Format
from vhost_gpu.display_stream import DisplayStream

SIZE = 1024 * 1024
HEADER = bytes(range(32))


@dataclass
class FakeScreens:
    """Notes what is given back."""

    released: list[int] = field(default_factory=list)
    published: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self, image: int) -> None:
        self.released.append(image)

    def publish(self) -> None:
        self.published.set()


@pytest.fixture
def image() -> Iterator[Image]:
    fd = os.memfd_create("image")
    os.write(fd, os.urandom(SIZE))
    yield Image(7, fd, 512, 512, 2048, Format.B8G8R8X8_UNORM, SIZE)
    os.close(fd)


class Kit:
    """A stream and its peer."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        self.peer.settimeout(10)
        self.socket = ours
        self.screens = FakeScreens()
        self.news = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.stream = DisplayStream(loop, ours, self.screens, self._note_news)  # type: ignore[arg-type]

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.peer.recv(size - len(data))
        return data

    def _note_news(self) -> None:
        with suppress(OSError):
            self.stream.refresh()
        self.news.set()

    async def sent(self, image: Image, *messages: Message) -> None:
        """Sends of an image, and waits until the socket has taken it."""
        self.stream.send_image(image, messages)
        await self.until_idle()

    async def until_idle(self) -> None:
        async with asyncio.timeout(10):
            while self.stream.busy:
                self.news.clear()
                await self.news.wait()

    def close(self) -> None:
        self.stream.close()
        self.socket.close()
        self.peer.close()


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    made = Kit()
    yield made
    made.close()


def part(offset: int, size: int) -> Message:
    return Message(HEADER, offset, size)


def sent_of(image: Image, *messages: Message) -> bytes:
    """What the peer reads."""
    return b"".join(m.header + os.pread(image.fd, m.size, m.offset) for m in messages)


async def test_pixels_come_from_the_image_with_the_header_before_them(kit: Kit, image: Image) -> None:
    messages = [part(2048 * 3, 2048 * 5), part(0, 4096)]
    await kit.sent(image, *messages)
    wanted = sent_of(image, *messages)
    assert kit.read(len(wanted)) == wanted
    assert kit.stream.sent == len(wanted)


async def test_an_image_is_held_until_it_is_read(kit: Kit, image: Image) -> None:
    await kit.sent(image, part(0, 65536))
    kit.stream.lend(7)
    kit.read(32 + 65535)
    assert not kit.stream.release_read()
    assert kit.screens.released == []
    kit.read(1)
    async with asyncio.timeout(10):
        await kit.screens.published.wait()
    assert kit.screens.released == [7]


async def test_a_later_message_does_not_keep_an_earlier_image(kit: Kit, image: Image) -> None:
    await kit.sent(image, part(0, 65536))
    kit.stream.lend(7)
    await kit.sent(image, part(65536, 131072))
    kit.stream.lend(8)
    kit.read(kit.stream.sent - 1)
    assert kit.stream.release_read()
    assert kit.screens.released == [7]


async def _fill(kit: Kit) -> bytes:
    """Sends more than the socket takes."""
    data = b""
    while not kit.stream.has_rest:
        data += os.urandom(SIZE)
        kit.stream.send([data[-SIZE:]])
    assert not kit.stream.has_room
    return data


async def test_what_the_socket_does_not_take_goes_out_later(kit: Kit) -> None:
    """No message is cut, whatever is in the way of it."""
    wanted = await _fill(kit)
    got = b""
    while kit.stream.has_rest:
        got += kit.peer.recv(SIZE)
        kit.stream.send_rest()
    got += kit.read(len(wanted) - len(got))
    assert got == wanted
    assert kit.stream.has_room


async def test_there_is_room_for_a_whole_message_whenever_it_says_so(kit: Kit) -> None:
    while kit.stream.has_room:
        kit.stream.send([HEADER, bytes(128 * 1024)])
        assert not kit.stream.has_rest


async def test_what_is_said_meanwhile_comes_between_two_messages(kit: Kit, image: Image) -> None:
    """More than the socket takes is on its way."""
    messages = [part(0, kit.stream.message_size)] * 20
    kit.stream.send_image(image, messages)
    assert kit.stream.busy
    assert kit.stream.has_image
    word = b"w" * 32
    kit.stream.send([word[:16], word[16:]])
    assert not kit.stream.has_room
    size = 32 + kit.stream.message_size
    got = [kit.read(32)]
    while got[-1] != word:
        assert got[-1] == HEADER
        kit.read(size - 32)
        got.append(kit.read(32))
    for _ in range(20 - len(got) + 1):
        kit.read(size)
    await kit.until_idle()
    assert not kit.stream.has_image
    assert kit.stream.has_room
    assert kit.stream.sent == 20 * size + 32


async def test_stopping_an_image_ends_the_message_that_was_begun(kit: Kit, image: Image) -> None:
    messages = [part(0, SIZE)] * 20
    kit.stream.send_image(image, messages)
    kit.peer.recv(1, socket.MSG_PEEK | socket.MSG_WAITALL)
    kit.stream.stop_image()
    assert not kit.stream.has_image
    os.ftruncate(image.fd, 0)  # it is not read any more
    os.ftruncate(image.fd, SIZE)
    kit.stream.send([b"the end"])
    got = b""
    while not got.endswith(b"the end"):
        got += kit.peer.recv(SIZE)
        if kit.stream.has_rest:
            kit.stream.send_rest()
    assert (len(got) - 7) % (32 + SIZE) == 0
    await kit.until_idle()


async def test_an_image_that_is_never_read_is_given_back(
    kit: Kit, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kit.sent(image, part(0, 65536))
    kit.stream.lend(7)
    kit.stream.relieve()
    assert kit.screens.released == []
    monkeypatch.setattr("vhost_gpu.display_stream.MAX_HOLD_SECONDS", -1)
    kit.stream.relieve()
    assert kit.screens.released == [7]


async def test_closing_gives_everything_back(kit: Kit, image: Image) -> None:
    await kit.sent(image, part(0, 65536))
    kit.stream.lend(7)
    kit.stream.close()
    assert kit.screens.released == [7]


async def test_closing_in_the_middle_of_an_image(kit: Kit, image: Image) -> None:
    kit.stream.send_image(image, [part(0, SIZE)] * 20)
    kit.stream.close()
    assert not kit.stream.busy


async def test_a_peer_that_left_is_an_error(kit: Kit, image: Image) -> None:
    kit.peer.close()
    await kit.sent(image, part(0, 65536))
    with pytest.raises(OSError, match="Broken pipe"):
        kit.stream.refresh()
