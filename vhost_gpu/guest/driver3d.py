"""The 3D half of the driver (virtio 1.3, 5.7.6.8; ``linux/virtio_gpu.h``): contexts, 3D resources, streams.

Over a :class:`~vhost_gpu.guest.driver.GuestGpu` that was opened with VIRGL_FEATURES. What a stream says is the matter
of ``protocol.virgl``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from protocol.virtio_gpu import HEADER_SIZE, Data, Feature, GetCapset, GetCapsetInfo, Rect, ResponseType
from protocol.virtio_gpu_3d import (
    Box,
    Capset,
    CapsetInfo,
    CtxAttachResource,
    CtxCreate,
    CtxDestroy,
    CtxDetachResource,
    ResourceCreate3d,
    Submit3d,
    TransferFromHost3d,
    TransferToHost3d,
)
from protocol.virtio_gpu_blob import UUID_SIZE, ResourceAssignUuid
from vhost_gpu.guest.driver import LINUX_FEATURES, GuestGpu, checked
from vhost_gpu.guest.memory import PAGE, page_align
from vhost_gpu.guest.ring import Segment

VIRGL_FEATURES = LINUX_FEATURES | 1 << Feature.VIRGL | 1 << Feature.RESOURCE_UUID | 1 << Feature.CONTEXT_INIT
"""What Linux's driver acknowledges of a device with VirGL, where it is offered."""
_CAPSET_INFO_SIZE = 16
_MAX_NAME = 64


class No3d(Exception):
    """The device does not offer VIRGL, or the driver was not opened with it."""


class Gpu3d:
    """The 3D commands of a started driver. Raises No3d where it did not negotiate VIRGL; commands as GuestGpu's do."""

    def __init__(self, gpu: GuestGpu) -> None:
        """Takes nothing over: ``gpu`` stays the caller's, and its 2D commands stay of use."""
        self.gpu = gpu
        if not self.has(Feature.VIRGL):
            raise No3d("the device has no 3D: start the daemon with --virgl")
        self._next_ctx = 0

    def has(self, feature: Feature) -> bool:
        """Whether device and driver both have it."""
        return bool(self.gpu.features & 1 << feature)

    # ---- what the renderer can do ----

    async def capsets(self) -> list[CapsetInfo]:
        """GET_CAPSET_INFO of all that the configuration space counts."""
        return [await self.capset_info(index) for index in range(self.gpu.vmm.config.num_capsets)]

    async def capset_info(self, index: int) -> CapsetInfo:
        """GET_CAPSET_INFO of one."""
        response = await self.gpu.command(GetCapsetInfo(index), reply_size=HEADER_SIZE + _CAPSET_INFO_SIZE)
        return CapsetInfo.decode(response.expect(ResponseType.OK_CAPSET_INFO))

    async def capset(self, info: CapsetInfo, version: int | None = None) -> bytes:
        """GET_CAPSET: the capability set, of its newest version unless another is asked for."""
        number = info.capset_max_version if version is None else version
        size = HEADER_SIZE + info.capset_max_size
        response = await self.gpu.command(GetCapset(info.capset_id, number), reply_size=size)
        return response.expect(ResponseType.OK_CAPSET)

    # ---- contexts ----

    async def context(self, name: str = "guest", *, capset: int | None = None, ctx_id: int | None = None) -> Context:
        """CTX_CREATE: a context with a new id unless one is given.

        ``capset``: its kind, VIRGL2 by default with CONTEXT_INIT; without that feature there is but one kind.
        """
        init = Capset.VIRGL2 if capset is None and self.has(Feature.CONTEXT_INIT) else capset or 0
        number = self._new_ctx() if ctx_id is None else ctx_id
        await self.gpu.command(CtxCreate(name.encode()[:_MAX_NAME], init), ctx=number)
        return Context(self.gpu, number)

    def _new_ctx(self) -> int:
        self._next_ctx += 1
        return self._next_ctx

    # ---- resources ----

    async def create(self, target: int, format_: int, bind: int, width: int, height: int = 1, **more: int) -> int:
        """RESOURCE_CREATE_3D; returns a new id. ``more``: as ``ResourceCreate3d`` has them, ``resource_id`` too."""
        number = more.pop("resource_id", None) or self.gpu.next_id()
        await self.gpu.command(ResourceCreate3d(number, target, format_, bind, width, height, **more))
        return number

    async def assign_uuid(self, resource_id: int) -> bytes:
        """RESOURCE_ASSIGN_UUID: its 16 bytes."""
        response = await self.gpu.command(ResourceAssignUuid(resource_id), reply_size=HEADER_SIZE + UUID_SIZE)
        return response.expect(ResponseType.OK_RESOURCE_UUID)

    async def transfer_to_host(self, resource_id: int, box: Box, offset: int = 0, **more: int) -> None:
        """TRANSFER_TO_HOST_3D with a fence. ``more``: level, stride, layer_stride; ``ctx``: for a context."""
        ctx = more.pop("ctx", 0)
        await self.gpu.command(TransferToHost3d(box, offset, resource_id, **more), ctx=ctx, fence=self.gpu.next_fence())

    async def transfer_from_host(self, resource_id: int, box: Box, offset: int = 0, **more: int) -> None:
        """TRANSFER_FROM_HOST_3D likewise: the pixels are in the backing on return."""
        ctx = more.pop("ctx", 0)
        await self.gpu.command(
            TransferFromHost3d(box, offset, resource_id, **more), ctx=ctx, fence=self.gpu.next_fence()
        )


class Context:
    """A rendering context: resources that it may name, and streams of commands. Ends with :meth:`destroy`."""

    def __init__(self, gpu: GuestGpu, ctx_id: int) -> None:
        """Sends nothing: ``Gpu3d.context`` is for callers."""
        self.gpu = gpu
        self.ctx_id = ctx_id

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.destroy()

    async def destroy(self) -> None:
        """CTX_DESTROY."""
        await self.gpu.command(CtxDestroy(), ctx=self.ctx_id)

    async def attach(self, *resource_ids: int) -> None:
        """CTX_ATTACH_RESOURCE of each."""
        for number in resource_ids:
            await self.gpu.command(CtxAttachResource(number), ctx=self.ctx_id)

    async def detach(self, *resource_ids: int) -> None:
        """CTX_DETACH_RESOURCE of each."""
        for number in resource_ids:
            await self.gpu.command(CtxDetachResource(number), ctx=self.ctx_id)

    async def submit(self, stream: Data, *, fenced: bool = True, ring: int | None = None) -> None:
        """SUBMIT_3D; on return the device has answered: when it is ``fenced``, after the work was done."""
        pending = self.post(stream, fenced=fenced, ring=ring)
        self.gpu.kick()
        await pending.done()

    def post(self, stream: Data, *, fenced: bool = True, ring: int | None = None) -> Pending:
        """The same without the kick and the wait, for any number of streams on their way."""
        fence = self.gpu.next_fence() if fenced else None
        reply = self.gpu.post(Submit3d(stream), fence=fence, ctx=self.ctx_id, ring=ring)
        return Pending(reply, fence)


@dataclass(frozen=True, slots=True)
class Pending:
    """A stream on its way."""

    reply: asyncio.Future[bytes]
    fence: int | None

    async def done(self) -> None:
        """Returns when it was answered. Raises GuestError, DeviceFault, DeviceStopped."""
        checked(await self.reply, Submit3d.__name__, self.fence)


class BackedResource:
    """A 3D resource with ``size`` bytes of backing in one piece of guest memory; ``data`` is a view of it.

    For a texture: rows of ``stride`` bytes, level 0, top row first.
    """

    def __init__(self, gpu3d: Gpu3d, resource_id: int, gpa: int, size: int, width: int, height: int) -> None:
        """:meth:`create` is for callers."""
        self.gpu3d = gpu3d
        self.resource_id = resource_id
        self.width = width
        self.height = height
        self.size = size
        self.data = gpu3d.gpu.memory.view(gpa, size)
        self._gpa = gpa

    @classmethod
    async def create(
        cls, gpu3d: Gpu3d, target: int, format_: int, bind: int, width: int, height: int = 1, *, pixel: int = 4
    ) -> Self:
        """Creates it and attaches backing; ``pixel``: bytes of a texel, 1 for a buffer."""
        size = width * height * pixel
        number = await gpu3d.create(target, format_, bind, width, height)
        gpa = gpu3d.gpu.memory.alloc(size)
        resource = cls(gpu3d, number, gpa, size, width, height)
        try:
            await gpu3d.gpu.attach_backing(number, resource.backing())
        except BaseException:
            resource.release()
            raise
        return resource

    def backing(self, *, scattered: bool = False) -> Sequence[Segment]:
        """The guest memory behind it: one piece, or its pages."""
        step = PAGE if scattered else page_align(self.size)
        return [Segment(self._gpa + at, min(step, self.size - at)) for at in range(0, self.size, step)]

    def box(self) -> Box:
        """All of it."""
        return Box(0, 0, 0, self.width, self.height)

    def whole(self) -> Rect:
        """The rectangle of all of it."""
        return Rect(0, 0, self.width, self.height)

    async def upload(self) -> None:
        """Brings ``data`` to the renderer."""
        await self.gpu3d.transfer_to_host(self.resource_id, self.box())

    async def download(self) -> bytes:
        """Brings the renderer's content into ``data``; returns a copy of it."""
        await self.gpu3d.transfer_from_host(self.resource_id, self.box())
        return bytes(self.data)

    async def show(self, scanout: int = 0) -> None:
        """SET_SCANOUT to all of it."""
        await self.gpu3d.gpu.set_scanout(scanout, self.resource_id, self.whole())

    async def flush(self) -> None:
        """RESOURCE_FLUSH of all of it."""
        await self.gpu3d.gpu.flush(self.resource_id, self.whole())

    async def destroy(self) -> None:
        """RESOURCE_UNREF, then gives the memory back."""
        await self.gpu3d.gpu.unref(self.resource_id)
        self.release()

    def release(self) -> None:
        """Gives the memory back without telling the device: after a reset."""
        if self.size:
            self.data.release()
            self.gpu3d.gpu.memory.free(self._gpa, self.size)
            self.size = 0
