"""One session as the supervisor sees it: how it ends, what is held for it, whether it answers."""

import asyncio
import logging
import os
import socket

import pytest

from protocol.errors import PeerError
from tests.vhost_gpu.supervisorkit import FAKE_SESSION, LIMIT, ask, daemons, gone, shorten_limits
from vhost_gpu.sessions import MAX_HELD, HeldDescriptors, describe_exit


@pytest.fixture
async def start(tmp_path):
    async with daemons(tmp_path) as function:
        yield function


@pytest.fixture
def short(monkeypatch):
    shorten_limits(monkeypatch)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (b"x", "exited with code 3"),
        (b"k", "killed by SIGKILL"),
        (b"g", "killed by SIGKILL (broke the control channel: control message is not JSON)"),
    ],
)
async def test_a_session_that_dies_is_logged_and_harms_no_other(start, caplog, command, said):
    daemon = start()
    other, _ = await daemon.vmm()
    victim, _ = await daemon.vmm()
    victim.send(command)
    assert await gone(victim)
    await daemon.notifier.reaches("1 session, 0 viewers")
    assert await ask(other, b"e") == b"session-1"
    record = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.name == "session-2"
    assert said in record.getMessage()


async def test_what_a_dead_session_held_is_closed_and_named(start, caplog):
    daemon = start()
    sock = daemon.client(daemon.vhost_user)
    await asyncio.get_running_loop().sock_sendall(sock, b"d")
    await asyncio.get_running_loop().sock_recv(sock, 0)
    readable = asyncio.Event()
    asyncio.get_running_loop().add_reader(sock, readable.set)
    async with asyncio.timeout(LIMIT):
        await readable.wait()
    asyncio.get_running_loop().remove_reader(sock)
    _, fds, _, _ = socket.recv_fds(sock, 1, 1)
    reader = fds[0]
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    sock.send(b"k")
    await daemon.notifier.reaches("0 sessions, 0 viewers")
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert "held descriptors: memory 1; described state: memory 7 B" in caplog.text


@pytest.mark.usefixtures("short")
async def test_a_hanging_session_is_found_when_a_viewer_comes(start, caplog):
    daemon = start()
    sock, _ = await daemon.vmm(b"h")
    viewer = daemon.viewer()
    assert await gone(sock)
    assert await gone(viewer)
    await daemon.notifier.reaches("0 sessions, 0 viewers")
    assert "does not answer" in caplog.text


@pytest.mark.usefixtures("short")
async def test_the_watchdog_tick_finds_a_hanging_session(start, caplog):
    daemon = start(watchdog=0.05)
    other, _ = await daemon.vmm()
    sock, _ = await daemon.vmm(b"h")
    assert await gone(sock)
    await daemon.notifier.expect("WATCHDOG=1", daemon.notifier.lines.count("WATCHDOG=1") + 2)
    assert await ask(other, b"e") == b"session-1"
    assert "does not answer" in caplog.text


@pytest.mark.usefixtures("short")
async def test_a_session_that_never_gets_ready_is_ended(start, caplog):
    daemon = start(command=[*FAKE_SESSION, "--mute"])
    sock = daemon.client(daemon.vhost_user)
    assert await gone(sock)
    await daemon.notifier.reaches("0 sessions, 0 viewers")
    assert "did not start in time" in caplog.text


@pytest.mark.usefixtures("short")
async def test_a_session_that_closes_its_channel_and_stays_is_ended(start, caplog):
    daemon = start()
    sock = daemon.client(daemon.vhost_user)
    sock.send(b"c")
    assert await gone(sock)
    await daemon.notifier.reaches("0 sessions, 0 viewers")
    assert "closed its control channel" in caplog.text


def pipe_end(closing):
    """A descriptor to hold, and the reader that tells when it was closed."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    closing.append(reader)
    return writer


def is_closed(reader):
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def readers():
    opened = []
    yield opened
    for reader in opened:
        os.close(reader)


def test_held_descriptors_are_replaced_extended_and_let_go(readers):
    held = HeldDescriptors()
    fds = [pipe_end(readers) for _ in range(4)]
    held.accept({"type": "hold", "key": "memory"}, fds[:1])
    held.accept({"type": "hold", "key": "memory", "more": True}, fds[1:2])
    held.accept({"type": "hold", "key": "display"}, fds[2:3])
    assert held.sizes() == {"memory": 2, "display": 1}
    held.accept({"type": "hold", "key": "memory"}, fds[3:])
    assert [is_closed(reader) for reader in readers] == [True, True, False, False]
    held.accept({"type": "hold", "key": "display"}, [])
    assert held.sizes() == {"memory": 1}
    held.close()
    assert all(is_closed(reader) for reader in readers)
    assert len(held) == 0


@pytest.mark.parametrize("message", [{"key": "other"}, {"key": 5}, {}])
def test_a_hold_that_is_refused_closes_its_descriptors(readers, message):
    held = HeldDescriptors()
    with pytest.raises(PeerError):
        held.accept({"type": "hold", **message}, [pipe_end(readers)])
    assert is_closed(readers[0])


def test_held_descriptors_are_bounded(readers):
    held = HeldDescriptors()
    held.accept({"type": "hold", "key": "memory"}, [pipe_end(readers)])
    with pytest.raises(PeerError, match="too many"):
        held.accept({"type": "hold", "key": "display"}, list(range(100_000, 100_000 + MAX_HELD)))
    assert held.sizes() == {"memory": 1}
    held.close()


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exited with code 0"), (-11, "killed by SIGSEGV"), (-63, "killed by signal 63")]
)
def test_describe_exit(code, words):
    assert describe_exit(code) == words
