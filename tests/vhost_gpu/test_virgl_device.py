"""Our guest's 3D driver on our device: what the driver's own tests only play."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from protocol.virgl_const import Bind, Target
from protocol.virgl_format import VirglFormat
from protocol.virtio_gpu import Feature, ResponseType
from protocol.virtio_gpu_3d import Box, Capset
from tests.vhost_gpu.guestkit import guest_on, own_device
from vhost_gpu.guest.driver import GuestError
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, BackedResource, Gpu3d
from vhost_gpu.guest.orders import ORDER_NAMES

TEXTURE = (Target.TEXTURE_2D, VirglFormat.B8G8R8A8_UNORM, Bind.RENDER_TARGET | Bind.SAMPLER_VIEW)
PICTURE = bytes(range(256)) * 16


async def test_features_and_capability_sets():
    async with own_device("--virgl") as device, guest_on(device, features=VIRGL_FEATURES) as gpu:
        gpu3d = Gpu3d(gpu)
        assert gpu3d.has(Feature.CONTEXT_INIT)
        assert gpu3d.has(Feature.RESOURCE_UUID)
        infos = await gpu3d.capsets()
        assert {info.capset_id for info in infos} >= {Capset.VIRGL, Capset.VIRGL2}
        for info in infos:
            assert len(await gpu3d.capset(info)) == info.capset_max_size
        with pytest.raises(GuestError):
            await gpu3d.capset_info(len(infos))


@pytest.mark.parametrize("order", ORDER_NAMES)
async def test_texels_go_to_the_renderer_and_come_back(order):
    async with own_device("--virgl") as device, guest_on(device, order, features=VIRGL_FEATURES) as gpu:
        texture = await BackedResource.create(Gpu3d(gpu), *TEXTURE, 32, 32)
        texture.data[:] = PICTURE
        await texture.upload()
        texture.data[:] = bytes(len(PICTURE))
        assert await texture.download() == PICTURE
        await texture.destroy()


async def test_a_part_of_a_texture_goes_alone():
    async with own_device("--virgl") as device, guest_on(device, features=VIRGL_FEATURES) as gpu:
        gpu3d = Gpu3d(gpu)
        texture = await BackedResource.create(gpu3d, *TEXTURE, 32, 32)
        await texture.upload()
        texture.data[:] = PICTURE
        await gpu3d.transfer_to_host(texture.resource_id, Box(4, 8, 0, 2, 3), 8 * 128 + 4 * 4, stride=128)
        wanted = bytearray(len(PICTURE))
        for row in range(8, 11):
            at = row * 128 + 16
            wanted[at : at + 8] = PICTURE[at : at + 8]
        assert await texture.download() == bytes(wanted)


async def test_bytes_of_a_buffer_go_to_the_renderer_and_come_back():
    async with own_device("--virgl") as device, guest_on(device, features=VIRGL_FEATURES) as gpu:
        buffer = (Target.BUFFER, VirglFormat.R8_UNORM, Bind.VERTEX_BUFFER)
        vertices = await BackedResource.create(Gpu3d(gpu), *buffer, 4096, pixel=1)
        vertices.data[:] = PICTURE
        await vertices.upload()
        vertices.data[:] = bytes(4096)
        assert await vertices.download() == PICTURE


async def test_streams_in_flight_come_back_with_their_fences_on_any_timeline():
    async with own_device("--virgl") as device, guest_on(device, features=VIRGL_FEATURES) as gpu:
        gpu3d = Gpu3d(gpu)
        contexts = [await gpu3d.context(f"context {i}") for i in range(3)]
        pending = [
            context.post(b"\0\0\0\0" * (i % 3), ring=0 if i % 2 else None) for i in range(50) for context in contexts
        ]
        gpu.kick()
        await asyncio.gather(*(each.done() for each in pending))
        for context in contexts:
            await context.destroy()
        with pytest.raises(GuestError) as caught:
            await contexts[0].submit(b"")
        assert caught.value.type == ResponseType.ERR_INVALID_CONTEXT_ID


async def test_a_uuid_is_one_and_stays():
    async with own_device("--virgl") as device, guest_on(device, features=VIRGL_FEATURES) as gpu:
        gpu3d = Gpu3d(gpu)
        first, second = [await gpu3d.create(*TEXTURE, 8, 8) for _ in range(2)]
        name = await gpu3d.assign_uuid(first)
        assert uuid.UUID(bytes=name).int
        assert await gpu3d.assign_uuid(first) == name != await gpu3d.assign_uuid(second)


async def test_after_a_reset_there_is_3d_again():
    async with own_device("--virgl") as device, guest_on(device, features=VIRGL_FEATURES) as gpu:
        gpu3d = Gpu3d(gpu)
        for _ in range(3):
            context = await gpu3d.context(ctx_id=1)
            texture = await BackedResource.create(gpu3d, *TEXTURE, 32, 32)
            assert texture.resource_id == 1
            await context.attach(1)
            await context.submit(b"")
            texture.data[:] = PICTURE
            await texture.upload()
            await gpu.reset()
            texture.release()
            await gpu.start()
