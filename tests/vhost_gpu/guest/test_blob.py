"""Framebuffers of blobs on our device: painted, flushed, and on both sinks, without a transfer."""

from __future__ import annotations

import os

import pytest

from protocol.virtio_gpu import Feature, Format, Rect, ResponseType
from protocol.virtio_gpu_blob import ResourceMapBlob, ResourceUnmapBlob
from tests.vhost_gpu.guestkit import guest_on, own_device
from tests.vhost_gpu.sessionkit import on_display, paint, pictures, running, until, viewed, xrgb
from tests.vhost_gpu.virglkit import viewer_of
from vhost_gpu.guest.blob import (
    BLOB_FEATURES,
    BlobFramebuffer,
    create_blob,
    define_blob_cursor,
    has_blobs,
    set_scanout_blob,
)
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver import F_IN_ORDER, F_RING_PACKED, LINUX_FEATURES, GuestError
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, Gpu3d
from vhost_gpu.guest.memory import GuestMemory, RegionSpec
from vhost_gpu.guest.picture import cursor_picture
from vhost_gpu.guest.ring import Segment
from vhost_gpu.guest.scene import Scene
from vhost_gpu.guest.vmm import VmmOptions

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WITH_3D = VIRGL_FEATURES | 1 << Feature.RESOURCE_BLOB
RINGS = [0, F_RING_PACKED, F_IN_ORDER, F_RING_PACKED | F_IN_ORDER]


async def blob_shown(gpu, colour=RED, width=64, height=48):
    framebuffer = await BlobFramebuffer.create(gpu, width, height)
    await framebuffer.show()
    await paint(framebuffer, colour)
    return framebuffer


@pytest.mark.parametrize("scattered", [False, True])
async def test_the_scene_arrives_frame_by_frame(scattered):
    async with running() as kit:
        with kit.viewer() as viewer:
            scene = Scene(321, 203)
            framebuffer = await BlobFramebuffer.create(kit.gpu, 321, 203, scattered=scattered)
            scene.start(framebuffer.pixels)
            await framebuffer.show()
            await framebuffer.flush()
            for _ in range(20):
                await framebuffer.flush(scene.step(framebuffer.pixels), fenced=True)
            painted = xrgb(framebuffer.pixels.tobytes(), Format.B8G8R8X8_UNORM)
            await kit.display.wait_until(lambda d: on_display(d) == painted)
            await viewer.wait(lambda v: xrgb(v.pixels.get(0, b""), Format.B8G8R8X8_UNORM) == painted)


@pytest.mark.parametrize("format_", Format)
async def test_every_format_on_every_output(format_):
    async with running() as kit:
        with kit.viewer() as viewer:
            framebuffer = await BlobFramebuffer.create(kit.gpu, 33, 17, format_)
            framebuffer.pixels[:] = os.urandom(framebuffer.size)
            await framebuffer.show()
            await framebuffer.flush()
            pixels = bytes(framebuffer.pixels)
            await viewer.wait(lambda v: v.pixels.get(0) == pixels)
            assert viewer.frames[0].format == format_
            await kit.display.wait_until(lambda d: on_display(d) == xrgb(pixels, format_))


async def test_stride_offset_and_another_picture_of_the_same_blob():
    async with running() as kit:
        with kit.viewer() as viewer:
            size = 1 << 16
            gpa = kit.gpu.memory.alloc(size)
            content = os.urandom(size)
            kit.gpu.memory.write(gpa, content)
            blob = await create_blob(kit.gpu, size, [Segment(gpa, size)])
            await set_scanout_blob(kit.gpu, 0, blob, Rect(0, 0, 40, 30), (40, 30), stride=500, offset=7)
            rows = b"".join(content[7 + y * 500 : 7 + y * 500 + 160] for y in range(30))
            await viewer.wait(lambda v: v.pixels.get(0) == rows)
            wanted = xrgb(rows, Format.B8G8R8X8_UNORM)
            await kit.display.wait_until(lambda d: on_display(d) == wanted)
            rect = Rect(16, 8, 32, 20)
            await set_scanout_blob(kit.gpu, 0, blob, rect, (64, 64), format_=Format.R8G8B8A8_UNORM)
            rows = b"".join(content[(y * 64 + 16) * 4 : (y * 64 + 48) * 4] for y in range(8, 28))
            await viewer.wait(lambda v: v.pixels.get(0) == rows)
            wanted = xrgb(rows, Format.R8G8B8A8_UNORM)
            await kit.display.wait_until(lambda d: on_display(d) == wanted)


async def test_only_damage_is_shown():
    async with running() as kit:
        framebuffer = await BlobFramebuffer.create(kit.gpu, 64, 64, scattered=True)
        await framebuffer.show()
        await framebuffer.flush()
        framebuffer.pixels[:] = b"\x40" * framebuffer.size
        await framebuffer.flush([Rect(10, 20, 3, 2)])
        await kit.display.wait_until(lambda d: 0 in d.pictures and d.pictures[0].pixel(12, 21)[:3] == b"\x40" * 3)
        picture = kit.display.pictures[0]
        assert sum(1 for at in range(0, len(picture.pixels), 4) if picture.pixels[at]) == 6


@pytest.mark.parametrize("rings", RINGS, ids=hex)
async def test_page_flips(rings):
    async with running(features=LINUX_FEATURES | rings) as kit:
        with kit.viewer() as viewer:
            front, back = await blob_shown(kit.gpu), await BlobFramebuffer.create(kit.gpu, 64, 48)
            for framebuffer, colour in ((back, GREEN), (front, BLUE), (back, RED)):
                await framebuffer.show()
                await paint(framebuffer, colour)
                await viewer.wait(viewed(colour))
                await kit.display.wait_until(pictures(colour))
            assert kit.display.requests.count("Scanout") == 1


async def test_two_scanouts_on_one_blob():
    display = VmmDisplay([(64, 32), (64, 32)])
    async with running(display=display, max_outputs=2) as kit:
        framebuffer = await BlobFramebuffer.create(kit.gpu, 128, 32)
        for y in range(32):
            framebuffer.pixels[y * 512 : y * 512 + 512] = b"\1" * 256 + b"\2" * 256
        await framebuffer.show(0, Rect(0, 0, 64, 32))
        await framebuffer.show(1, Rect(64, 0, 64, 32))
        await framebuffer.flush()
        await display.wait_until(lambda d: [set(on_display(d, n)[::4]) for n in (0, 1)] == [{1}, {2}])


async def test_a_cursor_without_a_transfer():
    async with running() as kit:
        arrow = cursor_picture()
        cursor = await define_blob_cursor(kit.gpu, arrow, 3, 4)
        await kit.display.wait_until(lambda d: 0 in d.cursors and d.cursors[0].pixels == arrow)
        cursor.pixels[:] = bytes(cursor.size)
        await kit.gpu.update_cursor(cursor.resource_id)
        await kit.display.wait_until(lambda d: d.cursors[0].pixels == bytes(cursor.size))
        await cursor.destroy()


# ---- ends


async def test_the_picture_goes_with_its_blob():
    async with running() as kit:
        framebuffer = await blob_shown(kit.gpu)
        await kit.display.wait_until(pictures(RED))
        await framebuffer.destroy()
        await kit.display.wait_until(lambda d: d.pictures[0].width == 0)
        await until(lambda: kit.session.device.hostmem_used == 0)


@pytest.mark.parametrize("rings", RINGS[:2], ids=hex)
@pytest.mark.parametrize("protocol_features", [-1, -1 & ~(1 << 13)], ids=["RESET_DEVICE", "silent"])
async def test_a_reboot_frees_everything(rings, protocol_features):
    options = VmmOptions(display=VmmDisplay(), protocol_features=protocol_features)
    async with running(options=options, features=LINUX_FEATURES | rings) as kit:
        with kit.viewer() as viewer:
            for colour in (RED, GREEN, BLUE):
                framebuffer = await blob_shown(kit.gpu, colour)
                assert framebuffer.resource_id == 1
                await viewer.wait(viewed(colour))
                await kit.gpu.reset()
                framebuffer.release()
                await kit.gpu.start()
                await viewer.wait(lambda v: not v.scanouts[0].enabled)
            await until(lambda: kit.session.device.hostmem_used == 0)


async def test_the_picture_is_back_after_cont():
    async with running() as kit:
        framebuffer = await blob_shown(kit.gpu)
        await kit.display.wait_until(pictures(RED))
        await kit.gpu.stop()
        await kit.gpu.start()
        await kit.display.wait_until(pictures(RED))
        await paint(framebuffer, GREEN)
        await kit.display.wait_until(pictures(GREEN))


async def test_memory_that_shrinks_under_a_shown_blob():
    memory = GuestMemory()
    extra = memory.add_region(RegionSpec(1 << 32, 1 << 20, 0x7E00_0000_0000), allocate=False)
    try:
        async with running(memory=memory) as kit:
            blob = await create_blob(kit.gpu, 64 * 64 * 4, [Segment(1 << 32, 64 * 64 * 4)])
            await set_scanout_blob(kit.gpu, 0, blob, Rect(0, 0, 64, 64), (64, 64))
            os.ftruncate(extra.fd, 0)
            with pytest.raises(GuestError) as error:
                await kit.gpu.flush(blob, Rect(0, 0, 64, 64))
            assert error.value.type == ResponseType.ERR_UNSPEC
            assert kit.session.device.memory.faults
            await blob_shown(kit.gpu, GREEN)
            await kit.display.wait_until(pictures(GREEN))
    finally:
        memory.close()


async def test_a_refused_blob_gives_its_memory_back():
    async with running() as kit:
        await create_blob(kit.gpu, 4096, [Segment(kit.gpu.memory.alloc(4096), 4096)], resource_id=1)
        free = kit.gpu.memory.alloc(4096)
        kit.gpu.memory.free(free, 4096)
        with pytest.raises(GuestError) as error:
            await BlobFramebuffer.create(kit.gpu, 32, 32)  # its first id is 1
        assert error.value.type == ResponseType.ERR_INVALID_RESOURCE_ID
        assert kit.gpu.memory.alloc(4096) == free


# ---- who has them


async def test_a_device_without_a_renderer_offers_none():
    """Linux would wait for each flush, and transfer all the same: docs/architecture.md."""
    async with running(features=BLOB_FEATURES) as kit:
        assert not has_blobs(kit.gpu)


@pytest.mark.parametrize("order", ["qemu", "crosvm"])
async def test_beside_3d(order):
    async with own_device("--virgl") as device, guest_on(device, order, features=WITH_3D) as gpu:
        assert has_blobs(gpu)
        with viewer_of(device.display_socket) as viewer:
            for colour in (RED, GREEN):
                framebuffer = await blob_shown(gpu, colour)
                await viewer.wait(viewed(colour))
                async with await Gpu3d(gpu).context() as context:
                    with pytest.raises(GuestError) as error:
                        await context.attach(framebuffer.resource_id)
                    assert error.value.type == ResponseType.ERR_INVALID_RESOURCE_ID
                    await paint(framebuffer, BLUE)
                    await viewer.wait(viewed(BLUE))
                for command in (
                    ResourceMapBlob(framebuffer.resource_id, 0),
                    ResourceUnmapBlob(framebuffer.resource_id),
                ):
                    with pytest.raises(GuestError) as error:
                        await gpu.command(command)
                    assert error.value.type == ResponseType.ERR_UNSPEC
                await gpu.reset()
                framebuffer.release()
                await gpu.start()
                await viewer.wait(lambda v: not v.scanouts[0].enabled)
