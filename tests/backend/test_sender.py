"""The thread that sends images: order, wholeness and ends, against a peer that reads when it is told to."""

import os
import select
import socket
from collections.abc import Iterator

import pytest

from backend.sender import HEADER_SIZE, Message, Sender

SIZE = 300_000
LIMIT = 100_000


class Kit:
    """A sender, its peer, and a file."""

    def __init__(self) -> None:
        self.ours, self.peer = socket.socketpair()
        self.ours.setblocking(False)
        self.peer.settimeout(10)
        self.fd = os.memfd_create("image")
        os.write(self.fd, os.urandom(SIZE))
        self.sender = Sender(self.ours.fileno(), LIMIT)

    def message(self, number: int, offset: int = 0, size: int = SIZE) -> Message:
        return Message(bytes([number]) * HEADER_SIZE, offset, size)

    def bytes_of(self, message: Message) -> bytes:
        return message.header + os.pread(self.fd, message.size, message.offset)

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.peer.recv(size - len(data))
        return data

    def wait_idle(self) -> None:
        self.sender.refresh()
        while self.sender.busy:
            assert select.select([self.sender], [], [], 10)[0]
            self.sender.refresh()

    def close(self) -> None:
        self.sender.close()
        self.ours.close()
        self.peer.close()
        os.close(self.fd)


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    made.close()


def test_messages_in_order_and_whole(kit: Kit) -> None:
    messages = [kit.message(1, 0, 1), kit.message(2), kit.message(3, 1000, 5000), kit.message(4, SIZE - 1, 1)]
    kit.sender.begin(kit.fd, messages)
    wanted = b"".join(map(kit.bytes_of, messages))
    assert kit.read(len(wanted)) == wanted
    kit.wait_idle()
    assert kit.sender.sent == len(wanted)


def test_job_after_job(kit: Kit) -> None:
    for number in range(1, 50):
        message = kit.message(number, number, 2000)
        kit.sender.begin(kit.fd, [message])
        wanted = kit.bytes_of(message)
        assert kit.read(len(wanted)) == wanted
        kit.wait_idle()


def test_one_job_at_a_time(kit: Kit) -> None:
    kit.sender.begin(kit.fd, [kit.message(1)] * 9)
    with pytest.raises(OSError, match="busy"):
        kit.sender.begin(kit.fd, [kit.message(2)])


def test_posts_without_a_job(kit: Kit) -> None:
    kit.sender.post(b"one")
    kit.sender.post(b"two")
    assert kit.read(6) == b"onetwo"
    kit.wait_idle()
    assert kit.sender.sent == 6


def test_posts_come_between_messages(kit: Kit) -> None:
    kit.sender.begin(kit.fd, [kit.message(1)] * 9)
    word = b"\x77" * HEADER_SIZE
    kit.sender.post(word)
    heads = []
    for _ in range(10):
        heads.append(kit.read(HEADER_SIZE))
        if heads[-1] != word:
            assert kit.read(SIZE) == os.pread(kit.fd, SIZE, 0)
    kit.wait_idle()
    assert sorted(heads) == [b"\1" * HEADER_SIZE] * 9 + [word]
    assert heads[-1] != word


def test_large_posts_to_a_peer_that_reads_slowly(kit: Kit) -> None:
    data = os.urandom(3_000_000)
    kit.sender.post(data)
    assert kit.read(1000) == data[:1000]
    kit.sender.post(b"more")
    assert kit.read(len(data) - 1000) == data[1000:]
    assert kit.read(4) == b"more"
    kit.wait_idle()


def test_cancelling_leaves_no_message_cut(kit: Kit) -> None:
    kit.sender.begin(kit.fd, [kit.message(n) for n in range(1, 10)])
    kit.peer.recv(1, socket.MSG_PEEK)
    kit.sender.cancel()
    assert not kit.sender.has_job
    os.ftruncate(kit.fd, 0)
    kit.sender.post(b"end")
    got = b""
    while not got.endswith(b"end"):
        got += kit.peer.recv(1 << 20)
    assert (len(got) - 3) % (HEADER_SIZE + SIZE) == 0
    kit.wait_idle()


def test_cancelling_what_has_not_begun_or_is_over(kit: Kit) -> None:
    kit.sender.cancel()
    kit.sender.begin(kit.fd, [kit.message(1, 0, 10)])
    kit.wait_idle()
    kit.sender.cancel()
    assert not kit.sender.busy


def test_an_empty_job_is_done_at_once(kit: Kit) -> None:
    kit.sender.begin(kit.fd, [])
    kit.wait_idle()
    assert kit.sender.sent == 0


def test_a_file_that_is_too_short_is_an_error(kit: Kit) -> None:
    kit.sender.begin(kit.fd, [kit.message(1, SIZE - 10, 20)])
    with pytest.raises(OSError, match="No data"):
        kit.wait_idle()


def test_a_peer_that_leaves_ends_job_and_posts(kit: Kit) -> None:
    kit.sender.begin(kit.fd, [kit.message(1)] * 9)
    kit.peer.close()
    with pytest.raises(OSError, match=r"pipe|reset"):
        kit.wait_idle()
    assert not kit.sender.has_job
    with pytest.raises(OSError, match=r"pipe|reset"):
        kit.sender.begin(kit.fd, [kit.message(1)])
    kit.sender.cancel()


def test_it_ends_in_the_middle_of_a_job(kit: Kit) -> None:
    kit.sender.begin(kit.fd, [kit.message(1)] * 9)
    kit.sender.post(bytes(1000))
    kit.sender.close()
    sent = b""
    kit.ours.close()
    while more := kit.peer.recv(1 << 20):
        sent += more
    assert len(sent) < 9 * (HEADER_SIZE + SIZE)
