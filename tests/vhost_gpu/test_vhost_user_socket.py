"""Bytes on the vhost-user connection: in pieces, in bulk, in disorder."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from protocol import vhost_user as vu
from protocol.errors import PeerError
from protocol.vhost_user import Request
from tests.vhost_gpu.sessionkit import TIMEOUT, open_fds, until
from vhost_gpu.vhost_user_socket import VhostUserSocket


class End:
    """A served connection and what came of it."""

    def __init__(self) -> None:
        self.vmm, theirs = socket.socketpair()
        self.vmm.setblocking(False)
        loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[str] = loop.create_future()
        self.seen: list[vu.Message] = []
        self.socket = VhostUserSocket(loop, theirs, self.handle, self.closed.set_result)

    def handle(self, message: vu.Message) -> vu.Payload | None:
        self.seen.append(message)
        for fd in message.fds:
            os.close(fd)
        if message.request == Request.RESET_OWNER:
            raise PeerError("no")
        if message.request == Request.SET_OWNER:
            raise ZeroDivisionError("oops")
        return vu.U64(len(self.seen)) if message.request == Request.GET_FEATURES else None

    async def reason(self) -> str:
        return await asyncio.wait_for(self.closed, TIMEOUT)

    async def read(self, size: int) -> bytes:
        data = b""
        async with asyncio.timeout(TIMEOUT):
            while len(data) < size:
                more = await asyncio.get_running_loop().sock_recv(self.vmm, size - len(data))
                assert more
                data += more
        return data


@pytest.fixture
async def end() -> AsyncIterator[End]:
    end = End()
    yield end
    end.socket.close()
    end.vmm.close()


GET = vu.encode(Request.GET_FEATURES)
REPLY = len(vu.encode_reply(Request.GET_FEATURES, vu.U64(0)))


async def test_a_byte_at_a_time(end: End) -> None:
    for byte in GET:
        end.vmm.send(bytes([byte]))
        await asyncio.sleep(0)
    assert await end.read(REPLY) == vu.encode_reply(Request.GET_FEATURES, vu.U64(1))


async def test_many_at_once(end: End) -> None:
    end.vmm.send(GET * 200)
    replies = await end.read(200 * REPLY)
    assert replies == b"".join(vu.encode_reply(Request.GET_FEATURES, vu.U64(n + 1)) for n in range(200))


async def test_who_does_not_read_is_not_served_further(end: End) -> None:
    """Replies wait in one place only, the socket, and the rest of the requests in the other direction."""
    end.vmm.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    total = 0
    with pytest.raises(BlockingIOError):  # noqa: PT012
        while True:
            total += end.vmm.send(GET)
            await asyncio.sleep(0)
    stuck = len(end.seen)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(end.seen) == stuck < total // len(GET)
    assert len(end.socket._out) <= REPLY
    await end.read(total // len(GET) * REPLY)
    assert len(end.seen) == total // len(GET)


async def test_descriptors_stay_with_their_message(end: End) -> None:
    fd = os.eventfd(0)
    for n in range(3):
        data = vu.encode(Request.SET_VRING_CALL, vu.VringFd(n, True))
        socket.send_fds(end.vmm, [data], [fd])
    end.vmm.send(GET)
    await end.read(REPLY)
    assert [len(message.fds) for message in end.seen] == [1, 1, 1, 0]
    os.close(fd)


async def test_a_clean_end(end: End) -> None:
    end.vmm.send(GET)
    await end.read(REPLY)
    end.vmm.close()
    assert await end.reason() in ("", "the VMM closed it")


async def test_an_end_inside_a_message(end: End) -> None:
    end.vmm.send(GET[:7])
    end.vmm.close()
    assert "inside a message" in await end.reason()


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("=III", 1, 1, 0xFFFFFFFF),
        struct.pack("=III", 1, 1, 4097),
        struct.pack("=III", 1, 0, 0),
        struct.pack("=III", 1, 5, 0),
        struct.pack("=III", 2, 1, 4) + bytes(4),
        os.urandom(12)[:4] + b"\xff" * 8,
    ],
    ids=["4 GiB", "over the limit", "version 0", "a reply", "short payload", "noise"],
)
async def test_what_cannot_be_understood_ends_the_connection(end: End, data: bytes) -> None:
    end.vmm.send(data)
    assert await end.reason()
    assert end.seen == []


@pytest.mark.parametrize("count", [1, 2, 8, 9, 253])
async def test_too_many_descriptors_are_all_closed(end: End, count: int) -> None:
    before = open_fds()
    socket.send_fds(end.vmm, [GET], [0] * count)
    assert "descriptors" in await end.reason()
    await until(lambda: open_fds() <= before)
    assert end.seen == []


async def test_a_thousand_descriptors_in_pieces(end: End) -> None:
    before = open_fds()
    header = vu.encode(Request.SET_VRING_CALL, vu.VringFd(0, True))
    for n, byte in enumerate(header):
        try:
            socket.send_fds(end.vmm, [bytes([byte])], [0] * 50 if n else [0] * 4)
        except BrokenPipeError:
            break
        await asyncio.sleep(0)
    assert await end.reason()
    await until(lambda: open_fds() <= before)


async def test_refusals_are_acknowledged_with_failure_or_end_it(end: End) -> None:
    end.vmm.send(vu.encode(Request.RESET_OWNER, need_reply=True))
    assert (await end.read(REPLY))[12:] == b"\1" + bytes(7)
    end.vmm.send(vu.encode(Request.RESET_DEVICE, need_reply=True))
    assert (await end.read(REPLY))[12:] == bytes(8)
    end.vmm.send(vu.encode(Request.RESET_OWNER))
    assert await end.reason() == "no"


async def test_our_own_fault_is_logged_and_ends_what_waits_for_it(end: End, caplog: pytest.LogCaptureFixture) -> None:
    end.vmm.send(vu.encode(Request.SET_OWNER, need_reply=True))
    assert (await end.read(REPLY))[12:] == b"\1" + bytes(7)
    end.vmm.send(vu.encode(Request.SET_OWNER))
    assert await end.reason() == "internal error"
    assert caplog.text.count("ZeroDivisionError: oops") == 2


async def test_closing_closes_descriptors_of_half_a_message(end: End) -> None:
    before = open_fds()
    socket.send_fds(end.vmm, [GET[:5]], [0])
    await until(lambda: open_fds() == before + 1)
    end.socket.close()
    assert open_fds() == before - 1
