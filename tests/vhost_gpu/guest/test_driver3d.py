"""The 3D half of the driver: what it sends, against a device in a few lines; on real ones, the tests of pictures do."""

import asyncio
import struct
from contextlib import asynccontextmanager

import pytest

from protocol.virtio_gpu import CommandType, ControlHeader, Feature, HeaderFlag, ResponseType
from protocol.virtio_gpu_3d import (
    Box,
    CapsetInfo,
    CtxAttachResource,
    CtxCreate,
    CtxDestroy,
    CtxDetachResource,
    ResourceCreate3d,
    Submit3d,
    TransferFromHost3d,
    TransferToHost3d,
    decode_any_command,
)
from tests.vhost_gpu.guest.fakebackend import OFFERED, FakeBackend
from tests.vhost_gpu.guest.toydevice import ToyDevice
from vhost_gpu.guest.driver import DeviceFault, GuestError, GuestGpu
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, BackedResource, Gpu3d, No3d
from vhost_gpu.guest.memory import PAGE
from vhost_gpu.guest.vmm import VmmOptions

VIRGL = OFFERED | 1 << Feature.VIRGL
ALL = VIRGL | 1 << Feature.CONTEXT_INIT | 1 << Feature.RESOURCE_UUID
UUID = bytes(range(16))


class Toy:
    """Answers 3D commands with success and remembers them with their headers."""

    def __init__(self, gpu):
        self.gpu = gpu
        self.device = ToyDevice(gpu.control.ring)
        self.taken = []
        self.error = None
        self.echo = True
        self.pixels = b""

    async def __call__(self, work):
        """Runs ``work`` with this device at the other end."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            while chain := self.device.pop():
                self.device.answer(chain, self._answer(self.device.request(chain)))
            self.gpu.harvest()
        return task.result()

    def _answer(self, request):
        header, command = ControlHeader.decode(request), decode_any_command(request)
        self.taken.append((header, command))
        kind, payload = self._reply(header.type, command)
        flags = header.flags if self.echo else 0
        return ControlHeader(self.error or kind, flags, header.fence_id, header.ctx_id).encode() + payload

    def _reply(self, type_, command):
        if type_ == CommandType.GET_CAPSET_INFO:
            return ResponseType.OK_CAPSET_INFO, CapsetInfo(command.capset_index + 1, 3, 20).encode()
        if type_ == CommandType.GET_CAPSET:
            return ResponseType.OK_CAPSET, struct.pack("<II12x", command.capset_id, command.capset_version)
        if type_ == CommandType.RESOURCE_ASSIGN_UUID:
            return ResponseType.OK_RESOURCE_UUID, UUID
        return ResponseType.OK_NODATA, b""

    @property
    def commands(self):
        return [command for _, command in self.taken]

    @property
    def headers(self):
        return [header for header, _ in self.taken]


@asynccontextmanager
async def toy(features=ALL, asked=VIRGL_FEATURES):
    """A started driver and the toy device on its control queue."""
    async with FakeBackend(features=features) as backend:
        gpu = await GuestGpu.open(backend.vmm, options=VmmOptions(display=None), features=asked)
        try:
            yield Toy(gpu), gpu
        finally:
            gpu.close()


@pytest.mark.parametrize("features", [OFFERED, OFFERED | 1 << Feature.CONTEXT_INIT])
async def test_a_device_without_3d_is_refused_by_name(features):
    async with toy(features) as (_, gpu):
        with pytest.raises(No3d, match="--virgl"):
            Gpu3d(gpu)


async def test_a_driver_that_was_not_opened_for_3d_has_none():
    async with toy(asked=VIRGL_FEATURES & ~1) as (_, gpu):
        with pytest.raises(No3d):
            Gpu3d(gpu)


async def test_nothing_is_acknowledged_that_is_not_offered():
    async with toy(VIRGL) as (_, gpu):
        gpu3d = Gpu3d(gpu)
        assert gpu.features == VIRGL_FEATURES & ~(1 << Feature.CONTEXT_INIT | 1 << Feature.RESOURCE_UUID)
        assert not gpu3d.has(Feature.CONTEXT_INIT)


@pytest.mark.parametrize(("features", "init"), [(ALL, 2), (VIRGL, 0)])
async def test_contexts_have_ids_names_and_a_kind_where_that_is_negotiated(features, init):
    async with toy(features) as (device, gpu):
        gpu3d = Gpu3d(gpu)
        first = await device(gpu3d.context("first"))
        second = await device(gpu3d.context("x" * 99, capset=1, ctx_id=7))
        await device(first.attach(3, 4))
        await device(second.detach(3))
        await device(first.destroy())
        assert device.commands == [
            CtxCreate(b"first", init),
            CtxCreate(b"x" * 64, 1),
            CtxAttachResource(3),
            CtxAttachResource(4),
            CtxDetachResource(3),
            CtxDestroy(),
        ]
        assert [header.ctx_id for header in device.headers] == [1, 7, 1, 1, 7, 1]


async def test_streams_are_fenced_and_go_to_their_context_and_timeline():
    async with toy() as (device, gpu):
        context = await device(Gpu3d(gpu).context())
        await device(context.submit(b"abcd"))
        await device(context.submit(b"efgh", fenced=False))
        await device(context.submit(b"", ring=5))
        assert device.commands[1:] == [Submit3d(b"abcd"), Submit3d(b"efgh"), Submit3d(b"")]
        sent = [(h.flags, h.fence_id, h.ctx_id, h.ring_idx) for h in device.headers[1:]]
        both = HeaderFlag.FENCE | HeaderFlag.INFO_RING_IDX
        assert sent == [(HeaderFlag.FENCE, 1, 1, 0), (0, 0, 1, 0), (both, 2, 1, 5)]


async def test_many_streams_are_on_their_way_with_one_kick():
    async with toy() as (device, gpu):
        context = await device(Gpu3d(gpu).context())
        pending = [context.post(b"%04d" % i) for i in range(100)]
        gpu.kick()
        await device(asyncio.gather(*(each.done() for each in pending)))
        assert device.commands[1:] == [Submit3d(b"%04d" % i) for i in range(100)]
        assert [each.fence for each in pending] == list(range(1, 101))


async def test_errors_and_lost_fences_are_raised():
    async with toy() as (device, gpu):
        context = await device(Gpu3d(gpu).context())
        device.error = ResponseType.ERR_UNSPEC
        with pytest.raises(GuestError, match="Submit3d was answered with ERR_UNSPEC"):
            await device(context.submit(b"abcd"))
        device.error, device.echo = None, False
        with pytest.raises(DeviceFault, match="fence 2"):
            await device(context.submit(b"abcd"))


async def test_capability_sets_are_asked_for_by_index_then_by_id():
    async with toy() as (device, gpu):
        gpu3d = Gpu3d(gpu)
        gpu.vmm.config = type(gpu.vmm.config)(num_capsets=2)
        infos = await device(gpu3d.capsets())
        assert infos == [CapsetInfo(1, 3, 20), CapsetInfo(2, 3, 20)]
        assert await device(gpu3d.capset(infos[1])) == struct.pack("<II12x", 2, 3)
        assert await device(gpu3d.capset(infos[0], 1)) == struct.pack("<II12x", 1, 1)


async def test_resources_and_uuids():
    async with toy() as (device, gpu):
        gpu3d = Gpu3d(gpu)
        assert await device(gpu3d.create(2, 1, 10, 64, 32, last_level=3)) == 1
        assert await device(gpu3d.create(0, 64, 16, 4096, resource_id=9)) == 9
        assert await device(gpu3d.assign_uuid(9)) == UUID
        assert device.commands[:2] == [
            ResourceCreate3d(1, 2, 1, 10, 64, 32, last_level=3),
            ResourceCreate3d(9, 0, 64, 16, 4096),
        ]


async def test_transfers_are_fenced():
    async with toy() as (device, gpu):
        gpu3d = Gpu3d(gpu)
        box = Box(1, 2, 0, 3, 4)
        await device(gpu3d.transfer_to_host(5, box, 64, level=1, stride=256, ctx=3))
        await device(gpu3d.transfer_from_host(5, box))
        assert device.commands == [TransferToHost3d(box, 64, 5, 1, 256), TransferFromHost3d(box, 0, 5)]
        assert [(h.ctx_id, h.flags, h.fence_id) for h in device.headers] == [(3, 1, 1), (0, 1, 2)]


async def test_a_backed_resource_lives_in_guest_memory():
    async with toy() as (device, gpu):
        before = gpu.memory.free_bytes()
        resource = await device(BackedResource.create(Gpu3d(gpu), 2, 1, 10, 100, 50))
        resource.data[:4] = b"blue"
        assert len(resource.data) == 100 * 50 * 4
        assert gpu.memory.read(resource.backing()[0].gpa, 4) == b"blue"
        pages = resource.backing(scattered=True)
        assert [piece.length for piece in pages] == [PAGE] * 4 + [20_000 - 4 * PAGE]
        await device(resource.upload())
        assert (await device(resource.download()))[:4] == b"blue"
        await device(resource.show())
        await device(resource.flush())
        await device(resource.destroy())
        assert gpu.memory.free_bytes() == before
        resource.release()
        assert gpu.memory.free_bytes() == before


async def test_a_resource_that_gets_no_backing_leaves_no_memory_behind():
    async with toy() as (device, gpu):
        before = gpu.memory.free_bytes()
        reply = device._reply

        def refuse(type_, command):
            device.error = ResponseType.ERR_UNSPEC if type_ == CommandType.RESOURCE_ATTACH_BACKING else None
            return reply(type_, command)

        device._reply = refuse
        with pytest.raises(GuestError):
            await device(BackedResource.create(Gpu3d(gpu), 0, 64, 16, 4096, pixel=1))
        assert gpu.memory.free_bytes() == before
