"""The driver on real devices: ours, and QEMU's as the reference. What both must do is one test with two devices."""

import asyncio

import pytest

from protocol.virtio_gpu import Format, GetDisplayInfo, Rect, ResourceCreate2d, ResponseType
from tests.vhost_gpu.guestkit import DEVICES, guest_on, open_fds, own_device
from vhost_gpu.guest.command_queue import DeviceStopped
from vhost_gpu.guest.display import VmmDisplay, plain_edid
from vhost_gpu.guest.driver import LINUX_FEATURES, PLAIN_FEATURES, DeviceFault, GuestError, checked
from vhost_gpu.guest.framebuffer import Framebuffer
from vhost_gpu.guest.memory import MIB, PAGE, GuestMemory, pc_layout, split_regions
from vhost_gpu.guest.orders import ORDER_NAMES
from vhost_gpu.guest.vmm import VmmOptions

EVENT_IDX_ONLY = PLAIN_FEATURES | 1 << 29
INDIRECT_ONLY = PLAIN_FEATURES | 1 << 28


@pytest.fixture(params=sorted(DEVICES))
def device(request):
    """Starts a device: ours or QEMU's."""
    return DEVICES[request.param]


async def refused(awaitable):
    """The type of the error that the device answers with."""
    with pytest.raises(GuestError) as caught:
        await awaitable
    return caught.value.type


async def test_display_information_and_edid_come_from_the_vmm(device):
    display = VmmDisplay([(800, 600)])
    async with device() as process, guest_on(process, display=display) as gpu:
        first = (await gpu.display_info())[0]
        assert (first.rect, first.enabled) == (Rect(0, 0, 800, 600), True)
        assert await gpu.edid() == plain_edid()
        assert display.violations == []


@pytest.mark.parametrize("features", [LINUX_FEATURES, PLAIN_FEATURES, INDIRECT_ONLY, EVENT_IDX_ONLY])
async def test_any_number_in_flight_with_any_ring_features(device, features):
    async with device() as process, guest_on(process, features=features) as gpu:
        fences = [gpu.next_fence() for _ in range(300)]
        replies = [gpu.post(ResourceCreate2d(i, 2, 4, 4), fence=fence) for i, fence in enumerate(fences, 1)]
        gpu.kick()
        for reply, fence in zip(await asyncio.gather(*replies), fences, strict=True):
            assert checked(reply, "create", fence).header.type == ResponseType.OK_NODATA


@pytest.mark.parametrize("cuts", [(24,), (1, 22, 1, 9), (39,)])
async def test_requests_and_replies_may_be_cut_anywhere(device, cuts):
    async with device() as process, guest_on(process) as gpu:
        await gpu.command(ResourceCreate2d(1, 2, 4, 4), cuts=cuts, reply_cuts=cuts, fence=7)
        assert await refused(gpu.create_2d(4, 4, resource_id=1)) == ResponseType.ERR_INVALID_RESOURCE_ID


async def test_errors_are_the_specifications(device):
    async with device() as process, guest_on(process) as gpu:
        assert await refused(gpu.create_2d(4, 4, resource_id=0)) == ResponseType.ERR_INVALID_RESOURCE_ID
        assert await refused(gpu.create_2d(4, 4, 99)) == ResponseType.ERR_INVALID_PARAMETER
        assert await refused(gpu.unref(77)) == ResponseType.ERR_INVALID_RESOURCE_ID
        assert await refused(gpu.set_scanout(16, 0, Rect(0, 0, 0, 0))) == ResponseType.ERR_INVALID_SCANOUT_ID
        assert await refused(gpu.command(b"\xff" * 24)) == ResponseType.ERR_UNSPEC


async def test_a_pixel_reaches_the_vmms_screen(device):
    display = VmmDisplay()
    async with device() as process, guest_on(process, display=display) as gpu:
        framebuffer = await Framebuffer.create(gpu, 64, 32)
        await framebuffer.show()
        framebuffer.pixels[0:4] = bytes((1, 2, 3, 0))
        await framebuffer.flush(fenced=True)
        await display.wait_until(lambda d: 0 in d.pictures and d.pictures[0].pixel(0, 0)[:3] == bytes((1, 2, 3)))
        picture = display.pictures[0]
        assert (picture.width, picture.height) == (64, 32)
        assert display.violations == []


@pytest.mark.parametrize("layout", [pc_layout(8 * MIB, 8 * MIB), split_regions(4, 2 * MIB)])
@pytest.mark.parametrize("slots", [True, False])
async def test_memory_in_several_regions(device, layout, slots):
    memory = GuestMemory(layout)
    options = VmmOptions(mem_slots=slots)
    async with device() as process, guest_on(process, memory=memory, options=options) as gpu:
        used = sum(spec.size for spec in layout) - memory.free_bytes()
        filler = memory.alloc_pages((layout[0].size - used) // PAGE - 32)  # the next 64 pages lie in two regions
        framebuffer = await Framebuffer.create(gpu, 256, 256, scattered=True)
        framebuffer.pixels[:] = bytes(range(256)) * 1024
        await framebuffer.show()
        await framebuffer.flush()
        assert len({id(memory.region_of(piece.gpa)) for piece in framebuffer.backing()}) == 2
        wanted = framebuffer.pixels[0::4].tobytes()
        # Not the first update: that may be the blank picture of SET_SCANOUT.
        await options.display.wait_until(lambda d: 0 in d.pictures and d.pictures[0].pixels[0::4] == wanted)
        memory.free_pages(filler)
    memory.close()


@pytest.mark.parametrize("order", ORDER_NAMES)
async def test_every_vmms_order_works_with_our_device(order):
    async with own_device() as process, guest_on(process, order) as gpu:
        assert gpu.vmm.config.num_scanouts == 1
        for _ in range(2):
            assert (await gpu.display_info())[0].enabled
            assert await gpu.create_2d(8, 8) == 1, "after a reset no id is taken"
            await gpu.reset()
            await gpu.start()


async def test_a_guest_goes_on_after_a_stop():
    display = VmmDisplay()
    async with own_device() as process, guest_on(process, display=display) as gpu:
        framebuffer = await Framebuffer.create(gpu, 32, 32)
        framebuffer.pixels[:] = b"\x11\x22\x33\x00" * 1024
        await framebuffer.show()
        await framebuffer.flush()
        await gpu.stop()
        waiting = gpu.post(GetDisplayInfo(), reply_size=408)
        gpu.kick()
        await gpu.start()
        assert len(await waiting) == 408, "posted while stopped"
        await display.wait_until(lambda d: 0 in d.pictures and d.pictures[0].updates > 0)
        assert display.opened == 2
        assert bytes(display.pictures[0].pixels) == framebuffer.pixels, "back without the guest doing anything"
        await framebuffer.flush()


async def test_crosvm_goes_on_and_libkrun_cannot():
    async with own_device() as process, guest_on(process, "crosvm") as gpu:
        await gpu.create_2d(8, 8)
        await gpu.stop()
        await gpu.start()
        assert await refused(gpu.create_2d(8, 8, resource_id=1)) == ResponseType.ERR_INVALID_RESOURCE_ID
    async with own_device() as process, guest_on(process, "libkrun") as gpu:
        with pytest.raises(ValueError, match="libkrun"):
            await gpu.stop()


async def test_a_guest_without_interrupts_polls():
    async with own_device() as process, guest_on(process) as gpu:
        for vring in gpu.vmm.vrings:
            await gpu.vmm.set_vring_call(vring, -1)
        future = gpu.post(GetDisplayInfo(), reply_size=408)
        gpu.kick()
        async with asyncio.timeout(10):
            while not future.done():
                await gpu.vmm.get_features()
                gpu.harvest()
        assert len(await future) == 408


async def test_the_cursor_is_seen_by_the_vmm():
    display = VmmDisplay()
    async with own_device() as process, guest_on(process, display=display) as gpu:
        await gpu.create_2d(64, 64, Format.B8G8R8A8_UNORM, resource_id=5)
        await gpu.update_cursor(5, 10, 20, hot_x=1, hot_y=2)
        await display.wait_until(lambda d: 0 in d.cursors and d.cursors[0].updates > 0)
        cursor = display.cursors[0]
        assert (cursor.x, cursor.y, cursor.hot_x, cursor.hot_y) == (10, 20, 1, 2)
        await gpu.move_cursor(30, 40)
        await display.wait_until(lambda d: (d.cursors[0].x, d.cursors[0].y) == (30, 40))
        await gpu.update_cursor(0)
        await display.wait_until(lambda d: not d.cursors[0].visible)


async def test_a_dead_device_fails_what_is_in_flight_on_close():
    async with own_device() as process:
        async with guest_on(process) as gpu:
            process.process.kill()
            await gpu.vmm.wait_gone()
            future = gpu.post(GetDisplayInfo(), reply_size=408)
        with pytest.raises(DeviceStopped):
            await future


async def test_nothing_leaks():
    before = open_fds()
    async with own_device() as process, guest_on(process) as gpu:
        await gpu.display_info()
    await asyncio.sleep(0)
    assert open_fds() == before


def test_broken_replies_are_the_devices_fault():
    with pytest.raises(DeviceFault, match="3 bytes"):
        checked(b"abc", "it", None)
    with pytest.raises(DeviceFault, match="fence 4"):
        checked(b"\0\x11".ljust(24, b"\0"), "it", 4)
    with pytest.raises(GuestError, match="0x12ff"):
        checked(b"\xff\x12".ljust(24, b"\0"), "it", None)
