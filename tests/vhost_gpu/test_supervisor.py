"""The supervisor with a scripted session program: sessions side by side, the spare one, what they get, the end."""

import asyncio
import json
import logging
import os
import socket

import pytest

from tests.vhost_gpu.supervisorkit import LIMIT, ask, daemons, gone, shorten_limits
from vhost_gpu.listen import VHOST_USER


@pytest.fixture
async def start(tmp_path):
    async with daemons(tmp_path) as function:
        yield function


@pytest.fixture
def short(monkeypatch):
    shorten_limits(monkeypatch)


async def test_sessions_at_once_and_one_after_another(start):
    daemon = start()
    first, name = await daemon.vmm()
    assert name == b"session-1"
    _, name = await daemon.vmm()
    assert name == b"session-2"
    await daemon.notifier.reaches("2 sessions, 0 viewers")
    first.close()
    await daemon.notifier.reaches("1 session, 0 viewers")
    assert (await daemon.vmm())[1] == b"session-3"


async def test_the_spare_process_takes_the_first_connection_only(start):
    daemon = start(spare=True)
    spare = daemon.resources.spare.pid
    await daemon.vmm()
    assert daemon.supervisor.find_session("session-1").pid == spare
    await daemon.vmm()
    assert daemon.supervisor.find_session("session-2").pid != spare


async def test_a_spare_that_died_is_replaced(start):
    daemon = start(spare=True)
    spare = daemon.resources.spare
    spare.kill()
    os.waitid(os.P_PIDFD, spare.pidfd, os.WEXITED | os.WNOWAIT)
    assert (await daemon.vmm())[1] == b"session-1"


async def test_an_unused_spare_ends_with_the_daemon(start):
    daemon = start(spare=True)
    await daemon.notifier.expect("READY=1")


async def test_a_session_program_that_cannot_run_costs_that_connection(start, caplog):
    daemon = start(command=["/nonexistent/program"])
    assert await gone(daemon.client(daemon.vhost_user))
    assert "cannot start a session process" in caplog.text


async def test_a_session_process_gets_its_channel_and_nothing_else(start, monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    with open(tmp_path / "secret", "w"):
        daemon = start()
        sock, answer = await daemon.vmm(b"f")
    links = {int(fd): link for fd, link in json.loads(answer).items()}
    assert links[0] == "/dev/null"
    assert links[3].startswith("socket:")
    assert not any("secret" in link or "vm.sock" in link for link in links.values())
    assert sum(link.startswith("socket:") for fd, link in links.items() if fd > 2) == 2
    environment = json.loads(await ask(sock, b"v"))
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(environment)


# ---- the end


async def test_stop_asks_sessions_and_removes_sockets(start, caplog):
    caplog.set_level(logging.INFO)
    daemon = start()
    sock, _ = await daemon.vmm()
    lobby = daemon.viewer("")
    assert await daemon.close() == 0
    assert "ended: asked to stop" in caplog.text
    assert daemon.notifier.lines[-2:] == ["STOPPING=1", "STATUS=stopping"]
    assert sock.fileno() == lobby.fileno() == -1


@pytest.mark.usefixtures("short")
async def test_stop_kills_a_session_that_does_not_stop(start, caplog):
    daemon = start()
    await daemon.vmm(b"h")
    assert await daemon.close() == 0
    assert "did not stop in time" in caplog.text


@pytest.mark.parametrize(("command", "code"), [(b"", 0), (b"x", 1), (b"k", 1)])
async def test_a_handed_over_connection_is_served_until_it_ends(start, command, code):
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.setblocking(False)
    daemon = start(connection=theirs)
    assert await ask(ours, b"e") == b"session-1"
    ours.send(command)
    if not command:
        ours.close()
    async with asyncio.timeout(LIMIT):
        assert await asyncio.shield(daemon.serving) == code
    ours.close()
    daemon.serving = asyncio.get_running_loop().create_future()
    daemon.serving.set_result(0)


async def test_exhausted_descriptors_pause_accepting_and_end_nothing(start, monkeypatch, caplog):
    monkeypatch.setattr("vhost_gpu.supervisor.ACCEPT_PAUSE", 0.05)
    daemon = start()
    await daemon.vmm()
    listener = daemon.resources.listeners[VHOST_USER]

    class Exhausted:
        """Refuses once, as accept(2) does without descriptors."""

        def fileno(self):
            return listener_sock.fileno()

        def accept(self):
            listener.sock = listener_sock
            raise OSError(24, "Too many open files")

    listener_sock, listener.sock = listener.sock, Exhausted()
    assert (await daemon.vmm())[1] == b"session-2"
    assert "cannot accept a vhost-user connection" in caplog.text
