"""Framebuffers and cursors on our device: what the guest painted is what the VMM's display shows."""

import pytest

from protocol.virtio_gpu import Rect, ResponseType
from tests.vhost_gpu.guestkit import guest_on, own_device
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver import GuestError
from vhost_gpu.guest.framebuffer import Framebuffer, define_cursor
from vhost_gpu.guest.memory import PAGE
from vhost_gpu.guest.picture import cursor_picture
from vhost_gpu.guest.scene import Scene


def opaque(pixels):
    """B G R of every pixel: the fourth byte means nothing."""
    return bytes(pixels[0::4]), bytes(pixels[1::4]), bytes(pixels[2::4])


@pytest.mark.parametrize("scattered", [False, True])
async def test_the_scene_arrives_frame_by_frame(scattered):
    display = VmmDisplay()
    async with own_device() as device, guest_on(device, display=display) as gpu:
        scene = Scene(321, 203)
        framebuffer = await Framebuffer.create(gpu, 321, 203, scattered=scattered)
        scene.start(framebuffer.pixels)
        await framebuffer.show()
        await framebuffer.flush()
        for _ in range(20):
            await framebuffer.flush(scene.step(framebuffer.pixels), fenced=True)
        painted = opaque(framebuffer.pixels.tobytes())
        await display.wait_until(lambda d: 0 in d.pictures and opaque(d.pictures[0].pixels) == painted)
        assert display.violations == []


async def test_only_damage_is_shown():
    display = VmmDisplay()
    async with own_device() as device, guest_on(device, display=display) as gpu:
        framebuffer = await Framebuffer.create(gpu, 64, 64, scattered=True)
        await framebuffer.show()
        await framebuffer.flush()
        framebuffer.pixels[:] = b"\x40" * framebuffer.size
        await framebuffer.flush([Rect(10, 20, 3, 2)])
        await display.wait_until(lambda d: 0 in d.pictures and d.pictures[0].pixel(12, 21)[:3] == b"\x40" * 3)
        picture = display.pictures[0]
        assert sum(1 for at in range(0, len(picture.pixels), 4) if picture.pixels[at]) == 6


async def test_two_scanouts_on_one_framebuffer():
    display = VmmDisplay([(64, 32), (64, 32)])
    async with own_device("--max-outputs", "2") as device, guest_on(device, display=display) as gpu:
        framebuffer = await Framebuffer.create(gpu, 128, 32)
        for y in range(32):
            framebuffer.pixels[y * 512 : y * 512 + 512] = b"\1" * 256 + b"\2" * 256
        await framebuffer.show(0, Rect(0, 0, 64, 32))
        await framebuffer.show(1, Rect(64, 0, 64, 32))
        await framebuffer.flush()
        for scanout, value in ((0, 1), (1, 2)):
            await display.wait_until(
                lambda d, n=scanout, v=value: n in d.pictures and set(d.pictures[n].pixels[0::4]) == {v}
            )


@pytest.mark.parametrize("size", [(1, 1), (1024, 1), (1025, 3)])
async def test_scattered_backing_has_the_resources_size(size):
    async with own_device() as device, guest_on(device) as gpu:
        free = gpu.memory.free_bytes()
        framebuffer = await Framebuffer.create(gpu, *size, scattered=True)
        pieces = framebuffer.backing()
        assert sum(piece.length for piece in pieces) == framebuffer.size == size[0] * size[1] * 4
        assert all(piece.length == PAGE for piece in pieces[:-1])
        await framebuffer.destroy()
        assert gpu.memory.free_bytes() == free


async def test_a_refused_resource_gives_its_memory_back():
    async with own_device() as device, guest_on(device) as gpu:
        free = gpu.memory.free_bytes()
        with pytest.raises(GuestError) as refused:
            await Framebuffer.create(gpu, 64, 64, 3333)
        assert refused.value.type == ResponseType.ERR_INVALID_PARAMETER
        assert gpu.memory.free_bytes() == free


async def test_a_cursor_keeps_no_memory():
    display = VmmDisplay()
    async with own_device() as device, guest_on(device, display=display) as gpu:
        free = gpu.memory.free_bytes()
        await define_cursor(gpu, cursor_picture(), 3, 4)
        await display.wait_until(lambda d: 0 in d.cursors and d.cursors[0].updates > 0)
        assert display.cursors[0].pixels == cursor_picture()
        assert gpu.memory.free_bytes() == free
