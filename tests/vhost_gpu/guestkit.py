"""Devices to test against, and guests on them: for every test that wants a whole session.

``own_device`` is our daemon, ``qemu_device`` QEMU's back-end (the reference), both on a connected descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver import LINUX_FEATURES, GuestGpu
from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.vmm import VmmConnection, VmmOptions

QEMU_BACKEND = "/usr/lib/qemu/vhost-user-gpu"
END_SECONDS = 10


@dataclass
class DeviceProcess:
    """A device that serves one connection. ``sock``: the VMM's end of it; ``display_socket``: for viewers, if ours."""

    sock: socket.socket
    process: Process
    display_socket: str = ""

    async def wait(self) -> int:
        """Its exit status."""
        async with asyncio.timeout(END_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def _device(arguments: Sequence[str], display_socket: str = "") -> AsyncIterator[DeviceProcess]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *arguments, f"--fd={theirs.fileno()}", pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL
        )
    try:
        yield DeviceProcess(ours, process, display_socket)
    finally:
        ours.close()
        await _end(process)


async def _end(process: Process) -> None:
    """The end of the connection ends it; one that does not take the hint is killed, and the test fails."""
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise AssertionError("the device outlived its connection") from None


@asynccontextmanager
async def qemu_device() -> AsyncIterator[DeviceProcess]:
    """QEMU's own back-end."""
    async with _device([QEMU_BACKEND]) as device:
        yield device


@asynccontextmanager
async def own_device(*options: str) -> AsyncIterator[DeviceProcess]:
    """Our daemon with more command-line options."""
    with tempfile.TemporaryDirectory(prefix="vgpu-") as folder:
        display = str(Path(folder) / "t.display")
        arguments = [sys.executable, "-m", "vhost_gpu", "--display-socket", display, "--log-level", "warning", *options]
        async with _device(arguments, display) as device:
            yield device


DEVICES = {"own": own_device, "qemu": qemu_device}


@asynccontextmanager
async def guest_on(
    device: DeviceProcess,
    order: str = "qemu",
    *,
    display: VmmDisplay | None = None,
    memory: GuestMemory | None = None,
    features: int = LINUX_FEATURES,
    options: VmmOptions | None = None,
) -> AsyncIterator[GuestGpu]:
    """A started guest. ``display`` None: a well-behaved one of its own."""
    wanted = options or VmmOptions(order=order, display=display or VmmDisplay())
    gpu = await GuestGpu.open(device.sock, memory, wanted, features=features)
    watch = asyncio.ensure_future(device.process.wait())
    watch.add_done_callback(lambda _: [queue.abandon() for queue in gpu.queues])  # a dead device answers nothing
    try:
        yield gpu
    finally:
        watch.cancel()
        gpu.close()


@asynccontextmanager
async def vmm_on(
    device: DeviceProcess, memory: GuestMemory, options: VmmOptions | None = None
) -> AsyncIterator[VmmConnection]:
    """A connection without a driver, not negotiated."""
    vmm = await VmmConnection.connect(device.sock, memory, options)
    try:
        yield vmm
    finally:
        vmm.close()


def open_fds() -> int:
    """How many descriptors this process has open, those of dead objects not counted."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
