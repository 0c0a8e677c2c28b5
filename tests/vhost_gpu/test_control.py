"""The control channel: packets, descriptors, a peer that does not read, garbage."""

import asyncio
import json
import os
import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerError
from vhost_gpu.control import (
    MAX_FDS,
    ControlChannel,
    Message,
    SessionConfig,
    StateStore,
    close_fds,
    decode,
    decode_hello,
    socketpair,
)

CONFIG = SessionConfig("session-1", 2, (1280, 800), 256 << 20, 50, "info")
CONFIG_3D = replace(CONFIG, virgl=True, render_node="/dev/dri/renderD128", trace="/tmp/{name}.trace")


class End:
    """A channel whose messages are collected; descriptors are closed with it."""

    def __init__(self, sock: socket.socket) -> None:
        self.received: asyncio.Queue[tuple[Message, list[int]]] = asyncio.Queue()
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.fds: list[int] = []
        self.channel = ControlChannel(sock, self.on_message, self.closed.set_result)

    def on_message(self, message: Message, fds: list[int]) -> None:
        self.fds += fds
        if message["type"] == "refuse":
            raise PeerError("refused")
        self.received.put_nowait((message, fds))

    def close(self) -> None:
        self.channel.close()
        close_fds(self.fds)


@pytest.fixture
async def ends():
    left, right = socketpair()
    pair = End(left), End(right)
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
async def raw_and_end():
    raw, sock = socketpair()
    end = End(sock)
    yield raw, end
    raw.close()
    end.close()


async def test_start_carries_config_and_connection(ends):
    supervisor, session = ends
    reader, writer = os.pipe()
    supervisor.channel.send_start(CONFIG, writer)
    os.close(writer)
    message, fds = await session.received.get()
    assert SessionConfig.from_message(message) == CONFIG
    assert SessionConfig.from_message({"type": "start", **CONFIG_3D.to_fields()}) == CONFIG_3D
    os.write(fds[0], b"x")
    assert os.read(reader, 1) == b"x"
    assert not os.get_inheritable(fds[0])
    os.close(reader)


async def test_viewer_carries_the_hello_packet(ends):
    supervisor, session = ends
    supervisor.channel.send_viewer(b"\x00hello\xff", 0)
    message, fds = await session.received.get()
    assert decode_hello(message) == b"\x00hello\xff"
    assert len(fds) == 1


async def test_small_messages_arrive_in_order(ends):
    supervisor, session = ends
    session.channel.send_ready()
    session.channel.send_pong(7)
    session.channel.send_ended("done")
    got = [(await supervisor.received.get())[0] for _ in range(3)]
    assert got == [{"type": "ready"}, {"type": "pong", "token": 7}, {"type": "ended", "reason": "done"}]


async def test_send_queues_without_blocking_when_full(ends):
    supervisor, session = ends
    count = 400
    for index in range(count):
        supervisor.channel.send(
            {"type": "filler", "index": index, "text": "x" * 10000}, [0] if index == count - 1 else ()
        )
    assert supervisor.channel.queued > 0
    got = [await session.received.get() for _ in range(count)]
    assert [message["index"] for message, _ in got] == list(range(count))
    assert len(got[-1][1]) == 1
    assert supervisor.channel.queued == 0


async def test_newer_state_replaces_the_queued_one(ends):
    supervisor, session = ends
    for index in range(300):
        session.channel.send_state("scanouts", [index, "x" * 5000])
    assert session.channel.queued <= 1
    store = StateStore()
    while store.describe().get("scanouts", [None])[0] != 299:
        store.accept((await supervisor.received.get())[0])


async def test_large_state_goes_in_parts(ends):
    supervisor, session = ends
    value = {"entries": ['"\\' * 50] * 5000}
    session.channel.send_state("resources", value)
    store = StateStore()
    while "resources" not in store.describe():
        store.accept((await supervisor.received.get())[0])
    assert store.describe() == {"resources": value}


async def test_large_state_interrupted_by_a_newer_one(ends):
    supervisor, session = ends
    session.channel.send_state("resources", "a" * 1_200_000)
    session.channel.send_state("resources", "b" * 1_000_000)
    store = StateStore()
    while "resources" not in store.describe():
        store.accept((await supervisor.received.get())[0])
    assert store.describe()["resources"] == "b" * 1_000_000


async def test_hold_of_more_descriptors_than_a_packet_takes(ends):
    supervisor, session = ends
    session.channel.send_hold("memory", [0] * 509)
    sizes = []
    while sum(sizes) < 509:
        message, fds = await supervisor.received.get()
        assert message.get("more", False) == bool(sizes)
        sizes.append(len(fds))
    assert sizes == [MAX_FDS, MAX_FDS, 3]


async def test_too_large_a_message_is_the_callers_error(ends):
    with pytest.raises(ValueError, match="too large"):
        ends[0].channel.send({"type": "x", "text": "x" * 300_000})
    with pytest.raises(ValueError, match="too large"):
        ends[0].channel.send({"type": "x"}, [0] * (MAX_FDS + 1))
    with pytest.raises(ValueError, match="too large"):
        ends[0].channel.send_state("memory", "x" * 2_000_000)


async def test_eof_is_told_once_after_the_last_message(ends):
    supervisor, session = ends
    session.channel.send_ended("bye")
    session.channel.close()
    assert (await supervisor.received.get())[0]["reason"] == "bye"
    assert await supervisor.closed is None
    assert supervisor.channel.closed
    supervisor.channel.send_stop()


async def test_send_to_a_closed_peer_is_an_eof(ends):
    supervisor, session = ends
    session.channel.close()
    supervisor.channel.send_stop()
    assert await supervisor.closed is None


async def test_close_calls_nothing_back(ends):
    supervisor, _ = ends
    supervisor.channel.close()
    supervisor.channel.close()
    await asyncio.sleep(0)
    assert not supervisor.closed.done()


async def test_a_peer_that_never_reads_ends_the_channel(raw_and_end):
    _, end = raw_and_end
    while not end.channel.closed:
        end.channel.send({"type": "filler", "text": "x" * 250_000})
    assert isinstance(await end.closed, PeerError)


@pytest.mark.parametrize("garbage", [b"{", b"[]", b"{}", b'{"type": 5}', b"\xff\xfe", b"[" * 100_000, b"null"])
async def test_garbage_closes_the_channel(raw_and_end, garbage):
    raw, end = raw_and_end
    raw.send(garbage)
    assert isinstance(await end.closed, PeerError)


async def test_descriptors_of_garbage_are_closed(raw_and_end):
    raw, end = raw_and_end
    reader, writer = os.pipe()
    socket.send_fds(raw, [b"garbage"], [writer])
    os.close(writer)
    assert isinstance(await end.closed, PeerError)
    assert os.read(reader, 1) == b""
    os.close(reader)


async def test_an_oversized_packet_closes_the_channel(raw_and_end):
    raw, end = raw_and_end
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    raw.send(json.dumps({"type": "x", "text": "x" * 300_000}).encode())
    assert isinstance(await end.closed, PeerError)


async def test_a_peer_error_of_the_handler_closes_the_channel(raw_and_end):
    raw, end = raw_and_end
    raw.send(b'{"type": "refuse"}')
    assert str(await end.closed) == "refused"


@given(st.binary(max_size=200))
def test_decode_accepts_or_raises_peer_error(data):
    try:
        message = decode(data)
    except PeerError:
        return
    assert isinstance(message["type"], str)


_JSON = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers() | st.text(max_size=2), max_size=3)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("name", "max_outputs", "resolution", "max_hostmem", "poll_us"), _JSON)
    )
)
def test_config_of_any_message_parses_or_raises_peer_error(fields):
    try:
        SessionConfig.from_message({"type": "start", **fields})
    except PeerError:
        return
    pytest.fail("log_level is missing")


@pytest.mark.parametrize("hello", [5, None, "not base64!", "YQ", "\u00e9"])
def test_bad_hello(hello):
    with pytest.raises(PeerError):
        decode_hello({"type": "viewer", "hello": hello})


@pytest.mark.parametrize(
    "fields",
    [
        {"key": "other", "value": 1},
        {"value": 1},
        {"key": "memory", "part": 1, "parts": 2, "text": ""},
        {"key": "memory", "part": 0, "parts": 17, "text": ""},
        {"key": "memory", "part": 0, "parts": 0, "text": ""},
        {"key": "memory", "part": -1, "parts": 2, "text": ""},
        {"key": "memory", "part": 0, "parts": 2, "text": 5},
        {"key": "memory", "part": True, "parts": 2, "text": ""},
    ],
)
def test_bad_state(fields):
    with pytest.raises(PeerError):
        StateStore().accept({"type": "state", **fields})


def test_state_parts_that_are_no_json_are_left_out():
    store = StateStore()
    assert store.accept({"type": "state", "key": "memory", "part": 0, "parts": 1, "text": "{"}) == "memory"
    store.accept({"type": "state", "key": "display", "value": {"open": True}})
    assert store.describe() == {"display": {"open": True}}
    assert store.sizes() == {"memory": 1, "display": 13}


async def test_a_peer_that_closes_with_something_unread_has_its_last_word_heard(raw_and_end):
    raw, end = raw_and_end
    end.channel.send_ping(1)  # never read: the kernel reports ECONNRESET when the peer closes
    raw.send(json.dumps({"type": "ended", "reason": "done"}).encode())
    raw.close()
    message, _ = await end.received.get()
    assert message["reason"] == "done"
    assert await end.closed is None
