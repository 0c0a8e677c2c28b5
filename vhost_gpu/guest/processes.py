"""The programs that the demo starts: a private daemon, the viewer, the screenshot tool.

Each is in a session of its own, so that Ctrl-C reaches the demo alone and it can end them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from vhost_gpu.guest.vmm import VmmError
from vhost_gpu.listen import display_path_beside

_START_SECONDS = 20.0
_END_SECONDS = 5.0
_VIEWER = "import sys; from frontend.cli import main; sys.exit(main())"
_SCREENSHOT = "import sys; from frontend.screenshot import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Daemon:
    """Where a daemon listens: for VMMs and for viewers."""

    socket_path: str
    display_socket: str


class Program:
    """A running program of ours."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def wait(self) -> int:
        """Its exit status, negative for a signal."""
        return await self._process.wait()

    @property
    def status(self) -> int | None:
        """The same, or None while it runs."""
        return self._process.returncode

    async def end(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def program(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> AsyncIterator[Program]:
    """Runs this interpreter with ``arguments`` and more ``environment``; the program is gone on leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    )
    running = Program(process)
    try:
        yield running
    finally:
        await running.end()


@asynccontextmanager
async def private_daemon(size: tuple[int, int] | None = None, options: Sequence[str] = ()) -> AsyncIterator[Daemon]:
    """A daemon of our own in a folder of its own; ``size``: the preferred mode. Raises VmmError."""
    resolution = [] if size is None else ["--resolution", f"{size[0]}x{size[1]}"]
    with tempfile.TemporaryDirectory(prefix="vhost-gpu-demo-") as folder:
        path = str(Path(folder) / "gpu.sock")
        daemon = Daemon(path, display_path_beside(path))
        arguments = ["-m", "vhost_gpu", "--socket-path", path, "--display-socket", daemon.display_socket]
        arguments += ["--log-level", "warning", *resolution, *options]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.setblocking(False)
            notify.bind(str(Path(folder) / "notify"))
            async with program(arguments, {"NOTIFY_SOCKET": notify.getsockname()}) as running:
                await _until_ready(running, notify)
                yield daemon


async def _until_ready(running: Program, notify: socket.socket) -> None:
    """Waits for READY=1 as a service manager does (sd_notify(3)). Raises VmmError when the daemon ends or is late."""
    ready = asyncio.create_task(_read_ready(notify))
    ended = asyncio.create_task(running.wait())
    try:
        await asyncio.wait([ready, ended], timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            reason = f"ended at once, with status {ended.result()}" if ended.done() else "does not get ready"
            raise VmmError(f"the daemon {reason}")
    finally:
        ready.cancel()
        ended.cancel()
        await asyncio.wait([ready, ended])


async def _read_ready(notify: socket.socket) -> None:
    while b"READY=1" not in (await asyncio.get_running_loop().sock_recv(notify, 4096)).split(b"\n"):
        pass


def start_viewer(display_socket: str) -> contextlib.AbstractAsyncContextManager[Program]:
    """``vhost-gpu-viewer`` on a display socket."""
    return program(["-c", _VIEWER, display_socket])


def start_screenshot(display_socket: str, path: str) -> contextlib.AbstractAsyncContextManager[Program]:
    """``vhost-gpu-screenshot`` of what is on scanout 0."""
    return program(["-c", _SCREENSHOT, display_socket, path])
