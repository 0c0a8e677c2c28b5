"""A virtio-gpu driver (virtio 1.3, 5.7; ``linux/virtio_gpu.h``) for the 2D commands, over a VMM connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from protocol.virtio_gpu import (
    DISPLAY_INFO_SIZE,
    EDID_SIZE,
    HEADER_SIZE,
    MAX_SCANOUTS,
    Command,
    DisplayOne,
    Feature,
    Format,
    GetDisplayInfo,
    GetEdid,
    HeaderFlag,
    MemEntry,
    MoveCursor,
    Rect,
    ResourceAttachBacking,
    ResourceCreate2d,
    ResourceDetachBacking,
    ResourceFlush,
    ResourceUnref,
    Response,
    ResponseType,
    SetScanout,
    TransferToHost2d,
    UpdateCursor,
)
from vhost_gpu.guest.command_queue import CommandQueue
from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.ring import Segment
from vhost_gpu.guest.vmm import VmmConnection, VmmOptions

F_INDIRECT_DESC = 1 << 28
F_EVENT_IDX = 1 << 29
F_VERSION_1 = 1 << 32
F_RING_PACKED = 1 << 34
F_IN_ORDER = 1 << 35
F_RING_RESET = 1 << 40
LINUX_FEATURES = 1 << Feature.EDID | F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1 | F_RING_RESET
"""What Linux's driver acknowledges under QEMU 10; ``| F_RING_PACKED`` with ``packed=on``, ``| F_IN_ORDER`` if newer."""
_OPTIONAL = 1 << Feature.VIRGL | 1 << Feature.RESOURCE_UUID | 1 << Feature.RESOURCE_BLOB | 1 << Feature.CONTEXT_INIT
PLAIN_FEATURES = 1 << Feature.EDID | F_VERSION_1
"""The least that a driver may acknowledge and still ask for the EDID."""


class GuestError(Exception):
    """The device refused a command; ``type`` is the response's type, a ResponseType when it is a known one."""

    def __init__(self, type_: int, command: str) -> None:
        super().__init__(f"{command} was answered with {_type_name(type_)}")
        self.type = type_


class DeviceFault(Exception):
    """The device broke its contract: no whole response, or not the request's fence."""


def _type_name(type_: int) -> str:
    try:
        return ResponseType(type_).name
    except ValueError:
        return f"{type_:#x}"


def _make_queue(memory: GuestMemory, size: int, features: int) -> CommandQueue:
    return CommandQueue(
        memory,
        size,
        indirect=bool(features & F_INDIRECT_DESC),
        event_idx=bool(features & F_EVENT_IDX),
        packed=bool(features & F_RING_PACKED),
        in_order=bool(features & F_IN_ORDER),
    )


class GuestGpu:
    """The driver. :meth:`open` gives a started one; :meth:`close` or ``async with`` ends it.

    Every command is sent at once and answered in its own time, so any number can be in flight; commands on one queue
    are executed in the order of the calls. Raises GuestError when the device answers with an error,
    ``command_queue.DeviceStopped`` when it is reset or closed first. ``features`` that it acknowledges decide on its
    rings: F_RING_PACKED, F_IN_ORDER, F_INDIRECT_DESC, F_EVENT_IDX.
    """

    def __init__(self, vmm: VmmConnection, features: int = LINUX_FEATURES) -> None:
        """Takes over a negotiated connection; nothing is sent before :meth:`start`."""
        self.vmm = vmm
        self.features = features & (vmm.features | ~_OPTIONAL)
        """What is acknowledged: no 3D that the device does not have."""
        self.memory = vmm.memory
        acked = vmm.order.acknowledged(features, vmm.features)
        self.queues = [_make_queue(self.memory, size, acked) for size in vmm.options.queue_sizes]
        self.control, self.cursor = self.queues
        self._own_memory = False
        self._next_id = 0
        self._next_fence = 0
        self._readers: list[int] = []
        self._closed = False

    @classmethod
    async def open(
        cls,
        target: str | Path | int | socket.socket,
        memory: GuestMemory | None = None,
        options: VmmOptions | None = None,
        *,
        features: int = LINUX_FEATURES,
    ) -> Self:
        """Connects, negotiates and starts. Without ``memory`` it makes 64 MiB of its own, gone with :meth:`close`."""
        own = GuestMemory() if memory is None else memory
        try:
            vmm = await VmmConnection.connect(target, own, options)
            try:
                await vmm.negotiate()
                gpu = cls(vmm, features)
            except BaseException:
                vmm.close()
                raise
            try:
                await gpu.start()
            except BaseException:
                gpu.close()  # its eventfds are watched: they must not be closed under the loop
                raise
            gpu._own_memory = memory is None
        except BaseException:
            if memory is None:
                own.close()
            raise
        return gpu

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- life ----

    async def start(self) -> None:
        """DRIVER_OK, also to go on after :meth:`stop` or to begin again after :meth:`reset`."""
        loop = asyncio.get_running_loop()
        for queue, vring in zip(self.queues, self.vmm.vrings, strict=True):
            queue.kick_fd = vring.kick
            if vring.call not in self._readers:
                loop.add_reader(vring.call, self._on_call, vring.call)
                self._readers.append(vring.call)
        await self.vmm.start([queue.ring for queue in self.queues], self.features)

    async def stop(self) -> None:
        """The VM is paused: what is in flight stays in flight. Go on with :meth:`start`."""
        if not self.vmm.order.keeps_base:
            raise ValueError(f"{self.vmm.order.name} has no way to stop a device and go on")
        await self.vmm.stop()

    async def reset(self) -> None:
        """The guest reboots: requests in flight fail, resource ids begin at 1 again. Then :meth:`start`."""
        await self.vmm.reset()
        for queue in self.queues:
            queue.reset()
        self._next_id = 0

    def close(self) -> None:
        """Ends the connection and fails what is in flight. Twice does no harm."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        for fd in self._readers:
            loop.remove_reader(fd)
        self.vmm.close()
        for queue in self.queues:
            queue.release()
        if self._own_memory:
            self.memory.close()

    def _on_call(self, fd: int) -> None:
        """An interrupt. Both queues are looked at, since they may share one eventfd."""
        with contextlib.suppress(BlockingIOError):  # the other queue's handler has read the shared one
            os.eventfd_read(fd)
        self.harvest()

    def harvest(self) -> None:
        """Completes what came back: for a guest that polls."""
        for queue in self.queues:
            queue.harvest()

    # ---- any command ----

    async def command(
        self,
        command: Command | bytes,
        *,
        reply_size: int = HEADER_SIZE,
        fence: int | None = None,
        ctx: int = 0,
        ring: int | None = None,
        queue: CommandQueue | None = None,
        cuts: Sequence[int] = (),
        reply_cuts: Sequence[int] = (),
    ) -> Response:
        """Sends a command, or any bytes, and returns the response. ``fence``: asks for it, checks that it comes back.

        ``ctx``: the context that the command is for; ``ring``: the context's timeline that the fence is on, none for
        the device's own. ``cuts`` and ``reply_cuts``: how request and reply are split into descriptors. Raises
        GuestError, DeviceFault.
        """
        future = self.post(
            command,
            reply_size=reply_size,
            fence=fence,
            ctx=ctx,
            ring=ring,
            queue=queue,
            cuts=cuts,
            reply_cuts=reply_cuts,
        )
        self.kick()
        return checked(await future, _name(command), fence)

    def post(
        self,
        command: Command | bytes,
        *,
        reply_size: int = HEADER_SIZE,
        fence: int | None = None,
        ctx: int = 0,
        ring: int | None = None,
        queue: CommandQueue | None = None,
        cuts: Sequence[int] = (),
        reply_cuts: Sequence[int] = (),
    ) -> asyncio.Future[bytes]:
        """Queues a command without a kick; the future gives the reply's bytes, for :func:`checked`."""
        data = _encode(command, fence, ctx, ring) if isinstance(command, Command) else command
        return (queue or self.control).post(data, reply_size, cuts=cuts, reply_cuts=reply_cuts)

    async def batch(self, commands: Iterable[Command], *, fenced: bool = False) -> list[Response]:
        """Sends commands with one kick and waits for all responses; ``fenced``: a fence on the last one."""
        todo = list(commands)
        fences = [self.next_fence() if fenced and i == len(todo) - 1 else None for i in range(len(todo))]
        futures = [self.post(command, fence=fence) for command, fence in zip(todo, fences, strict=True)]
        self.kick()
        replies = await asyncio.gather(*futures)
        return [
            checked(reply, _name(command), fence) for reply, command, fence in zip(replies, todo, fences, strict=True)
        ]

    def kick(self) -> None:
        """Publishes what was posted."""
        for queue in self.queues:
            queue.kick()

    def next_id(self) -> int:
        """A resource id that was not used since the last reset."""
        self._next_id += 1
        return self._next_id

    def next_fence(self) -> int:
        """A fence id that was not used before."""
        self._next_fence += 1
        return self._next_fence

    # ---- the 2D commands ----

    async def display_info(self) -> tuple[DisplayOne, ...]:
        """GET_DISPLAY_INFO: a mode for each of the device's scanouts (for 16 where the VMM itself decides how many)."""
        response = await self.command(GetDisplayInfo(), reply_size=HEADER_SIZE + DISPLAY_INFO_SIZE)
        return response.display_info()[: self.vmm.config.num_scanouts or MAX_SCANOUTS]

    async def edid(self, scanout: int = 0) -> bytes:
        """GET_EDID."""
        return (await self.command(GetEdid(scanout), reply_size=HEADER_SIZE + EDID_SIZE)).edid()

    async def create_2d(
        self, width: int, height: int, format_: int = Format.B8G8R8X8_UNORM, *, resource_id: int | None = None
    ) -> int:
        """RESOURCE_CREATE_2D; returns the id, a new one unless given."""
        number = self.next_id() if resource_id is None else resource_id
        await self.command(ResourceCreate2d(number, format_, width, height))
        return number

    async def unref(self, resource_id: int) -> None:
        """RESOURCE_UNREF."""
        await self.command(ResourceUnref(resource_id))

    async def attach_backing(self, resource_id: int, pieces: Sequence[Segment]) -> None:
        """RESOURCE_ATTACH_BACKING."""
        entries = b"".join(MemEntry(piece.gpa, piece.length).encode() for piece in pieces)
        await self.command(ResourceAttachBacking(resource_id, len(pieces), entries))

    async def detach_backing(self, resource_id: int) -> None:
        """RESOURCE_DETACH_BACKING."""
        await self.command(ResourceDetachBacking(resource_id))

    async def transfer(self, resource_id: int, rect: Rect, offset: int) -> None:
        """TRANSFER_TO_HOST_2D of ``rect``, whose first pixel lies at byte ``offset`` of the backing."""
        await self.command(TransferToHost2d(rect, offset, resource_id))

    async def set_scanout(self, scanout: int, resource_id: int, rect: Rect) -> None:
        """SET_SCANOUT."""
        await self.command(SetScanout(rect, scanout, resource_id))

    async def clear_scanout(self, scanout: int) -> None:
        """SET_SCANOUT with no resource."""
        await self.command(SetScanout(Rect(0, 0, 0, 0), scanout, 0))

    async def flush(self, resource_id: int, rect: Rect) -> None:
        """RESOURCE_FLUSH."""
        await self.command(ResourceFlush(rect, resource_id))

    async def update_cursor(
        self, resource_id: int, x: int = 0, y: int = 0, *, hot_x: int = 0, hot_y: int = 0, scanout: int = 0
    ) -> None:
        """UPDATE_CURSOR; resource 0 hides it. Like Linux, without room for a response."""
        await self._cursor(UpdateCursor(scanout, x, y, resource_id, hot_x, hot_y))

    async def move_cursor(self, x: int, y: int, *, scanout: int = 0) -> None:
        """MOVE_CURSOR, likewise."""
        await self._cursor(MoveCursor(scanout, x, y))

    async def _cursor(self, command: Command) -> None:
        await self.cursor.submit(command.encode(), 0)


def _name(command: Command | bytes) -> str:
    return type(command).__name__ if isinstance(command, Command) else "the request"


def _encode(command: Command, fence: int | None, ctx: int, ring: int | None) -> bytes:
    flags = (0 if fence is None else HeaderFlag.FENCE) | (0 if ring is None else HeaderFlag.INFO_RING_IDX)
    return command.encode(flags, fence or 0, ctx, ring or 0)


def checked(reply: bytes, name: str, fence: int | None = None) -> Response:
    """A reply's bytes as a response. Raises DeviceFault when it is none or not the fence's, GuestError for an error."""
    if len(reply) < HEADER_SIZE:
        raise DeviceFault(f"{name} was answered with {len(reply)} bytes")
    response = Response.decode(reply)
    if fence is not None and (response.header.fence_id, response.header.flags & HeaderFlag.FENCE) != (fence, 1):
        raise DeviceFault(f"{name} did not echo fence {fence}")
    if response.header.type >= ResponseType.ERR_UNSPEC:
        raise GuestError(response.header.type, name)
    return response
