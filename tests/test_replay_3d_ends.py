"""Ends in the middle of rendering, over and over: reboots, pauses, VMMs that vanish. Nothing stays, and 3D works again.

Against a session process with virglrenderer, looked at from outside: budget, descriptors, threads, memory.
"""

import asyncio
import contextlib

import pytest

from protocol.virtio_gpu import ResourceFlush
from tests.vhost_gpu.hurtkit import SIDE, Daemon, Victim, clearing, daemons, until, victims
from vhost_gpu.guest.command_queue import DeviceStopped
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver3d import BackedResource, Context, Pending
from vhost_gpu.guest.vmm import VmmOptions

ROUNDS = 30
WARM_UP = 5
FLIGHT = 60
BUSY_SIDE = 512
MAGENTA = bytes((255, 0, 255, 255))


async def busy(victim: Victim) -> tuple[BackedResource, Context, list[Pending]]:
    """Everything that a guest can have, and streams on their way, on several timelines, among flushes."""
    picture = await victim.texture(BUSY_SIDE, BUSY_SIDE)
    plain = await victim.gpu.create_2d(64, 64)
    contexts = [await victim.gpu3d.context(f"busy {n}", ctx_id=n) for n in (1, 2, 3)]
    for context in contexts:
        await context.attach(picture.resource_id, plain)
    await picture.show()
    await victim.gpu.update_cursor(picture.resource_id, 5, 6)
    sent = []
    for number in range(FLIGHT):
        stream = clearing(picture.resource_id, 1 + number)
        sent.append(contexts[number % 3].post(stream, ring=number % 4 if victim.gpu.features >> 4 & 1 else None))
        sent.append(Pending(victim.gpu.post(ResourceFlush(picture.whole(), picture.resource_id)), None))
    victim.gpu.kick()
    await sent[2].done()
    return picture, contexts[0], sent


async def abandoned(sent: list[Pending]) -> None:
    """All of them end: answered in time, or with the device."""
    for pending in sent:
        with contextlib.suppress(DeviceStopped):
            await pending.done()


async def used(victim: Victim) -> tuple[int, int, int]:
    """What is left of the budget, descriptors, threads; the VMM has had all pictures."""
    await victim.gpu.display_info()
    return await victim.room(), victim.fds(), victim.threads()


@pytest.mark.parametrize(("order", "rounds"), [("qemu", ROUNDS), ("crosvm", ROUNDS), ("libkrun", ROUNDS)])
async def test_reboots_in_the_middle_of_rendering(order: str, rounds: int) -> None:
    """RESET_DEVICE, or GET_VRING_BASE and a ring that begins anew, or nothing but that."""
    async with victims(options=VmmOptions(order=order, display=VmmDisplay())) as victim:
        for number in range(rounds):
            if number == WARM_UP:
                before, resident = await used(victim), victim.resident()
                await victim.gpu.reset()
                await victim.gpu.start()
            picture, _, sent = await busy(victim)
            await victim.gpu.reset()
            await victim.gpu.vmm.get_features()  # no reboot is sooner than this
            await abandoned(sent)
            picture.release()
            await victim.gpu.start()
        assert await used(victim) == before
        assert victim.resident() - resident < 4 << 20
        assert victim.alive()


@pytest.mark.parametrize("order", ["qemu", "crosvm"])
async def test_pauses_in_the_middle_of_rendering(order: str) -> None:
    """GET_VRING_BASE and a start where it was: every stream is answered once, contexts and pixels stay."""
    async with victims(options=VmmOptions(order=order, display=VmmDisplay())) as victim:
        picture, context, sent = await busy(victim)
        for _ in range(ROUNDS):
            await victim.gpu.stop()
            await victim.gpu.start()
            sent.append(context.post(clearing(picture.resource_id, 0x9001 + len(sent))))
            victim.gpu.kick()
        for pending in sent:
            await pending.done()
        assert await picture.download() == MAGENTA * BUSY_SIDE**2


async def test_vmms_that_vanish_in_the_middle_of_rendering() -> None:
    """Their sessions end, the others do not notice, and the daemon has no more descriptors than before."""
    async with daemons() as daemon:
        keeper = await daemon.connect()
        await keeper.serves()
        fds = await _vanished(daemon, 2)
        await _vanished(daemon, 4)
        await until(lambda: daemon.fds() <= fds)  # the supervisor learns a moment later of a process that is gone
        await keeper.serves()
        assert "killed" not in daemon.words()
        assert "Traceback" not in daemon.words()


async def _vanished(daemon: Daemon, times: int) -> int:
    for _ in range(times):
        victim = await daemon.connect()
        _, _, sent = await busy(victim)
        victim.gpu.close()
        await abandoned(sent)
        await until(lambda gone=victim: not gone.alive())
    return daemon.fds()


async def test_the_daemon_ends_in_the_middle_of_rendering() -> None:
    """SIGTERM: in time, with status 0, and no process stays."""
    async with daemons() as daemon:
        busied = [await daemon.connect() for _ in range(2)]
        sent = [pending for victim in busied for pending in (await busy(victim))[2]]
        daemon.process.terminate()
        async with asyncio.timeout(10):
            await daemon.process.wait()
        await abandoned(sent)
        await until(lambda: not any(victim.alive() for victim in busied))


async def test_many_contexts_at_work_when_the_guest_reboots() -> None:
    async with victims() as victim:
        for _ in range(3):
            picture = await victim.texture()
            contexts = [await victim.gpu3d.context(ctx_id=n) for n in range(1, 33)]
            for context in contexts:
                await context.attach(picture.resource_id)
            sent = [context.post(clearing(picture.resource_id), ring=n % 8) for n, context in enumerate(contexts)]
            victim.gpu.kick()
            await victim.gpu.reset()
            await victim.gpu.vmm.get_features()  # no reboot is sooner than this
            await abandoned(sent)
            picture.release()
            await victim.gpu.start()
            assert await victim.room() > SIDE
