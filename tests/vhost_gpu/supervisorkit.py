"""A supervisor on the test's loop with a scripted session program (``fake_session.py``): for tests of its parts."""

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

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


@contextlib.asynccontextmanager
async def daemons(tmp_path):
    """Gives a function that starts a daemon; each is stopped at the end, and must end well and leave nothing."""
    started = []

    def start(**options):
        started.append(Daemon(tmp_path, **options))
        return started[-1]

    yield start
    for daemon in started:
        assert await daemon.close() == 0
    assert [name for name in os.listdir(tmp_path) if name.startswith("vm")] == []


def shorten_limits(monkeypatch):
    """Time limits that a test can wait for."""
    for name in ("PING_TIMEOUT", "START_TIMEOUT", "EXIT_TIMEOUT"):
        monkeypatch.setattr(sessions, name, 0.2)
    monkeypatch.setattr(viewers, "HELLO_TIMEOUT", 0.2)
