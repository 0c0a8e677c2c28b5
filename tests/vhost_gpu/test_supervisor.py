"""The supervisor with a scripted session program: lives, deaths, viewers, the end."""

import asyncio
import json
import logging
import os
import socket
import sys
from pathlib import Path

import pytest

from protocol import viewer as vp
from vhost_gpu import listen, sessions, viewers
from vhost_gpu.listen import DISPLAY, VHOST_USER
from vhost_gpu.notify import Notifier
from vhost_gpu.options import Options
from vhost_gpu.spawn import spawn
from vhost_gpu.supervisor import Resources, Supervisor

FAKE_SESSION = [sys.executable, str(Path(__file__).with_name("fake_session.py"))]
LIMIT = 20  # seconds, for a test that goes wrong


class RecordingNotifier(Notifier):
    """Keeps what systemd would be told; ``expect`` waits for it."""

    def __init__(self, watchdog_interval: float | None = None) -> None:
        super().__init__({})
        self.watchdog_interval = watchdog_interval
        self.lines: list[str] = []
        self._news = asyncio.Event()

    def _send(self, *lines: str) -> None:
        self.lines += lines
        self._news.set()

    async def reaches(self, status: str) -> None:
        """Waits until this is the newest status text."""
        async with asyncio.timeout(LIMIT):
            while [line for line in self.lines if line.startswith("STATUS=")][-1:] != [f"STATUS={status}"]:
                self._news.clear()
                await self._news.wait()

    async def expect(self, line: str, count: int = 1) -> None:
        async with asyncio.timeout(LIMIT):
            while self.lines.count(line) < count:
                self._news.clear()
                await self._news.wait()


class Daemon:
    """A supervisor that runs on the test's loop."""

    def __init__(self, tmp_path, *, spare=False, command=FAKE_SESSION, connection=None, watchdog=None):
        self.vhost_user = str(tmp_path / "vm.sock")
        self.display = str(tmp_path / "vm.display")
        self.resources = Resources({DISPLAY: listen.bind(DISPLAY, self.display)}, connection)
        if connection is None:
            self.resources.listeners[VHOST_USER] = listen.bind(VHOST_USER, self.vhost_user)
        if spare:
            self.resources.spare = spawn(command)
        self.notifier = RecordingNotifier(watchdog)
        self.supervisor = Supervisor(Options(), self.resources, self.notifier, command)
        self.serving = asyncio.create_task(self.supervisor.serve())
        self.clients: list[socket.socket] = []

    def client(self, path, kind=socket.SOCK_STREAM):
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.setblocking(False)
        sock.connect(path)
        self.clients.append(sock)
        return sock

    async def vmm(self, command=b"e"):
        """A new VMM connection and the answer to its first command."""
        sock = self.client(self.vhost_user)
        return sock, await ask(sock, command)

    def viewer(self, session=""):
        sock = self.client(self.display, socket.SOCK_SEQPACKET)
        sock.send(vp.encode(vp.Hello(session)))
        return sock

    async def close(self):
        self.supervisor.stop()
        async with asyncio.timeout(LIMIT):
            code = await self.serving
        self.resources.close()
        for sock in self.clients:
            sock.close()
        return code


async def receive(sock, size=65536):
    async with asyncio.timeout(LIMIT):
        return await asyncio.get_running_loop().sock_recv(sock, size)


async def ask(sock, command):
    await asyncio.get_running_loop().sock_sendall(sock, command)
    return await receive(sock)


async def gone(sock):
    """Waits until the peer's end of the connection is closed."""
    try:
        return await receive(sock) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
async def start(tmp_path):
    """Starts a daemon; it is stopped at the end, and must end well and leave nothing."""
    daemons = []

    def start(**options):
        daemons.append(Daemon(tmp_path, **options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        assert await daemon.close() == 0
    assert [name for name in os.listdir(tmp_path) if name.startswith("vm")] == []


@pytest.fixture
def short(monkeypatch):
    """Time limits that a test can wait for."""
    for name in ("PING_TIMEOUT", "START_TIMEOUT", "EXIT_TIMEOUT"):
        monkeypatch.setattr(sessions, name, 0.2)
    monkeypatch.setattr(viewers, "HELLO_TIMEOUT", 0.2)


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


# ---- viewers


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
