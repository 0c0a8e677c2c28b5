"""A device with VirGL whose session process is looked at from outside: what a guest's 3D commands do to it.

``victims`` starts a daemon; each ``Victim`` is a guest with a session process of its own, and can tell whether that
process still works and what it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import struct
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from protocol.virgl import CommandStream
from protocol.virgl_const import Bind, ClearBuffer, Target
from protocol.virgl_format import VirglFormat
from protocol.virgl_state import Surface
from protocol.virtio_gpu import (
    HEADER_SIZE,
    Command,
    ControlHeader,
    Format,
    ResourceCreate2d,
    ResourceUnref,
    ResponseType,
)
from tests.vhost_gpu.wildstreams import SHAPES, Resources
from vhost_gpu.guest.command_queue import DeviceStopped
from vhost_gpu.guest.driver import GuestError, GuestGpu
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, BackedResource, Context, Gpu3d
from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.ring import Segment
from vhost_gpu.guest.vmm import VmmOptions

LIMIT = 20
SIDE = 16
FORMAT = VirglFormat.B8G8R8A8_UNORM
DRAWABLE = Bind.RENDER_TARGET | Bind.SAMPLER_VIEW
HOSTMEM_MIB = 80
_BACKING = 1 << 16
OK = ResponseType.OK_NODATA
BAD_PARAMETER = ResponseType.ERR_INVALID_PARAMETER
BAD_RESOURCE = ResponseType.ERR_INVALID_RESOURCE_ID
BAD_CONTEXT = ResponseType.ERR_INVALID_CONTEXT_ID
NO_MEMORY = ResponseType.ERR_OUT_OF_MEMORY
UNSPECIFIED = ResponseType.ERR_UNSPEC


class Victim:
    """A guest and its session process ``pid``."""

    def __init__(self, gpu: GuestGpu, pid: int) -> None:
        self.gpu = gpu
        self.gpu3d = Gpu3d(gpu)
        self.pid = pid

    # -- commands

    async def answer(self, command: Command | bytes, *, ctx: int = 0, **more: int | None) -> int:
        """What a command is answered with: a response's type."""
        future = self.gpu.post(command, ctx=ctx, **more)  # type: ignore[arg-type]
        self.gpu.kick()
        async with asyncio.timeout(LIMIT):
            reply = await future
        assert len(reply) == HEADER_SIZE
        return ControlHeader.decode(reply).type

    async def answers(self, *commands: tuple[Command, int]) -> list[int]:
        """The same for commands with their contexts, all sent at once."""
        futures = [self.gpu.post(command, ctx=ctx) for command, ctx in commands]
        self.gpu.kick()
        async with asyncio.timeout(LIMIT):
            replies = await asyncio.gather(*futures)
        return [ControlHeader.decode(reply).type for reply in replies]

    async def texture(self, width: int = SIDE, height: int = SIDE) -> BackedResource:
        """A picture that can be drawn on, with backing."""
        return await BackedResource.create(self.gpu3d, Target.TEXTURE_2D, FORMAT, DRAWABLE, width, height)

    async def serves(self) -> None:
        """3D works: a picture is cleared to a colour and read back; and 2D, and both queues."""
        picture = await self.texture()
        async with await self.gpu3d.context("checks", ctx_id=0x7777) as context:
            await context.attach(picture.resource_id)
            await context.submit(clearing(picture.resource_id))
            assert await picture.download() == bytes((255, 0, 255, 255)) * (SIDE * SIDE)
        await picture.destroy()
        plain = await self.gpu.create_2d(8, 8)
        await self.gpu.unref(plain)
        await self.gpu.move_cursor(3, 4)

    # -- what the process holds

    async def room(self) -> int:
        """The width of the widest 2D resource that the budget has room for, found by trying."""
        low, high = 0, HOSTMEM_MIB << 18
        while high - low > 1:
            middle = (low + high) // 2
            if await self._fits(middle):
                low = middle
            else:
                high = middle
        return low

    async def _fits(self, width: int) -> bool:
        made = await self.answer(ResourceCreate2d(0xFFFFFF, Format.B8G8R8A8_UNORM, width, 1))
        if made == OK:
            assert await self.answer(ResourceUnref(0xFFFFFF)) == OK
        return made == OK

    def alive(self) -> bool:
        """Whether the process runs."""
        return Path(f"/proc/{self.pid}").exists()

    def fds(self) -> int:
        """Open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        """Threads."""
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def resident(self) -> int:
        """Bytes of private memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024


def clearing(resource: int, handle: int = 0x9000) -> bytes:
    """A stream that fills a picture with magenta."""
    stream = CommandStream()
    stream.create_object(handle, Surface(resource, FORMAT))
    stream.set_framebuffer([handle])
    stream.clear(ClearBuffer.COLOR0, (1.0, 0.0, 1.0, 1.0))
    return bytes(stream.data)


async def tried(context: Context, stream: bytes) -> bool:
    """Submits with a fence. Whether the device took it; raises DeviceStopped when it is gone."""
    async with asyncio.timeout(LIMIT):
        with contextlib.suppress(GuestError):
            await context.submit(stream)
            return True
    return False


def submit_header(ctx: int, size: int, padding: int = 0) -> bytes:
    """struct virtio_gpu_cmd_submit with a size of one's own choice."""
    return ControlHeader(0x0207, 0, 0, ctx).encode() + struct.pack("<II", size, padding)


class Daemon:
    """A running daemon; its words are in the file ``log``."""

    def __init__(self, process: Process, folder: Path) -> None:
        self.process = process
        self.path = folder / "gpu.sock"
        self.log = folder / "log"
        self._names: dict[int, str] = {}
        """Of the sessions that were connected, by process."""
        self._pidfds: list[int] = []
        self._guests: list[GuestGpu] = []

    async def connect(self, memory: GuestMemory | None = None, options: VmmOptions | None = None) -> Victim:
        """A guest with a session process of its own."""
        gpu = await GuestGpu.open(self.path, memory, options, features=VIRGL_FEATURES)
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        sessions = {int(child) for child in children if _renders(int(child))}
        (pid,) = sessions - set(self._names)
        self._names[pid] = f"session-{len(self._names) + 1}"
        self._watch(pid, gpu)
        self._guests.append(gpu)
        return Victim(gpu, pid)

    def _watch(self, pid: int, gpu: GuestGpu) -> None:
        """What a session that is gone has not answered fails."""
        loop = asyncio.get_running_loop()
        watched = os.pidfd_open(pid)
        self._pidfds.append(watched)

        def gone() -> None:
            loop.remove_reader(watched)
            for queue in gpu.queues:
                queue.abandon()

        loop.add_reader(watched, gone)

    async def died(self, victim: Victim) -> None:
        """Waits until the daemon has said why that session's process is gone, by a signal."""
        pattern = rf"{self._names[victim.pid]}: killed by SIG"
        await until(lambda: re.search(pattern, self.words()))

    def close(self) -> None:
        """Ends all guests."""
        for guest in self._guests:
            guest.close()
        for watched in self._pidfds:
            asyncio.get_running_loop().remove_reader(watched)
            os.close(watched)

    def fds(self) -> int:
        """Open descriptors of the daemon itself."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def words(self) -> str:
        """Everything that was logged."""
        return self.log.read_text(errors="replace")


def _renders(pid: int) -> bool:
    try:
        return "virglrenderer" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False


async def until(condition: Callable[[], object]) -> None:
    """Looks again and again, at what another process does."""
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.005)


async def _ready(sock: socket.socket) -> None:
    """Waits for READY=1 as a service manager does (sd_notify(3))."""
    async with asyncio.timeout(LIMIT):
        while b"READY=1" not in (await asyncio.get_running_loop().sock_recv(sock, 4096)).split(b"\n"):
            pass


@asynccontextmanager
async def daemons(*options: str) -> AsyncIterator[Daemon]:
    """A daemon with --virgl and more options, which must end well."""
    with tempfile.TemporaryDirectory(prefix="vgpu-") as name:
        folder = Path(name)
        arguments = [
            "--log-level",
            "warning",
            "--socket-path",
            str(folder / "gpu.sock"),
            "--max-hostmem",
            str(HOSTMEM_MIB),
            "--virgl",
        ]
        with (folder / "log").open("wb") as log, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.setblocking(False)
            ready.bind(str(folder / "ready"))
            environment = os.environ | {"NOTIFY_SOCKET": ready.getsockname()}
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "vhost_gpu", *arguments, *options, stderr=log, env=environment
            )
            daemon = Daemon(process, folder)
            await _ready(ready)
        try:
            yield daemon
        finally:
            daemon.close()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LIMIT):
                status = await process.wait()
        assert status == 0, daemon.words()


@asynccontextmanager
async def victims(memory: GuestMemory | None = None, options: VmmOptions | None = None) -> AsyncIterator[Victim]:
    """One guest on a daemon of its own. Afterwards its process must still serve, unless the test failed."""
    async with daemons() as daemon:
        victim = await daemon.connect(memory, options)
        try:
            yield victim
            await victim.serves()
        except DeviceStopped:
            raise AssertionError(f"the session ended: {daemon.words()}") from None


async def wild_resources(victim: Victim) -> Resources:
    """What the streams of ``wildstreams`` name, with backing."""
    ids = {}
    for name, (target, format_, bind, width, more) in SHAPES.items():
        ids[name] = await victim.gpu3d.create(target, format_, bind, width, **more)
        await victim.gpu.attach_backing(ids[name], [Segment(victim.gpu.memory.alloc(_BACKING), _BACKING)])
    return Resources(**ids)
