"""Viewers until a session has them: routed, kept in the lobby, refused; hostile ones too."""

import os
import socket

import pytest

from protocol import viewer as vp
from tests.vhost_gpu.supervisorkit import daemons, gone, receive, shorten_limits
from vhost_gpu import viewers


@pytest.fixture
async def start(tmp_path):
    async with daemons(tmp_path) as function:
        yield function


@pytest.fixture
def short(monkeypatch):
    shorten_limits(monkeypatch)


async def test_a_viewer_gets_the_newest_session_or_the_one_it_names(start):
    daemon = start()
    await daemon.vmm()
    await daemon.vmm()
    for name in ("", "session-1", "session-2"):
        assert isinstance(vp.decode_from_daemon(await receive(daemon.viewer(name))), vp.Welcome)
    await daemon.notifier.reaches("2 sessions, 3 viewers")
    assert daemon.supervisor.find_session("session-1").viewers == 1
    assert daemon.supervisor.find_session("session-2").viewers == 2


async def test_a_viewer_waits_in_the_lobby_for_the_first_session(start):
    daemon = start()
    viewer = daemon.viewer()
    leaver = daemon.viewer()
    leaver.close()
    await daemon.vmm()
    assert isinstance(vp.decode_from_daemon(await receive(viewer)), vp.Welcome)
    await daemon.notifier.reaches("1 session, 1 viewer")


async def test_viewers_of_a_dead_session_are_closed(start):
    daemon = start()
    sock, _ = await daemon.vmm()
    viewer = daemon.viewer()
    await receive(viewer)
    sock.send(b"k")
    assert await gone(viewer)
    await daemon.notifier.reaches("0 sessions, 0 viewers")


def error_of(packet):
    message = vp.decode_from_daemon(packet)
    assert isinstance(message, vp.Error)
    return message.code


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (vp.encode(vp.Hello("session-9")), vp.ErrorCode.NO_SESSION),
        (vp.encode(vp.Hello("", vp.VERSION + 1)), vp.ErrorCode.VERSION),
        (vp.encode(vp.FrameDone(0, 1)), vp.ErrorCode.PROTOCOL),
        (vp.encode(vp.Welcome(1, "x")), vp.ErrorCode.PROTOCOL),
        (b"x", vp.ErrorCode.PROTOCOL),
        (b"\xff" * 1024, vp.ErrorCode.PROTOCOL),
        (b"\x00" * 200_000, vp.ErrorCode.PROTOCOL),
    ],
)
async def test_a_viewer_that_says_wrong_is_told_and_closed(start, packet, code):
    daemon = start()
    await daemon.vmm()
    viewer = daemon.client(daemon.display, socket.SOCK_SEQPACKET)
    viewer.send(packet)
    assert error_of(await receive(viewer)) == code
    assert await gone(viewer)
    assert (await daemon.vmm())[1] == b"session-2"


async def test_descriptors_of_a_viewer_are_not_taken(start):
    daemon = start()
    reader, writer = os.pipe()
    viewer = daemon.client(daemon.display, socket.SOCK_SEQPACKET)
    socket.send_fds(viewer, [vp.encode(vp.Hello("nobody"))], [writer])
    os.close(writer)
    assert error_of(await receive(viewer)) == vp.ErrorCode.NO_SESSION
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.usefixtures("short")
async def test_a_silent_viewer_is_closed_in_time(start):
    daemon = start()
    viewer = daemon.client(daemon.display, socket.SOCK_SEQPACKET)
    assert error_of(await receive(viewer)) == vp.ErrorCode.PROTOCOL
    assert await gone(viewer)


async def test_a_flood_of_silent_viewers_keeps_none_out(start):
    daemon = start()
    await daemon.vmm()
    flood = [daemon.client(daemon.display, socket.SOCK_SEQPACKET) for _ in range(viewers.MAX_PENDING + 30)]
    assert isinstance(vp.decode_from_daemon(await receive(daemon.viewer())), vp.Welcome)
    for sock in flood[:30]:
        assert await gone(sock)


async def test_the_lobby_is_bounded(start):
    daemon = start()
    waiting = [daemon.viewer() for _ in range(viewers.MAX_LOBBY)]
    assert error_of(await receive(daemon.viewer())) == vp.ErrorCode.BUSY
    waiting[0].send(b"x")
    assert error_of(await receive(waiting[0])) == vp.ErrorCode.PROTOCOL
