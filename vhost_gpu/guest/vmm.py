"""The VMM side of vhost-user: one connection to a back-end, driven as a VMM drives it.

:class:`VmmConnection` has a method for every message and knows what has been negotiated; *when* which message is sent
is the matter of an :class:`~vhost_gpu.guest.orders.Order` (QEMU's, crosvm's, libkrun's). :meth:`VmmConnection.request`
sends anything at all, for hostile tests.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from protocol.errors import PeerError
from protocol.vhost_user import (
    EMPTY,
    U64,
    Config,
    MemoryRegion,
    MemoryTable,
    Message,
    Payload,
    ProtocolFeature,
    ReplyDecoder,
    Request,
    SingleMemoryRegion,
    VringAddr,
    VringFd,
    VringState,
    encode,
)
from protocol.virtio_gpu import CONFIG_SIZE, GpuConfig
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.memory import GuestMemory, Region
from vhost_gpu.guest.orders import Order, order_named
from vhost_gpu.guest.packed_ring import Ring

QUEUE_SIZES = (64, 16)
"""QEMU's sizes of the control and the cursor queue."""


class VmmError(Exception):
    """The back-end answered wrongly, refused a message that wanted an acknowledgement, or did not answer in time."""


class BackendGone(VmmError):
    """The back-end closed the connection."""


@dataclass(slots=True)
class Vring:
    """What the VMM keeps of one queue. ``base`` is where the next start begins; the fds are eventfds, owned here."""

    index: int
    size: int
    kick: int
    call: int
    err: int
    ring: Ring | None = None
    base: int = 0

    def take(self, ring: Ring) -> None:
        """A ring for the next start: another one than before begins at its beginning."""
        if ring is not self.ring:
            self.ring = ring
            self.rewind()

    def rewind(self) -> None:
        """The next start begins with an empty ring."""
        self.base = 0 if self.ring is None else self.ring.first_base

    def close(self) -> None:
        """Closes the eventfds."""
        for fd in {self.kick, self.call, self.err}:
            os.close(fd)


def eventfd() -> int:
    """A non-blocking eventfd that starts at zero."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


@dataclass(slots=True)
class VmmOptions:
    """How a connection behaves; ``timeout`` in seconds bounds every wait for an answer."""

    order: str = "qemu"
    queue_sizes: Sequence[int] = QUEUE_SIZES
    mem_slots: bool = True
    """ADD_MEM_REG where the back-end offers it; else SET_MEM_TABLE."""
    timeout: float = 10.0
    protocol_features: int = -1
    """Mask over the protocol features that are acknowledged."""
    display: VmmDisplay | None = field(default_factory=VmmDisplay)


class VmmConnection:
    """One vhost-user connection, VMM side. Ends with :meth:`close`, or as an async context manager.

    Life: :meth:`connect`, :meth:`negotiate`, then any number of :meth:`start` and :meth:`stop` (or :meth:`reset`).
    """

    def __init__(self, sock: socket.socket, memory: GuestMemory, options: VmmOptions | None = None) -> None:
        """Takes over a connected stream socket. ``memory`` stays the caller's."""
        self.options = VmmOptions() if options is None else options
        self.order: Order = order_named(self.options.order)
        self.memory = memory
        self.display = self.options.display if self.order.has_display else None
        self.features = 0
        """Virtio feature bits that the back-end offered."""
        self.protocol_features = 0
        """Protocol feature bits that both sides have."""
        self.vrings = self._make_vrings()
        self.config = GpuConfig()
        """As read at the end of the negotiation."""
        self.backend_req: socket.socket | None = None
        """Our end of the back-end's request channel, if one was set up."""
        self._sock = sock
        self._sock.setblocking(False)
        self._lock = asyncio.Lock()
        self._replies = ReplyDecoder()
        self._sent_regions: list[Region] = []
        self._closed = False

    @classmethod
    async def connect(
        cls, target: str | Path | int | socket.socket, memory: GuestMemory, options: VmmOptions | None = None
    ) -> Self:
        """Connects to a socket path, or takes over a connected descriptor or socket. Raises OSError."""
        if isinstance(target, socket.socket):
            return cls(target, memory, options)
        if isinstance(target, int):
            return cls(socket.socket(fileno=target), memory, options)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, str(target))
        except BaseException:
            sock.close()
            raise
        return cls(sock, memory, options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection, the display socket and the eventfds. Twice does no harm."""
        if self._closed:
            return
        self._closed = True
        if self.display is not None:
            self.display.close()
        if self.backend_req is not None:
            self.backend_req.close()
        self._sock.close()
        for vring in self.vrings:
            vring.close()

    def _make_vrings(self) -> list[Vring]:
        shared = eventfd() if self.order.shared_call else -1
        return [
            Vring(i, size, eventfd(), eventfd() if shared < 0 else shared if i == 0 else os.dup(shared), eventfd())
            for i, size in enumerate(self.options.queue_sizes)
        ]

    # ---- life ----

    async def negotiate(self) -> None:
        """Everything up to the first start, in the order's sequence; reads the device's configuration last."""
        await self.order.negotiate(self)
        self.config = await self.order.read_config(self)

    async def start(self, rings: Sequence[Ring], features: int) -> None:
        """DRIVER_OK: hands memory, rings and eventfds over. ``features``: what the guest's driver acknowledged."""
        for vring, ring in zip(self.vrings, rings, strict=True):
            vring.take(ring)
        await self.order.start(self, self.order.acknowledged(features, self.features))

    async def stop(self) -> None:
        """Stops both queues and remembers where they were, as for ``stop`` on a VM; :meth:`start` goes on there."""
        await self.order.stop(self)

    async def reset(self) -> None:
        """Resets the device as a reboot does, up to where the new driver has read the configuration.

        The next start begins with empty rings.
        """
        await self.order.reset(self)
        for vring in self.vrings:
            vring.rewind()
        self.config = await self.order.read_config(self)

    def has(self, feature: ProtocolFeature) -> bool:
        """Whether a protocol feature was negotiated."""
        return bool(self.protocol_features & (1 << feature))

    # ---- messages ----

    async def get_features(self) -> int:
        """GET_FEATURES."""
        self.features = await self._get_u64(Request.GET_FEATURES)
        return self.features

    async def get_protocol_features(self) -> int:
        """GET_PROTOCOL_FEATURES."""
        return await self._get_u64(Request.GET_PROTOCOL_FEATURES)

    async def set_protocol_features(self, bits: int) -> None:
        """SET_PROTOCOL_FEATURES; ``bits`` are in force from here on."""
        bits &= self.options.protocol_features
        await self.request(Request.SET_PROTOCOL_FEATURES, U64(bits))
        self.protocol_features = bits

    async def set_features(self, bits: int) -> None:
        """SET_FEATURES."""
        await self.request(Request.SET_FEATURES, U64(bits))

    async def set_owner(self) -> None:
        """SET_OWNER."""
        await self.request(Request.SET_OWNER)

    async def get_queue_num(self) -> int:
        """GET_QUEUE_NUM."""
        return await self._get_u64(Request.GET_QUEUE_NUM)

    async def get_max_mem_slots(self) -> int:
        """GET_MAX_MEM_SLOTS."""
        return await self._get_u64(Request.GET_MAX_MEM_SLOTS)

    async def reset_device(self) -> None:
        """RESET_DEVICE, without waiting for an acknowledgement, as QEMU sends it."""
        await self.request(Request.RESET_DEVICE)

    async def set_backend_req_fd(self) -> None:
        """SET_BACKEND_REQ_FD with one end of a new socket pair; waits for the acknowledgement if there is one."""
        if self.backend_req is not None:
            self.backend_req.close()
        self.backend_req, theirs = socket.socketpair()
        with theirs:
            await self.acked(Request.SET_BACKEND_REQ_FD, fds=[theirs.fileno()])

    async def gpu_set_socket(self) -> None:
        """GPU_SET_SOCKET with a fresh display socket, if there is a display."""
        if self.display is not None:
            with self.display.open() as theirs:
                await self.request(Request.GPU_SET_SOCKET, fds=[theirs.fileno()])

    async def get_config(self, offset: int = 0, size: int = CONFIG_SIZE) -> bytes:
        """GET_CONFIG: ``size`` bytes of ``struct virtio_gpu_config`` from ``offset``. Raises VmmError."""
        reply = await self.request(Request.GET_CONFIG, Config(offset, size, 0, bytes(size)), reply=True)
        if not isinstance(reply, Config) or (reply.offset, reply.size) != (offset, size):
            raise VmmError(f"GET_CONFIG of {size} bytes at {offset} was refused")
        return reply.payload

    async def set_config(self, data: bytes, offset: int = 0) -> None:
        """SET_CONFIG of ``data`` at ``offset``."""
        await self.acked(Request.SET_CONFIG, Config(offset, len(data), 0, data))

    async def set_mem_table(self) -> None:
        """SET_MEM_TABLE with all of the guest's regions."""
        regions = list(self.memory.regions)
        table = MemoryTable(tuple(map(_wire_region, regions)))
        await self.acked(Request.SET_MEM_TABLE, table, [region.fd for region in regions])
        self._sent_regions = regions

    async def add_mem_reg(self, region: Region) -> None:
        """ADD_MEM_REG."""
        await self.acked(Request.ADD_MEM_REG, SingleMemoryRegion(_wire_region(region)), [region.fd])
        self._sent_regions.append(region)

    async def rem_mem_reg(self, region: Region) -> None:
        """REM_MEM_REG of a region that was added."""
        await self.acked(Request.REM_MEM_REG, SingleMemoryRegion(_wire_region(region)))
        self._sent_regions.remove(region)

    async def sync_memory(self) -> None:
        """Makes the back-end's memory table the guest's: by slots where they are negotiated, else the whole table."""
        if not self.uses_mem_slots:
            await self.set_mem_table()
            return
        for region in [sent for sent in self._sent_regions if sent not in self.memory.regions]:
            await self.rem_mem_reg(region)
        for region in [new for new in self.memory.regions if new not in self._sent_regions]:
            await self.add_mem_reg(region)

    @property
    def uses_mem_slots(self) -> bool:
        """Whether regions are added one by one."""
        return self.options.mem_slots and self.has(ProtocolFeature.CONFIGURE_MEM_SLOTS)

    async def set_vring_num(self, vring: Vring) -> None:
        """SET_VRING_NUM."""
        await self.request(Request.SET_VRING_NUM, VringState(vring.index, vring.size))

    async def set_vring_base(self, vring: Vring) -> None:
        """SET_VRING_BASE."""
        await self.request(Request.SET_VRING_BASE, VringState(vring.index, vring.base))

    async def set_vring_addr(self, vring: Vring) -> None:
        """SET_VRING_ADDR."""
        ring = vring.ring
        if ring is None:
            raise ValueError(f"queue {vring.index} has no ring")
        address = VringAddr(vring.index, 0, ring.desc_uva, ring.used_uva, ring.avail_uva, 0)
        await self.request(Request.SET_VRING_ADDR, address)

    async def set_vring_kick(self, vring: Vring, fd: int | None = None) -> None:
        """SET_VRING_KICK with the queue's eventfd, another one, or none (-1: the device is to poll)."""
        await self._vring_fd(Request.SET_VRING_KICK, vring, vring.kick if fd is None else fd)

    async def set_vring_call(self, vring: Vring, fd: int | None = None) -> None:
        """SET_VRING_CALL likewise (-1: the guest polls)."""
        await self._vring_fd(Request.SET_VRING_CALL, vring, vring.call if fd is None else fd)

    async def set_vring_err(self, vring: Vring, fd: int | None = None) -> None:
        """SET_VRING_ERR likewise."""
        await self._vring_fd(Request.SET_VRING_ERR, vring, vring.err if fd is None else fd)

    async def _vring_fd(self, request: Request, vring: Vring, fd: int) -> None:
        await self.request(request, VringFd(vring.index, fd >= 0), [fd] if fd >= 0 else [])

    async def set_vring_enable(self, vring: Vring, enable: bool) -> None:
        """SET_VRING_ENABLE; waits for the acknowledgement if there is one."""
        await self.acked(Request.SET_VRING_ENABLE, VringState(vring.index, enable))

    async def get_vring_base(self, vring: Vring) -> int:
        """GET_VRING_BASE: stops the queue; the answer becomes the queue's ``base``."""
        reply = await self.request(Request.GET_VRING_BASE, VringState(vring.index, 0), reply=True)
        if not isinstance(reply, VringState) or reply.index != vring.index:
            raise VmmError("GET_VRING_BASE was not answered with the queue's state")
        vring.base = reply.num
        return reply.num

    # ---- plumbing ----

    async def acked(self, request: Request, payload: Payload = EMPTY, fds: Sequence[int] = ()) -> None:
        """Sends and, if REPLY_ACK is negotiated, waits for the acknowledgement. Raises VmmError when it is not zero."""
        wanted = self.has(ProtocolFeature.REPLY_ACK)
        reply = await self.request(request, payload, fds, need_reply=wanted)
        if wanted and reply != U64(0):
            raise VmmError(f"{request.name} was refused: {reply}")

    async def _get_u64(self, request: Request) -> int:
        reply = await self.request(request, reply=True)
        if not isinstance(reply, U64):
            raise VmmError(f"{request.name} was not answered with a number")
        return reply.value

    async def request(
        self,
        request: int,
        payload: Payload = EMPTY,
        fds: Sequence[int] = (),
        *,
        reply: bool = False,
        need_reply: bool = False,
    ) -> Payload | None:
        """Sends one message (any number, any payload) and reads the answer if ``reply`` or ``need_reply`` wants one.

        Raises BackendGone, or VmmError when no answer comes in time or the answer is to something else.
        """
        async with self._lock:
            await self._send(encode(request, payload, need_reply), fds)
            return await self._answer(request) if reply or need_reply else None

    async def send_raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Sends bytes as they are, whatever they are."""
        async with self._lock:
            await self._send(data, fds)

    async def receive(self) -> Message:
        """Reads the back-end's next answer. Raises BackendGone, PeerError, or VmmError after the timeout."""
        try:
            async with asyncio.timeout(self.options.timeout):
                while True:
                    message = self._replies.feed(await self._receive_some(self._replies.wants()), [])
                    if message is not None:
                        return message
        except TimeoutError:
            raise VmmError("the back-end does not answer") from None

    async def wait_gone(self) -> None:
        """Returns when the back-end has closed the connection. For times without requests; it reads nothing."""
        loop = asyncio.get_running_loop()
        gone = loop.create_future()

        def look() -> None:
            if not gone.done() and self._at_end():
                gone.set_result(None)

        loop.add_reader(self._sock, look)
        try:
            await gone
        finally:
            if not self._closed:
                loop.remove_reader(self._sock)

    def _at_end(self) -> bool:
        try:
            return not self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    async def wait_closed(self) -> None:
        """Returns when the back-end has closed the connection; what it still sends is dropped. Raises VmmError."""
        try:
            async with asyncio.timeout(self.options.timeout):
                while True:
                    await self._receive_some(65536)
        except BackendGone:
            pass
        except TimeoutError:
            raise VmmError("the back-end keeps the connection open") from None

    async def _answer(self, request: int) -> Payload:
        try:
            answer = await self.receive()
        except PeerError as error:
            raise VmmError(f"request {request} got a broken answer: {error}") from error
        if answer.request != request:
            raise VmmError(f"request {request} was answered with {answer.request}")
        return answer.payload

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        """Sends all of ``data``; the descriptors ride on its first byte."""
        try:
            if fds:
                data = data[socket.send_fds(self._sock, [data], list(fds)) :]
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except ConnectionError as error:
            raise BackendGone(str(error)) from error

    async def _receive_some(self, size: int) -> bytes:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, size)
        except ConnectionError as error:
            raise BackendGone(str(error)) from error
        if not data:
            raise BackendGone("the back-end closed the connection")
        return data


def _wire_region(region: Region) -> MemoryRegion:
    return MemoryRegion(region.gpa, region.size, region.uva, region.mmap_offset)
