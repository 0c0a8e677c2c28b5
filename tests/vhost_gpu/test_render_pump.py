"""A session with a renderer, the fake one: every VMM's order, stops, reboots, memory in the middle of it, the end."""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from backend import renderer
from backend._core import lib
from protocol.errors import ConfigError
from protocol.virtio_gpu import Feature, Rect, ResponseType, Unknown
from protocol.virtio_gpu_3d import CapsetInfo
from tests.backend.fake_renderer import fake
from tests.backend.renderkit import LIMIT, RenderKit, ops_address
from tests.vhost_gpu.sessionkit import (
    FakeControl,
    Running,
    config,
    open_fds,
    paint,
    pictures,
    pixel,
    running,
    shown,
    until,
    viewed,
)
from vhost_gpu.guest.driver import F_IN_ORDER, F_RING_PACKED, GuestError
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, BackedResource, Context, Gpu3d
from vhost_gpu.guest.ring import Segment
from vhost_gpu.session import Session

ORDERS = ("qemu", "crosvm", "libkrun")
RED, GREEN = (255, 0, 0), (0, 255, 0)
B8G8R8X8 = 2
TEXTURE_2D = 2
SIDE = 16
TARGET = (TEXTURE_2D, B8G8R8X8, 2, SIDE, SIDE)


@pytest.fixture(autouse=True)
def fake_renderer(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The session finds the fake renderer where virglrenderer's would be."""
    ops = ops_address()
    monkeypatch.setattr(renderer, "check", lambda: None)
    monkeypatch.setattr(renderer, "ops_address", lambda: ops)
    yield
    fake.fake_release()


@asynccontextmanager
async def rendering(order: str = "qemu", features: int = VIRGL_FEATURES, **changes: object) -> AsyncIterator[Running]:
    async with running(order, features=features, virgl=True, **changes) as kit:
        lib.vg_render_set_rest(kit.session.device.core, 0, 0)
        yield kit


def fill(resource: BackedResource | int, colour: tuple[int, int, int]) -> bytes:
    number = resource if isinstance(resource, int) else resource.resource_id
    return struct.pack("<I4sI", number, pixel(colour), SIDE * SIDE)


async def draw(kit: Running, colour: tuple[int, int, int]) -> tuple[Context, BackedResource]:
    """A frame of one colour on the screen, drawn by the renderer."""
    gpu = Gpu3d(kit.gpu)
    context = await gpu.context("test")
    resource = await BackedResource.create(gpu, *TARGET)
    await context.attach(resource.resource_id)
    await context.submit(fill(resource, colour))
    await resource.show()
    await resource.flush()
    return context, resource


async def wait_hanging() -> None:
    assert await asyncio.to_thread(fake.fake_wait_hanging, int(LIMIT)) == 0


# ---- frames


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rings", [0, F_RING_PACKED, F_IN_ORDER, F_RING_PACKED | F_IN_ORDER], ids=hex)
async def test_what_is_drawn_comes_to_both_sinks(order: str, rings: int) -> None:
    async with rendering(order, VIRGL_FEATURES | rings) as kit:
        with kit.viewer() as viewer:
            context, resource = await draw(kit, RED)
            await viewer.wait(viewed(RED))
            await context.submit(fill(resource, GREEN))
            await resource.flush()
            await viewer.wait(viewed(GREEN))
            if kit.vmm.display is not None:
                await kit.display.wait_until(pictures(GREEN))


async def test_2d_goes_on_as_ever() -> None:
    async with rendering() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        await kit.display.wait_until(pictures(RED))
        await paint(framebuffer, GREEN)
        await kit.display.wait_until(pictures(GREEN))
        await kit.gpu.move_cursor(3, 4)
        assert RenderKit.calls("resource_create") == []


async def test_features_and_capability_sets_are_there_with_a_renderer_only() -> None:
    three_d = 1 << Feature.VIRGL | 1 << Feature.RESOURCE_UUID | 1 << Feature.CONTEXT_INIT
    async with rendering() as kit:
        assert await kit.vmm.get_features() & three_d == three_d
        assert await Gpu3d(kit.gpu).capsets() == [CapsetInfo(1, 1, 100), CapsetInfo(2, 2, 200)]
        assert (await kit.vmm.get_config())[12] == 2
    async with running() as kit:
        assert await kit.vmm.get_features() & three_d == 0
        assert (await kit.vmm.get_config())[12] == 0


async def test_uuids_are_the_resources() -> None:
    async with rendering() as kit:
        gpu = Gpu3d(kit.gpu)
        resource = await BackedResource.create(gpu, *TARGET)
        assert await gpu.assign_uuid(resource.resource_id) == await gpu.assign_uuid(resource.resource_id)
        with pytest.raises(GuestError):
            await gpu.assign_uuid(999)


async def test_display_information_comes_between_frames() -> None:
    async with rendering() as kit:
        context, resource = await draw(kit, RED)
        for _ in range(20):
            pending = [context.post(fill(resource, GREEN)) for _ in range(4)]
            modes = await kit.gpu.display_info()
            for stream in pending:
                await stream.done()
            assert modes


# ---- errors


async def test_unknown_commands_and_bad_streams_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async with rendering() as kit:
        context, resource = await draw(kit, RED)
        fake.fake_fail(b"submit", -22)
        for _ in range(3):
            with pytest.raises(GuestError):
                await context.submit(b"\0" * 4)
        with pytest.raises(GuestError):
            await kit.gpu.command(Unknown(0x777))
        await until(lambda: "its command stream is refused" in caplog.text)
        assert caplog.text.count("its command stream is refused") == 1
        fake.fake_fail(b"submit", 0)
        await context.submit(fill(resource, GREEN))


async def test_what_the_renderer_says_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with rendering():
        fake.fake_say(b"a shader is odd")
        await until(lambda: "renderer: a shader is odd" in caplog.text)


async def test_a_malformed_ring_stops_the_queue_and_comes_back_with_a_reset(caplog: pytest.LogCaptureFixture) -> None:
    async with rendering() as kit:
        await draw(kit, RED)
        lost = kit.gpu.control.post_chain([Segment(1 << 60, 64)])
        kit.gpu.kick()
        await until(lambda: "queue 0 stopped" in caplog.text)
        assert os.eventfd_read(kit.vmm.vrings[0].err) == 1
        await kit.gpu.move_cursor(5, 6)
        await kit.gpu.reset()
        assert lost.exception()
        await kit.gpu.start()
        await draw(kit, GREEN)
        await kit.display.wait_until(pictures(GREEN))


async def test_a_renderer_that_does_not_open_ends_the_session_before_it_begins() -> None:
    fake.fake_fail(b"open", -19)
    ours, theirs = socket.socketpair()
    fds = open_fds()
    with ours, theirs, pytest.raises(ConfigError, match="no 3D"):
        Session(config(virgl=True), theirs, FakeControl())  # type: ignore[arg-type]
    assert open_fds() == fds - 2


# ---- the VMM stops, goes on, takes memory


@pytest.mark.parametrize("order", ORDERS)
async def test_reboots(order: str) -> None:
    async with rendering(order) as kit:
        with kit.viewer() as viewer:
            for _ in range(3):
                context, resource = await draw(kit, RED)
                assert (context.ctx_id, resource.resource_id) == (1, 1)
                await viewer.wait(viewed(RED))
                await kit.gpu.reset()
                resource.release()
                await kit.gpu.start()
                await viewer.wait(lambda v: not v.scanouts[0].enabled)
                assert (fake.fake_num_resources(), fake.fake_num_contexts()) == (0, 0)


@pytest.mark.parametrize("rings", [0, F_RING_PACKED, F_IN_ORDER, F_RING_PACKED | F_IN_ORDER], ids=hex)
async def test_stop_and_go_in_the_middle_of_frames(rings: int) -> None:
    async with rendering(features=VIRGL_FEATURES | rings) as kit:
        context, resource = await draw(kit, RED)
        fake.fake_hold_fences(1)
        for colour in (RED, GREEN):
            pending = [context.post(fill(resource, colour)) for _ in range(5)]
            kit.gpu.kick()
            await kit.gpu.stop()
            fake.fake_hold_fences(0)
            await kit.gpu.start()
            for stream in pending:  # those that were taken came back when it stopped
                await stream.done()
            fake.fake_hold_fences(1)
        fake.fake_hold_fences(0)
        await context.submit(fill(resource, GREEN))
        await kit.display.wait_until(pictures(RED))


async def test_the_vmm_stops_while_a_stream_hangs() -> None:
    async with rendering() as kit:
        context, resource = await draw(kit, RED)
        fake.fake_hang(b"submit")
        pending = context.post(fill(resource, GREEN))
        kit.gpu.kick()
        await wait_hanging()
        fake.fake_release_soon()
        await kit.gpu.stop()
        await kit.gpu.start()
        await pending.done()


async def test_memory_comes_and_goes_under_resources() -> None:
    async with rendering() as kit:
        context, resource = await draw(kit, RED)
        assert fake.fake_num_iovs() == 1
        await kit.vmm.set_mem_table()
        assert RenderKit.calls("detach_iov")
        await resource.upload()
        await context.submit(fill(resource, GREEN))
        assert await resource.download() == pixel(GREEN) * SIDE * SIDE


async def test_the_session_ends_in_the_middle_of_a_stream() -> None:
    async with rendering() as kit:
        context, resource = await draw(kit, RED)
        fake.fake_hang(b"submit")
        pending = context.post(fill(resource, GREEN))
        kit.gpu.kick()
        await wait_hanging()
        fake.fake_release_soon()
    assert RenderKit.calls()[-1] == "close"
    assert pending.reply.exception()


# ---- a renderer that hangs


async def test_a_hanging_renderer_ends_3d_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async with rendering() as kit:
        context, resource = await draw(kit, RED)
        lib.vg_render_set_limits(kit.session.device.core, 100, 100)
        fake.fake_hang(b"submit")
        pending = context.post(fill(resource, GREEN))
        kit.gpu.kick()
        await wait_hanging()
        await kit.gpu.move_cursor(5, 6)
        assert kit.session.device.screens.cursor(0).x == 5
        with pytest.raises(GuestError) as error:
            await pending.done()
        assert error.value.type == ResponseType.ERR_UNSPEC
        assert caplog.text.count("the renderer hangs") == 1
        with pytest.raises(GuestError):
            await context.submit(fill(resource, GREEN))
        framebuffer = await shown(kit.gpu, colour=GREEN)
        await kit.display.wait_until(pictures(GREEN))
        await kit.gpu.set_scanout(0, framebuffer.resource_id, Rect(0, 0, framebuffer.width, framebuffer.height))
        assert await kit.gpu.display_info()
        await kit.gpu.reset()
        await kit.gpu.start()
        await shown(kit.gpu, colour=RED)
        await kit.display.wait_until(pictures(RED))
        with pytest.raises(GuestError):
            await Gpu3d(kit.gpu).context("test")


async def test_a_hanging_renderer_does_not_keep_a_stopping_vmm() -> None:
    async with rendering() as kit:
        context, resource = await draw(kit, RED)
        lib.vg_render_set_limits(kit.session.device.core, 60_000, 100)
        fake.fake_hang(b"submit")
        pending = context.post(fill(resource, GREEN))
        kit.gpu.kick()
        await wait_hanging()
        await kit.gpu.reset()
        assert pending.reply.done()
        assert pending.reply.exception() or pending.reply.result()
        await kit.gpu.start()
        await shown(kit.gpu, colour=RED)
        await kit.display.wait_until(pictures(RED))
