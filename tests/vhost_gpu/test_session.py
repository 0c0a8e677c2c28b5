"""The session as a whole: real guest, real sockets, every VMM's order; reboot, stop and continue, the end."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from protocol import viewer as vp
from protocol.virtio_gpu import HEADER_SIZE, ControlHeader, Format, MoveCursor, Rect, ResponseType, UpdateCursor
from tests.vhost_gpu.sessionkit import (
    BYTES,
    TIMEOUT,
    FakeControl,
    Viewer,
    config,
    on_display,
    open_fds,
    paint,
    pictures,
    pixel,
    running,
    serving,
    shown,
    until,
    viewed,
    xrgb,
)
from vhost_gpu.control import ControlChannel
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver import F_IN_ORDER, F_RING_PACKED, LINUX_FEATURES, PLAIN_FEATURES, GuestError, GuestGpu
from vhost_gpu.guest.framebuffer import Framebuffer, define_cursor
from vhost_gpu.guest.memory import GuestMemory, RegionSpec, pc_layout, split_regions
from vhost_gpu.guest.ring import Segment
from vhost_gpu.guest.vmm import VmmOptions
from vhost_gpu.session import MAX_VIEWERS, Session, SessionProcess

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
ORDERS = ("qemu", "crosvm", "libkrun")


# ---- orders, features, memory layouts


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "features",
    [
        (1 << 64) - 1,
        LINUX_FEATURES,
        PLAIN_FEATURES,
        1 << 32,
        LINUX_FEATURES | F_RING_PACKED,
        LINUX_FEATURES | F_IN_ORDER,
        PLAIN_FEATURES | F_RING_PACKED | F_IN_ORDER,
    ],
    ids=hex,
)
async def test_a_picture_reaches_the_viewer(order: str, features: int) -> None:
    async with running(order, features=features) as kit:
        with kit.viewer() as viewer:
            await shown(kit.gpu, colour=RED)
            await viewer.wait(viewed(RED))


@pytest.mark.parametrize("order", ["qemu", "libkrun"])
async def test_a_picture_reaches_the_vmm(order: str) -> None:
    async with running(order) as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        await kit.display.wait_until(pictures(RED))
        await paint(framebuffer, GREEN)
        await kit.display.wait_until(pictures(GREEN))


@pytest.mark.parametrize("layout", [pc_layout(), split_regions(8, 1 << 21)], ids=["pc", "eight"])
async def test_memory_in_several_regions(layout: list) -> None:  # type: ignore[type-arg]
    memory = GuestMemory(layout)
    try:
        async with running(memory=memory, options=VmmOptions(display=VmmDisplay())) as kit:
            framebuffer = await Framebuffer.create(kit.gpu, 640, 480, scattered=True)
            framebuffer.pixels[:] = os.urandom(framebuffer.size)
            await framebuffer.show()
            await framebuffer.flush()
            wanted = xrgb(bytes(framebuffer.pixels), Format.B8G8R8X8_UNORM)
            await kit.display.wait_until(lambda d: on_display(d) == wanted)
    finally:
        memory.close()


@pytest.mark.parametrize("mem_slots", [True, False])
async def test_both_ways_to_hand_memory_over(mem_slots: bool) -> None:
    options = VmmOptions(display=VmmDisplay(), mem_slots=mem_slots)
    async with running(options=options) as kit:
        await shown(kit.gpu, colour=RED)
        assert options.display is not None
        await options.display.wait_until(pictures(RED))


@pytest.mark.parametrize("mask", [0, 1 << 9, -1 & ~(1 << 3), -1 & ~(1 << 13)])
async def test_fewer_protocol_features(mask: int) -> None:
    """None but CONFIG, none at all, no REPLY_ACK, no RESET_DEVICE."""
    display = VmmDisplay()
    async with running(options=VmmOptions(display=display, protocol_features=mask)) as kit:
        await shown(kit.gpu, colour=RED)
        await display.wait_until(pictures(RED))


# ---- pictures


@pytest.mark.parametrize("format_", list(BYTES), ids=lambda f: f.name)
async def test_every_format_has_its_colours_on_every_output(format_: Format) -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            framebuffer = await Framebuffer.create(kit.gpu, 33, 17, format_)
            framebuffer.pixels[:] = os.urandom(framebuffer.size)
            await framebuffer.show()
            await framebuffer.flush()
            pixels = bytes(framebuffer.pixels)
            await viewer.wait(lambda v: v.pixels.get(0) == pixels)
            assert viewer.frames[0].format == format_
            await kit.display.wait_until(lambda d: on_display(d) == xrgb(pixels, format_))


async def test_a_scanout_with_an_origin() -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            framebuffer = await Framebuffer.create(kit.gpu, 100, 60)
            framebuffer.pixels[:] = os.urandom(framebuffer.size)
            await framebuffer.show(0, Rect(30, 20, 40, 25))
            await framebuffer.flush()
            rows = (framebuffer.pixels[(y * 100 + 30) * 4 : (y * 100 + 70) * 4] for y in range(20, 45))
            wanted = b"".join(map(bytes, rows))
            await viewer.wait(lambda v: v.pixels.get(0) == wanted)
            await kit.display.wait_until(lambda d: on_display(d) == xrgb(wanted, Format.B8G8R8X8_UNORM))


async def test_damage_is_relative_to_the_scanout_and_clipped_to_it() -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            framebuffer = await Framebuffer.create(kit.gpu, 100, 60)
            await framebuffer.show(0, Rect(30, 20, 40, 25))
            await viewer.wait(lambda v: 0 in v.frames)
            seen = len(viewer.messages)
            await framebuffer.flush([Rect(20, 30, 20, 5)])
            await viewer.wait(lambda v: any(isinstance(m, vp.Frame) for m in v.messages[seen:]))
            assert viewer.frames[0].damage == (Rect(0, 10, 10, 5),)


async def test_sixteen_scanouts_on_one_framebuffer() -> None:
    display = VmmDisplay(modes=[(32, 8)] * 16)
    async with running(display=display, max_outputs=16) as kit:
        with kit.viewer() as viewer:
            framebuffer = await Framebuffer.create(kit.gpu, 32, 128)
            framebuffer.pixels[:] = os.urandom(framebuffer.size)
            for scanout in range(16):
                await framebuffer.show(scanout, Rect(0, scanout * 8, 32, 8))
            await framebuffer.flush()
            parts = {n: bytes(framebuffer.pixels[n * 1024 : (n + 1) * 1024]) for n in range(16)}
            await viewer.wait(lambda v: v.pixels == parts)
            wanted = {n: xrgb(part, Format.B8G8R8X8_UNORM) for n, part in parts.items()}
            await display.wait_until(lambda d: {n: on_display(d, n) for n in d.pictures} == wanted)


async def test_a_cleared_scanout_is_told_to_everyone() -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            await shown(kit.gpu, colour=RED)
            await viewer.wait(viewed(RED))
            await kit.display.wait_until(pictures(RED))
            await kit.gpu.clear_scanout(0)
            await viewer.wait(lambda v: not v.scanouts[0].enabled)
            await kit.display.wait_until(lambda d: d.pictures[0].width == 0)


async def test_a_mode_change() -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            await shown(kit.gpu, 64, 48, RED)
            await shown(kit.gpu, 80, 50, GREEN)
            await viewer.wait(lambda v: v.scanouts[0].width == 80 and viewed(GREEN)(v))
            await kit.display.wait_until(lambda d: d.pictures[0].width == 80 and pictures(GREEN)(d))


@pytest.mark.parametrize("rings", [0, F_RING_PACKED, F_IN_ORDER, F_RING_PACKED | F_IN_ORDER], ids=hex)
async def test_page_flips(rings: int) -> None:
    async with running(features=LINUX_FEATURES | rings) as kit:
        with kit.viewer() as viewer:
            front, back = await shown(kit.gpu, colour=RED), await Framebuffer.create(kit.gpu, 64, 48)
            await paint(back, GREEN)
            await back.show()
            await back.flush()
            await viewer.wait(viewed(GREEN))
            await kit.display.wait_until(pictures(GREEN))
            await front.show()
            await front.flush()
            await viewer.wait(viewed(RED))
            await kit.display.wait_until(pictures(RED))
            assert kit.display.requests.count("Scanout") == 1


async def test_the_picture_goes_with_its_resource() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        await kit.display.wait_until(pictures(RED))
        await framebuffer.destroy()
        await kit.display.wait_until(lambda d: d.pictures[0].width == 0)
        await until(lambda: kit.session.device.hostmem_used == 0)


# ---- cursor


@pytest.fixture
def arrow() -> bytes:
    return os.urandom(64 * 64 * 4)


async def test_cursor_show_move_hide(arrow: bytes) -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            await shown(kit.gpu)
            cursor = await define_cursor(kit.gpu, arrow, 5, 6)
            await viewer.wait(lambda v: v.cursor_pixels.get(0) == arrow)
            await kit.display.wait_until(lambda d: 0 in d.cursors and d.cursors[0].pixels == arrow)
            assert (viewer.cursors[0].hot_x, viewer.cursors[0].hot_y) == (5, 6)
            assert (kit.display.cursors[0].hot_x, kit.display.cursors[0].hot_y) == (5, 6)
            # As Linux does it: MOVE_CURSOR names the resource; with none, the cursor would go.
            await kit.gpu.cursor.submit(MoveCursor(0, 30, 40, cursor).encode(), 0)
            await viewer.wait(lambda v: v.positions.get(0) == (30, 40))
            await kit.display.wait_until(lambda d: (d.cursors[0].x, d.cursors[0].y) == (30, 40))
            assert kit.display.cursors[0].visible
            await kit.gpu.update_cursor(0)
            await viewer.wait(lambda v: not v.cursors[0].visible)
            await kit.display.wait_until(lambda d: not d.cursors[0].visible)


async def test_a_cursor_of_another_size_changes_nothing(arrow: bytes) -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            await define_cursor(kit.gpu, arrow)
            wrong = await kit.gpu.create_2d(32, 64)
            reply = await kit.gpu.cursor.submit(UpdateCursor(0, 1, 1, wrong, 0, 0).encode(), HEADER_SIZE)
            assert ControlHeader.decode(reply).type == ResponseType.ERR_INVALID_PARAMETER
            await viewer.wait(lambda v: v.cursor_pixels.get(0) == arrow)
            assert kit.session.device.screens.cursor(0).visible


# ---- reboot, stop and continue


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rings", [0, F_RING_PACKED])
@pytest.mark.parametrize("protocol_features", [-1, -1 & ~(1 << 13)], ids=["RESET_DEVICE", "silent"])
async def test_a_reboot_frees_everything(order: str, rings: int, protocol_features: int) -> None:
    """The new driver numbers its resources from 1 again; without RESET_DEVICE the first base is the only sign."""
    options = VmmOptions(order=order, display=VmmDisplay(), protocol_features=protocol_features)
    async with running(options=options, features=LINUX_FEATURES | rings) as kit:
        with kit.viewer() as viewer:
            for colour in (RED, GREEN, BLUE):
                framebuffer = await shown(kit.gpu, colour=colour)
                assert framebuffer.resource_id == 1
                await viewer.wait(viewed(colour))
                await kit.gpu.reset()
                framebuffer.release()
                await kit.gpu.start()
                await viewer.wait(lambda v: not v.scanouts[0].enabled)
            await until(lambda: kit.session.device.hostmem_used == 0)


@pytest.mark.parametrize("rings", [0, F_RING_PACKED, F_IN_ORDER, F_RING_PACKED | F_IN_ORDER], ids=hex)
async def test_the_picture_is_back_after_cont(rings: int) -> None:
    async with running(features=LINUX_FEATURES | rings) as kit:
        with kit.viewer() as viewer:
            framebuffer = await shown(kit.gpu, colour=RED)
            await kit.display.wait_until(pictures(RED))
            await viewer.wait(viewed(RED))
            for _ in range(3):
                await kit.gpu.stop()
                await kit.gpu.start()
                await kit.display.wait_until(pictures(RED))
            assert kit.display.opened == 4
            await paint(framebuffer, GREEN)
            await kit.display.wait_until(pictures(GREEN))
            await viewer.wait(viewed(GREEN))


async def test_the_cursor_is_back_after_cont(arrow: bytes) -> None:
    async with running() as kit:
        await define_cursor(kit.gpu, arrow, 3, 4)
        await kit.gpu.stop()
        await kit.gpu.start()
        await kit.display.wait_until(lambda d: 0 in d.cursors and d.cursors[0].pixels == arrow)


@pytest.mark.parametrize("rings", [0, F_RING_PACKED, F_IN_ORDER, F_RING_PACKED | F_IN_ORDER], ids=hex)
async def test_commands_queued_while_stopped_are_served_after_cont(rings: int) -> None:
    async with running(features=LINUX_FEATURES | rings) as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        await kit.gpu.stop()
        framebuffer.pixels[:] = pixel(GREEN) * (64 * 48)
        futures = [kit.gpu.post(command) for command in framebuffer.flush_commands([framebuffer.whole()])]
        kit.gpu.kick()
        await kit.gpu.start()
        await asyncio.gather(*futures)
        await kit.display.wait_until(pictures(GREEN))


@pytest.mark.parametrize("after", [0, 1, 12, 60, 100, *range(200, 640 * 480 * 4, 100_000)])
async def test_the_display_socket_may_close_at_any_moment(after: int) -> None:
    """In the middle of frames too: the guest goes on, and the next socket gets the whole picture."""
    async with running() as kit:
        framebuffer = await shown(kit.gpu, 640, 480, RED)
        await kit.display.wait_until(lambda d: d.received >= after)
        kit.display.close()
        await paint(framebuffer, GREEN)
        await kit.vmm.gpu_set_socket()
        await kit.display.wait_until(pictures(GREEN))


async def test_a_new_display_socket_without_an_end_of_the_old_one() -> None:
    async with running() as kit:
        await shown(kit.gpu, colour=RED)
        await kit.display.wait_until(pictures(RED))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            await kit.vmm.request(33, fds=[theirs.fileno()])
            theirs.close()
            ours.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(ours, 12)
            await kit.vmm.gpu_set_socket()
            await kit.display.wait_until(pictures(RED))


# ---- memory that goes


async def test_memory_removed_under_live_backing() -> None:
    memory = GuestMemory()
    extra = memory.add_region(RegionSpec(1 << 32, 1 << 20, 0x7E00_0000_0000), allocate=False)
    try:
        async with running(memory=memory) as kit:
            resource = await kit.gpu.create_2d(64, 64)
            await kit.gpu.attach_backing(resource, [Segment(1 << 32, 64 * 64 * 4)])
            await kit.gpu.transfer(resource, Rect(0, 0, 64, 64), 0)
            await kit.vmm.rem_mem_reg(extra)
            with pytest.raises(GuestError) as error:
                await kit.gpu.transfer(resource, Rect(0, 0, 64, 64), 0)
            assert error.value.type == ResponseType.ERR_UNSPEC
            await kit.gpu.flush(resource, Rect(0, 0, 64, 64))
            await kit.vmm.add_mem_reg(extra)
            await kit.gpu.transfer(resource, Rect(0, 0, 64, 64), 0)
    finally:
        memory.close()


async def test_memory_shrunk_under_live_backing() -> None:
    memory = GuestMemory()
    extra = memory.add_region(RegionSpec(1 << 32, 1 << 20, 0x7E00_0000_0000), allocate=False)
    try:
        async with running(memory=memory) as kit:
            resource = await kit.gpu.create_2d(64, 64)
            await kit.gpu.attach_backing(resource, [Segment(1 << 32, 64 * 64 * 4)])
            os.ftruncate(extra.fd, 0)
            with pytest.raises(GuestError) as error:
                await kit.gpu.transfer(resource, Rect(0, 0, 64, 64), 0)
            assert error.value.type == ResponseType.ERR_UNSPEC
            assert kit.session.device.memory.faults
            await shown(kit.gpu, colour=RED)
            await kit.display.wait_until(pictures(RED))
    finally:
        memory.close()


# ---- viewers of a session


async def test_a_new_viewer_sees_the_current_picture_at_once() -> None:
    async with running() as kit:
        await shown(kit.gpu, colour=RED)
        for _ in range(5):
            with kit.viewer() as viewer:
                await viewer.wait(viewed(RED))
                assert viewer.welcome == vp.Welcome(16, "session-1")


async def test_so_many_viewers_and_no_more() -> None:
    async with running() as kit:
        viewers = [kit.viewer() for _ in range(MAX_VIEWERS + 1)]
        await viewers[-1].wait(lambda v: v.closed)
        assert viewers[-1].error is not None
        assert viewers[-1].error.code == vp.ErrorCode.BUSY
        await shown(kit.gpu, colour=RED)
        await viewers[0].wait(viewed(RED))
        for viewer in viewers:
            viewer.close()


async def test_the_end_is_told_to_viewers() -> None:
    async with serving() as (session, connection, _):
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        session.add_viewer(theirs)
        with Viewer(ours) as viewer:
            await viewer.wait(lambda v: v.welcome)
            connection.close()
            assert await asyncio.wait_for(session.ended, TIMEOUT) == ""
            session.close()
            await viewer.wait(lambda v: v.closed)
            assert viewer.error is not None
            assert viewer.error.code == vp.ErrorCode.SESSION_ENDED


# ---- what the supervisor gets


async def test_descriptors_and_state_reach_the_supervisor() -> None:
    async with running() as kit:
        await shown(kit.gpu)
        await until(lambda: kit.control.states.get("queue.0", {}).get("enabled"))
        assert {key: len(fds) for key, fds in kit.control.held.items()} == {
            "memory": 1,
            "queue.0": 3,
            "queue.1": 3,
            "display": 1,
            "backend_req": 1,
        }
        await kit.gpu.stop()
        await until(lambda: kit.control.held["display"] == [])
        await until(lambda: not kit.control.states["queue.0"]["started"])


async def _one_life(order: str) -> None:
    async with running(order) as kit:
        with kit.viewer() as viewer:
            await shown(kit.gpu, colour=RED)
            await viewer.wait(viewed(RED))
            await kit.gpu.reset()
            await kit.gpu.start()


@pytest.mark.parametrize("order", ORDERS)
async def test_a_session_leaves_no_descriptor_behind(order: str) -> None:
    counts = []
    for _ in range(3):
        await _one_life(order)
        await asyncio.sleep(0)  # the guest's display closes its end in the next turn
        counts.append(open_fds())
    assert counts[1] == counts[2]


# ---- the process around it


async def test_the_process_starts_and_ends_with_its_supervisor() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    messages: asyncio.Queue[dict] = asyncio.Queue()  # type: ignore[type-arg]

    def take(message: dict, fds: list[int]) -> None:  # type: ignore[type-arg]
        for fd in fds:
            os.close(fd)
        messages.put_nowait(message)

    async def told(kind: str) -> dict:  # type: ignore[type-arg]
        async with asyncio.timeout(TIMEOUT):
            while True:
                message = await messages.get()
                if message["type"] == kind:
                    return message

    channel = ControlChannel(ours, take, lambda _error: None)
    process = asyncio.create_task(SessionProcess(theirs).run())
    await told("ready")
    channel.send_ping(7)
    assert (await told("pong"))["token"] == 7
    vmm, connection = socket.socketpair()
    with connection:
        channel.send_start(config(), connection.fileno())
    gpu = await GuestGpu.open(vmm)
    await shown(gpu)
    await told("hold")
    gpu.close()
    assert (await told("ended"))["reason"] == "the VMM closed it"
    await asyncio.wait_for(process, TIMEOUT)
    channel.close()


async def test_the_session_is_made_of_its_own_parts() -> None:
    ours, theirs = socket.socketpair()
    session = Session(config(max_outputs=3), theirs, FakeControl())  # type: ignore[arg-type]
    assert session.device.config().num_scanouts == 3
    session.close()
    session.close()
    ours.close()


SCRIPT = """
import asyncio, sys, uvloop
from tests.vhost_gpu import sessionkit as kit
from vhost_gpu import log

async def picture():
    async with kit.running(ORDER) as running:
        with running.viewer() as viewer:
            await kit.shown(running.gpu, colour=(1, 2, 3))
            await viewer.wait(kit.viewed((1, 2, 3)))
            await running.gpu.reset()
            await running.gpu.start()

async def fault():
    log.setup(level="error", name="session-1")
    asyncio.get_running_loop().call_soon(lambda: 1 // 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

uvloop.run(WHAT())
"""


def _python(what: str, order: str = "qemu", *options: str) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.replace("WHAT", what).replace("ORDER", repr(order))
    root = Path(__file__).parents[2]
    command = [sys.executable, *options, "-c", script]
    return subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("order", ORDERS)
def test_nothing_relies_on_asserts(order: str) -> None:
    done = _python("picture", order, "-O")
    assert done.returncode == 0, done.stderr


def test_exceptions_in_callbacks_are_logged_with_their_traceback() -> None:
    """Every line of it is a line of the log."""
    lines = _python("fault").stderr.splitlines()
    assert any("ZeroDivisionError" in line for line in lines)
    assert any("Traceback" in line for line in lines)
    assert all("error session-1: " in line for line in lines)
