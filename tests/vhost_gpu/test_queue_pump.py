"""Serving a queue from the loop: turns, waiting for answers, broken rings, our own faults."""

import asyncio
import os
from typing import Any

import pytest

from backend import virtqueue
from backend.device import Device
from protocol.virtio_gpu import GetEdid, Rect, ResponseType, Unknown
from tests.vhost_gpu.sessionkit import paint, pictures, running, shown, until
from vhost_gpu.guest.driver import GuestError
from vhost_gpu.guest.ring import Segment
from vhost_gpu.queue_pump import QueuePump

RED, GREEN = (255, 0, 0), (0, 255, 0)


async def test_a_malformed_ring_stops_one_queue_and_the_other_goes_on() -> None:
    async with running() as kit:
        await shown(kit.gpu, colour=RED)
        lost = kit.gpu.control.post_chain([Segment(1 << 60, 64)])
        kit.gpu.kick()
        err = kit.vmm.vrings[0].err
        await until(lambda: kit.session.device.queues[0].reason)
        assert os.eventfd_read(err) == 1
        await kit.gpu.move_cursor(5, 6)
        assert kit.session.device.screens.cursor(0).x == 5
        assert len(await kit.vmm.get_config()) == 16
        assert not lost.done()
        lost.cancel()
        await kit.display.wait_until(pictures(RED))


async def test_a_broken_ring_comes_back_with_a_reset() -> None:
    async with running() as kit:
        lost = kit.gpu.control.post_chain([Segment(1 << 60, 64)])
        kit.gpu.kick()
        await until(lambda: kit.session.device.queues[0].reason)
        await kit.gpu.reset()
        assert lost.exception()
        await kit.gpu.start()
        await shown(kit.gpu, colour=GREEN)
        await kit.display.wait_until(pictures(GREEN))


async def test_a_broken_ring_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as kit:
        lost = kit.gpu.control.post_chain([Segment(1 << 60, 64)])
        for _ in range(20):
            kit.gpu.control.ring.publish()
            kit.gpu.control.force_kick()
            await kit.vmm.get_features()
        assert caplog.text.count("queue 0 stopped") == 1
        lost.cancel()


async def test_our_own_fault_is_logged_and_the_command_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    async with running() as kit:
        monkeypatch.setattr(Device, "execute", broken)
        with pytest.raises(GuestError) as error:
            await kit.gpu.create_2d(8, 8)
        assert error.value.type == ResponseType.ERR_UNSPEC
        assert "oops" in caplog.text
        monkeypatch.undo()
        await kit.gpu.create_2d(8, 8)


async def test_fences_come_back_with_every_command() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        await kit.gpu.display_info()
        for fence in (1, 0xFFFFFFFF, 2**32 + 1, 2**64 - 1):
            for command in framebuffer.flush_commands([framebuffer.whole()]):
                await kit.gpu.command(command, fence=fence)
            with pytest.raises(GuestError):
                await kit.gpu.command(Unknown(0x777), fence=fence)
            await kit.gpu.command(GetEdid(0), reply_size=2048, fence=fence)


async def test_commands_keep_their_order_around_one_that_waits() -> None:
    async with running() as kit:
        resource = await kit.gpu.create_2d(8, 8)
        edid = asyncio.ensure_future(kit.gpu.edid(0))
        unref = asyncio.ensure_future(kit.gpu.unref(resource))
        again = asyncio.ensure_future(kit.gpu.create_2d(9, 9, resource_id=resource))
        done, _ = await asyncio.wait([edid, unref, again], return_when=asyncio.FIRST_COMPLETED)
        assert edid in done
        await asyncio.gather(unref, again)


async def test_more_commands_than_the_ring_holds() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        commands = [c for _ in range(200) for c in framebuffer.flush_commands([Rect(0, 0, 8, 8)])]
        assert len(await kit.gpu.batch(commands, fenced=True)) == 400
        await paint(framebuffer, GREEN)
        await kit.display.wait_until(pictures(GREEN))


async def test_an_error_in_a_sink_does_not_stop_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop's handler gets it (and the test's own takes it from there); the guest is served all the same."""
    async with running("crosvm") as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        seen: list[Any] = []
        loop = asyncio.get_running_loop()
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _loop, context: seen.append(context["exception"]))

        def broken() -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(kit.session.device.screens, "publish", broken)
        for _ in range(3):
            await framebuffer.flush()
        monkeypatch.undo()
        loop.set_exception_handler(handler)
        await framebuffer.flush()
        assert seen
        assert all(isinstance(error, ZeroDivisionError) for error in seen)


class BusyQueue:
    """A queue that never runs empty, whose kick eventfd stays readable."""

    index = 0
    active = True
    reason = ""

    def __init__(self) -> None:
        self.kick_fd = os.eventfd(1)
        self.drained = 0

    def drain(self, _budget: int) -> int:
        self.drained += 1
        return virtqueue.AGAIN

    def stop(self) -> None:
        self.active = False

    def notify(self) -> None:
        pass


async def test_kicks_do_not_multiply_the_turns() -> None:
    loop = asyncio.get_running_loop()
    queue: Any = BusyQueue()
    pump = QueuePump(loop, None, queue, lambda _took: None)  # type: ignore[arg-type]
    pump.refresh()
    rounds = 200
    for _ in range(rounds):
        await asyncio.sleep(0)
    pump.stop()
    assert rounds // 2 <= queue.drained <= 3 * rounds
    drained = queue.drained
    await asyncio.sleep(0)
    assert queue.drained == drained
    os.close(queue.kick_fd)
