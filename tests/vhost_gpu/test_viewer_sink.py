"""Viewers: good ones, slow ones, stuck ones, hostile ones."""

import asyncio
import errno
import mmap
import os
import socket
import struct

import pytest

from protocol import viewer as vp
from protocol.virtio_gpu import Rect
from tests.vhost_gpu.sessionkit import TIMEOUT, Running, Viewer, open_fds, paint, running, shown, until, viewed
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.framebuffer import Framebuffer, define_cursor

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def frames(viewer: Viewer) -> list[vp.Frame]:
    return [message for message in viewer.messages if isinstance(message, vp.Frame)]


# ---- the flow of frames


async def test_nothing_but_welcome_where_nothing_was_ever_shown() -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            await viewer.wait(lambda v: v.welcome)
            framebuffer = await shown(kit.gpu)
            await viewer.wait(lambda v: v.frames)
            assert [type(message) for message in viewer.messages[:4]] == [vp.Welcome, vp.Scanout, vp.Image, vp.Frame]
            assert framebuffer


async def test_one_frame_at_a_time_and_damage_adds_up() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, 100, 100, RED)
        with kit.viewer(answers=False) as viewer:
            await viewer.wait(lambda v: v.frames)
            for rect in (Rect(0, 0, 10, 10), Rect(80, 80, 10, 10), Rect(0, 0, 5, 5)):
                await framebuffer.flush([rect])
                kit.session.device.screens.publish()  # flushes that are told of together count as one frame
            assert len(frames(viewer)) == 1
            first = viewer.frames[0]
            viewer.done()
            await viewer.wait(lambda v: len(frames(v)) == 2)
            second = viewer.frames[0]
            assert sorted((r.x, r.y, r.width, r.height) for r in second.damage) == [(0, 0, 10, 10), (80, 80, 10, 10)]
            assert second.skipped == second.sequence - first.sequence - 1 == 2


async def test_scanouts_are_answered_one_by_one() -> None:
    async with running(display=VmmDisplay(modes=[(64, 48)] * 2)) as kit:
        first, second = await shown(kit.gpu, colour=RED), await shown(kit.gpu, colour=GREEN, scanout=1)
        with kit.viewer(answers=False) as viewer:
            await viewer.wait(lambda v: len(v.frames) == 2)
            await paint(first, BLUE)
            await paint(second, BLUE)
            viewer.done(1)
            await viewer.wait(viewed(BLUE, scanout=1))
            assert viewed(RED)(viewer)
            viewer.done(0)
            await viewer.wait(viewed(BLUE))


async def test_a_frame_stays_as_it_is_until_it_is_answered() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        with kit.viewer(answers=False) as viewer:
            await viewer.wait(viewed(RED))
            frame = viewer.frames[0]
            for colour in (GREEN, BLUE, GREEN, BLUE):
                await paint(framebuffer, colour)
                assert viewer.look(frame) == viewer.pixels[0]
            viewer.done()
            await viewer.wait(viewed(BLUE))


@pytest.mark.parametrize("sequence", [0, 1 << 63])
async def test_wrong_sequences(sequence: int) -> None:
    """One of the past answers nothing; one of the future answers what was sent, no more."""
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        with kit.viewer(answers=False) as viewer:
            await viewer.wait(viewed(RED))
            viewer.send(vp.FrameDone(0, sequence))
            await paint(framebuffer, GREEN)
            if not sequence:
                await kit.vmm.get_features()
                assert viewed(RED)(viewer)
                viewer.done()
            await viewer.wait(viewed(GREEN))
            await paint(framebuffer, BLUE)
            await kit.vmm.get_features()
            assert viewed(GREEN)(viewer)


async def test_images_come_once_and_go_with_their_resource() -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            framebuffer = await shown(kit.gpu, colour=RED)
            for _ in range(20):
                await paint(framebuffer, GREEN)
            await viewer.wait(viewed(GREEN))
            assert 1 <= len(viewer.images) <= 4
            await framebuffer.destroy()
            await viewer.wait(lambda v: not v.images and not v.scanouts[0].enabled)


async def test_a_cursor_comes_with_the_first_look() -> None:
    async with running() as kit:
        picture = os.urandom(16384)
        await define_cursor(kit.gpu, picture, 7, 8)
        with kit.viewer() as viewer:
            await viewer.wait(lambda v: v.cursor_pixels.get(0) == picture)
            assert (viewer.cursors[0].hot_x, viewer.cursors[0].hot_y) == (7, 8)


# ---- memory that a viewer can't change


async def test_images_can_be_read_and_nothing_else() -> None:
    async with running() as kit:
        await shown(kit.gpu, colour=RED)
        with kit.viewer() as viewer:
            await viewer.wait(viewed(RED))
            for image, fd in viewer.images.values():
                _refuses_writes(fd, image.size)
                with open(f"/proc/self/fd/{fd}", "r+b", buffering=0) as again:
                    _refuses_writes(again.fileno(), image.size)


def _refuses_writes(fd: int, size: int) -> None:
    for attempt in (
        lambda: os.pwrite(fd, b"x", 0),
        lambda: os.ftruncate(fd, 0),
        lambda: os.ftruncate(fd, 2 * size),
        lambda: mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
    ):
        with pytest.raises(OSError) as error:  # noqa: PT011
            attempt()
        assert error.value.errno in (errno.EPERM, errno.EACCES, errno.EBADF, errno.EINVAL)


# ---- slow and stuck viewers


async def test_stuck_viewers_cost_the_guest_nothing_and_get_the_newest_when_they_read() -> None:
    async with running() as kit:
        viewers = [kit.viewer() for _ in range(8)]
        for viewer in viewers:
            viewer.pause()
        framebuffer = await shown(kit.gpu, colour=RED)
        for n in range(500):
            framebuffer.pixels[:4] = n.to_bytes(4, "little")
            await framebuffer.flush()
            await kit.gpu.move_cursor(n, n)
        await paint(framebuffer, GREEN)
        for viewer in viewers:
            viewer.read()
            await viewer.wait(viewed(GREEN))
            viewer.close()


@pytest.mark.parametrize("end", ["clear", "mode", "reset"])
async def test_what_ends_a_picture_is_never_lost_on_a_stuck_viewer(end: str) -> None:
    async with running() as kit:
        with kit.viewer(answers=False) as viewer:
            await define_cursor(kit.gpu, os.urandom(16384))
            framebuffer = await shown(kit.gpu, colour=RED)
            await viewer.wait(lambda v: v.frames and v.cursors)
            viewer.pause()
            for _ in range(300):
                await framebuffer.flush()
                await framebuffer.show()
            if end == "mode":
                await shown(kit.gpu, 20, 10, BLUE)
            elif end == "clear":
                await kit.gpu.clear_scanout(0)
            else:
                await kit.vmm.reset_device()
                await kit.vmm.get_features()
            if end != "reset":
                await kit.gpu.update_cursor(0)
            viewer.read()
            if end == "mode":
                await viewer.wait(lambda v: v.scanouts[0].width == 20)
                viewer.answers = True
                viewer.send(vp.FrameDone(0, 1 << 62))
                await viewer.wait(viewed(BLUE))
            else:
                await viewer.wait(lambda v: not v.scanouts[0].enabled)
            await viewer.wait(lambda v: not v.cursors[0].visible)


async def _hold_every_image(kit: Running, framebuffer: Framebuffer) -> list[Viewer]:
    """Viewers that each keep another frame, until the next flush has no image to go to."""
    viewers = []
    for n in range(8):
        viewer = kit.viewer(answers=False)
        viewers.append(viewer)
        await viewer.wait(lambda v: v.frames)
        await paint(framebuffer, (n, n, n))
        if kit.session.device.screens.starved:
            return viewers
    raise AssertionError("never starved")


async def test_a_waiting_frame_comes_out_with_the_answer_that_frees_an_image() -> None:
    async with running("crosvm") as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        holders = await _hold_every_image(kit, framebuffer)
        with kit.viewer() as viewer:
            await viewer.wait(lambda v: v.frames)
            await paint(framebuffer, BLUE)
            assert not viewed(BLUE)(viewer)
            holders[0].done()
            await viewer.wait(viewed(BLUE))
        for holder in holders:
            holder.close()


async def test_a_waiting_frame_comes_out_when_a_holder_leaves() -> None:
    async with running("crosvm") as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        holders = await _hold_every_image(kit, framebuffer)
        with kit.viewer() as viewer:
            await viewer.wait(lambda v: v.frames)
            await paint(framebuffer, BLUE)
            holders[0].close()
            await viewer.wait(viewed(BLUE))
        for holder in holders:
            holder.close()


async def test_who_holds_for_too_long_while_frames_wait_is_dropped() -> None:
    async with running("crosvm") as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        holders = await _hold_every_image(kit, framebuffer)
        with kit.viewer() as viewer:
            await paint(framebuffer, BLUE)
            await viewer.wait(viewed(BLUE))
            await holders[0].wait(lambda v: v.closed)
            assert holders[0].error is not None
            assert holders[0].error.code == vp.ErrorCode.TOO_SLOW
            await paint(framebuffer, GREEN)
            await viewer.wait(viewed(GREEN))
        for holder in holders:
            holder.close()


async def test_stuck_viewers_hold_few_descriptors() -> None:
    """Each new cursor is a descriptor in flight: the socket takes a few dozen, the rest is never made."""
    async with running() as kit:
        with kit.viewer() as viewer:
            await viewer.wait(lambda v: v.welcome)
            viewer.pause()
            cursor = await define_cursor(kit.gpu, os.urandom(16384))
            for n in range(300):
                await kit.gpu.update_cursor(cursor, n, n)
            viewer.read()
            await viewer.wait(lambda v: v.positions.get(0) == (299, 299))
            pictures = [m for m in viewer.messages if isinstance(m, vp.CursorImage)]
            assert len(pictures) < 100


# ---- coming and going


async def test_viewers_come_and_go_at_any_time() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        before = open_fds()
        for n in range(30):
            viewer = kit.viewer(answers=bool(n % 2))
            await paint(framebuffer, (n, 0, 0))
            if n % 3:
                await viewer.wait(lambda v: v.frames)
            viewer.close()
        await until(lambda: len(kit.session.device.screens.sinks) == 1)
        assert open_fds() <= before + 4  # images of the resource, no more


async def test_a_viewer_that_left_before_it_began_takes_no_place() -> None:
    async with running() as kit:
        await shown(kit.gpu)
        for _ in range(100):
            theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.close()
            kit.session.add_viewer(theirs)
        assert not kit.session._viewers
        with kit.viewer() as viewer:
            await viewer.wait(lambda v: v.frames)


# ---- hostile viewers


GARBAGE = {
    "one byte": b"x",
    "half a header": b"\2\0\0\0",
    "no such type": struct.pack("<II", 99, 0),
    "a daemon's message": vp.encode(vp.ImageGone(1)),
    "hello again": vp.encode(vp.Hello()),
    "wrong size": struct.pack("<II", 2, 16) + bytes(15),
    "huge": bytes(60000),
    "scanout 16": vp.encode(vp.FrameDone(16, 0)),
    "scanout 2^32-1": vp.encode(vp.FrameDone(0xFFFFFFFF, 0)),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_ends_that_viewer_alone(name: str) -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        with kit.viewer() as good, kit.viewer() as bad:
            await bad.wait(lambda v: v.frames)
            bad.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
            bad.send(GARBAGE[name])
            await bad.wait(lambda v: v.closed)
            assert bad.error is not None
            assert bad.error.code == vp.ErrorCode.PROTOCOL
            await paint(framebuffer, GREEN)
            await good.wait(viewed(GREEN))


async def test_an_answer_for_a_scanout_without_a_frame_means_nothing() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        with kit.viewer() as viewer:
            for scanout in range(16):
                viewer.send(vp.FrameDone(scanout, 5))
            await paint(framebuffer, GREEN)
            await viewer.wait(viewed(GREEN))


async def test_descriptors_from_a_viewer_are_not_kept() -> None:
    async with running() as kit:
        with kit.viewer() as viewer:
            await viewer.wait(lambda v: v.welcome)
            before = open_fds()
            for _ in range(50):
                viewer.send(vp.FrameDone(0, 0), [0] * 100)
            await shown(kit.gpu, colour=RED)
            await viewer.wait(viewed(RED))
            assert open_fds() <= before + 10


async def test_a_flood_keeps_nobody_waiting() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        with kit.viewer() as good, kit.viewer() as bad:
            loop = asyncio.get_running_loop()
            flooding = True

            async def flood() -> None:
                packet = vp.encode(vp.FrameDone(0, 0))
                while flooding:
                    await loop.sock_sendall(bad.sock, packet)

            task = asyncio.create_task(flood())
            for colour in (GREEN, BLUE) * 10:
                await paint(framebuffer, colour)
                await good.wait(viewed(colour))
            flooding = False
            await asyncio.wait_for(task, TIMEOUT)


async def test_a_flood_does_not_look_like_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """What viewers keep the loop busy with is progress too: the guest may be idle for long."""
    from vhost_gpu import viewer_sink

    pats = []

    class Lib:
        vg_hang_pat = staticmethod(lambda: pats.append(1))

    async with running() as kit:
        with kit.viewer() as viewer:
            await viewer.wait(lambda v: v.welcome)
            monkeypatch.setattr(viewer_sink, "lib", Lib)
            viewer.send(vp.FrameDone(0, 0))
            await until(lambda: pats)
