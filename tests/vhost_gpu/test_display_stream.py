"""The display socket's outgoing half, against a peer that reads when it is told to."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest

from backend.screens import Image
from protocol.virtio_gpu import Format
from vhost_gpu.display_stream import DisplayStream

SIZE = 1024 * 1024
HEADER = b"header!!"


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
        self.stream = DisplayStream(asyncio.get_running_loop(), ours, self.screens)  # type: ignore[arg-type]

    def read(self, size: int) -> bytes:
        return self.peer.recv(size, socket.MSG_WAITALL)

    def close(self) -> None:
        self.stream.close()
        self.socket.close()
        self.peer.close()


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    made = Kit()
    yield made
    made.close()


async def test_pixels_come_from_the_image_with_the_header_before_them(kit: Kit, image: Image) -> None:
    kit.stream.send_image(HEADER, image, 2048 * 3, 2048 * 5)
    assert kit.read(8 + 2048 * 5) == HEADER + os.pread(image.fd, 2048 * 5, 2048 * 3)
    assert kit.stream.sent == 8 + 2048 * 5


async def test_an_image_is_held_until_it_is_read(kit: Kit, image: Image) -> None:
    kit.stream.send_image(HEADER, image, 0, 65536)
    kit.stream.lend(7)
    kit.read(8 + 65535)
    assert not kit.stream.release_read()
    assert kit.screens.released == []
    kit.read(1)
    async with asyncio.timeout(10):
        await kit.screens.published.wait()
    assert kit.screens.released == [7]


async def test_a_later_message_does_not_keep_an_earlier_image(kit: Kit, image: Image) -> None:
    kit.stream.send_image(HEADER, image, 0, 65536)
    kit.stream.lend(7)
    kit.stream.send_image(HEADER, image, 65536, 131072)
    kit.stream.lend(8)
    kit.read(kit.stream.sent - 1)
    assert kit.stream.release_read()
    assert kit.screens.released == [7]


async def test_what_the_socket_does_not_take_goes_out_later(kit: Kit, image: Image) -> None:
    """No message is cut, whatever is in the way of it."""
    wanted = b""
    while not kit.stream.has_rest:
        kit.stream.send_image(HEADER, image, 0, SIZE)
        wanted += HEADER + os.pread(image.fd, SIZE, 0)
    kit.stream.lend(7)
    assert not kit.stream.has_room
    got = b""
    while kit.stream.has_rest:
        got += kit.peer.recv(SIZE)
        kit.stream.send_rest()
    assert not kit.stream.release_read()
    got += kit.read(len(wanted) - len(got))
    assert got == wanted
    assert kit.stream.has_room
    assert kit.stream.release_read()


async def test_there_is_room_for_a_whole_message_whenever_it_says_so(kit: Kit, image: Image) -> None:
    while kit.stream.has_room:
        kit.stream.send_image(HEADER, image, 0, kit.stream.message_size)
        assert not kit.stream.has_rest
    kit.read(kit.stream.sent)
    while kit.stream.has_room:
        kit.stream.send([HEADER, bytes(128 * 1024)])
        assert not kit.stream.has_rest


async def test_an_image_that_is_never_read_is_given_back(
    kit: Kit, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.stream.send_image(HEADER, image, 0, 65536)
    kit.stream.lend(7)
    kit.stream.relieve()
    assert kit.screens.released == []
    monkeypatch.setattr("vhost_gpu.display_stream.MAX_HOLD_SECONDS", -1)
    kit.stream.relieve()
    assert kit.screens.released == [7]


async def test_closing_gives_everything_back(kit: Kit, image: Image) -> None:
    kit.stream.send_image(HEADER, image, 0, 65536)
    kit.stream.lend(7)
    kit.stream.close()
    assert kit.screens.released == [7]


async def test_a_peer_that_left_is_an_error(kit: Kit, image: Image) -> None:
    kit.peer.close()
    with pytest.raises(OSError, match="Broken pipe"):
        kit.stream.send_image(HEADER, image, 0, 65536)
