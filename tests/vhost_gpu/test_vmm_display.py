"""The VMM's display socket: good peers, and peers that are slow, silent, stuck, mad or gone."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from protocol.virtio_gpu import DisplayOne, Rect
from tests.vhost_gpu.sessionkit import Running, paint, pictures, pixel, running, shown, until
from vhost_gpu.displays import Displays
from vhost_gpu.guest.display import Behaviour, VmmDisplay, plain_edid
from vhost_gpu.guest.framebuffer import Framebuffer, define_cursor

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def resume(display: VmmDisplay) -> None:
    """Has a stuck display read after all."""
    assert display._sock is not None
    display.behaviour = Behaviour.GOOD
    display._task = asyncio.get_running_loop().create_task(display._serve(display._sock))


# ---- questions


async def test_the_vmms_answers_reach_the_guest() -> None:
    """EDID before display information, as Linux asks."""
    edid = plain_edid(77)
    display = VmmDisplay(modes=[(1024, 768), (640, 480)], edid=edid)
    async with running(display=display) as kit:
        assert await kit.gpu.edid(0) == edid
        assert await kit.gpu.edid(1) == edid
        assert (await kit.gpu.display_info())[0] == DisplayOne(Rect(0, 0, 1024, 768))
        assert display.agreed_features == 1


async def test_an_output_that_the_vmm_lacks_gets_our_edid_and_no_question() -> None:
    display = VmmDisplay(modes=[(1024, 768)])
    async with running(display=display) as kit:
        assert await kit.gpu.edid(9) != display.edid
        assert "GetEdid" not in display.requests


async def test_a_vmm_without_edids_is_not_asked_for_one() -> None:
    display = VmmDisplay(features=0)
    async with running(display=display) as kit:
        assert len(await kit.gpu.edid(0)) >= 128
        assert "GetEdid" not in display.requests


async def test_after_cont_the_new_socket_is_asked() -> None:
    async with running() as kit:
        await kit.gpu.display_info()
        await kit.gpu.stop()
        kit.display.modes = [(800, 600)]
        await kit.gpu.start()
        assert (await kit.gpu.display_info())[0].rect == Rect(0, 0, 800, 600)


async def _own_answers(kit: Running) -> None:
    modes = await kit.gpu.display_info()
    assert modes[0] == DisplayOne(Rect(0, 0, 640, 400))
    assert len(await kit.gpu.edid(0)) >= 128


@pytest.mark.parametrize("behaviour", [Behaviour.SILENT, Behaviour.CLOSES, Behaviour.GARBAGE, Behaviour.STUCK])
async def test_without_an_answer_there_is_our_own(behaviour: Behaviour) -> None:
    display = VmmDisplay(behaviour=behaviour)
    async with running(display=display, resolution=(640, 400)) as kit:
        await _own_answers(kit)
        await shown(kit.gpu, colour=RED)


async def test_a_huge_edid_is_refused_and_pictures_go_on() -> None:
    display = VmmDisplay(behaviour=Behaviour.HUGE_EDID)
    async with running(display=display, resolution=(640, 400)) as kit:
        await kit.gpu.display_info()
        blob = await kit.gpu.edid(0)
        assert 128 <= len(blob) < 1024
        await shown(kit.gpu, colour=RED)
        await display.wait_until(pictures(RED))
        await _own_answers(kit)


async def test_nothing_else_waits_for_a_silent_vmm() -> None:
    """The cursor queue and GET_CONFIG go on at once; the control queue after the time limit."""
    async with running(display=VmmDisplay(behaviour=Behaviour.SILENT)) as kit:
        info = asyncio.ensure_future(kit.gpu.display_info())
        await until(lambda: "GetDisplayInfo" in kit.display.requests)
        for n in range(50):
            await kit.gpu.move_cursor(n, n)
        assert len(await kit.vmm.get_config()) == 16
        assert not info.done()
        assert (await info)[0].enabled
        await shown(kit.gpu, colour=RED)
        await kit.display.wait_until(pictures(RED))


@pytest.mark.parametrize("way", ["close", "new", "base"])
async def test_a_question_ends_with_its_socket_or_its_queue(way: str) -> None:
    """The command is answered with our own; not lost, for no driver would send it again."""
    async with running(display=VmmDisplay(behaviour=Behaviour.SILENT)) as kit:
        info = asyncio.ensure_future(kit.gpu.display_info())
        await until(lambda: "GetDisplayInfo" in kit.display.requests)
        if way == "close":
            kit.display.close()
        elif way == "new":
            await kit.vmm.gpu_set_socket()
        else:
            await kit.gpu.stop()
            await kit.gpu.start()
        assert (await info)[0].enabled


async def test_a_command_in_flight_at_get_vring_base_is_in_the_used_ring() -> None:
    async with running(display=VmmDisplay(behaviour=Behaviour.SILENT)) as kit:
        info = asyncio.ensure_future(kit.gpu.display_info())
        await until(lambda: "GetDisplayInfo" in kit.display.requests)
        await kit.vmm.get_vring_base(kit.vmm.vrings[0])
        kit.gpu.harvest()
        assert (await info)[0].enabled


async def test_a_vmm_that_never_answers_is_not_asked_for_ever() -> None:
    async with running(display=VmmDisplay(behaviour=Behaviour.SILENT)) as kit:
        display = kit.session._display
        assert display is not None
        answers: list[object] = []
        for _ in range(100):
            display.ask_display_info(answers.append)
        assert 0 < len(answers) < 100
        await until(lambda: len(answers) == 100)
        assert answers == [None] * 100


# ---- raw peers


class RawDisplay:
    """The VMM's end in the test's hands."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    async def request(self, wanted: int) -> bytes:
        """Reads up to the next request of this number; returns its payload."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while True:
                request, _, size = struct.unpack("=III", await self._exactly(loop, 12))
                payload = await self._exactly(loop, size)
                if request == wanted:
                    return payload

    async def _exactly(self, loop: asyncio.AbstractEventLoop, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await loop.sock_recv(self.ours, size - len(data))
            assert more
            data += more
        return data

    def reply(self, request: int, payload: bytes, flags: int = 4) -> None:
        self.ours.send(struct.pack("=III", request, flags, len(payload)) + payload)


@pytest.fixture
def raw() -> Iterator[RawDisplay]:
    display = RawDisplay()
    yield display
    display.close()


async def _hand_over(kit: Running, raw: RawDisplay) -> None:
    await kit.vmm.acked(33, fds=[raw.theirs.fileno()])
    raw.theirs.close()


INFO = bytes(24) + struct.pack("<IIIIII", 0, 0, 333, 222, 1, 0) + bytes(15 * 24)


@pytest.mark.parametrize("flags", [0, 4, 0xFFFFFFFF, 0x80000000])
async def test_odd_flags_of_replies_do_not_matter(raw: RawDisplay, flags: int) -> None:
    async with running() as kit:
        await _hand_over(kit, raw)
        await raw.request(1)
        raw.reply(1, bytes(8), flags)
        info = asyncio.ensure_future(kit.gpu.display_info())
        await raw.request(3)
        raw.reply(3, INFO, flags)
        assert (await info)[0].rect == Rect(0, 0, 333, 222)


@pytest.mark.parametrize("size", [1025, 0xFFFFFFFF])
async def test_edids_that_announce_too_much(raw: RawDisplay, size: int) -> None:
    async with running() as kit:
        await _hand_over(kit, raw)
        await raw.request(1)
        raw.reply(1, b"\1" + bytes(7))
        edid = asyncio.ensure_future(kit.gpu.edid(0))
        await raw.request(3)
        raw.reply(3, INFO)
        await raw.request(11)
        raw.reply(11, bytes(24) + struct.pack("<II", size, 0) + bytes(1024))
        assert 128 <= len(await edid) <= 256


@pytest.mark.parametrize("noise", [b"\0" * 12, b"\xff" * 4096, struct.pack("=III", 7, 4, 0), b"x"])
async def test_noise_that_nobody_asked_for(raw: RawDisplay, noise: bytes) -> None:
    async with running() as kit:
        await _hand_over(kit, raw)
        await raw.request(1)
        raw.ours.send(noise)
        await shown(kit.gpu, 64, 48, RED)
        assert struct.unpack("=III", await raw.request(7)) == (0, 64, 48)
        while (await raw.request(8))[20:23] != pixel(RED)[:3]:
            pass


async def test_a_late_answer_is_not_taken_for_a_later_questions() -> None:
    async with running(display=VmmDisplay(behaviour=Behaviour.SILENT)) as kit:
        own = await kit.gpu.display_info()
        raw_end = kit.display._sock
        assert raw_end is not None
        raw_end.send(struct.pack("=III", 1, 4, 8) + bytes(8))
        raw_end.send(struct.pack("=III", 3, 4, len(INFO)) + INFO)
        second = asyncio.ensure_future(kit.gpu.display_info())
        await until(lambda: kit.display.requests.count("GetDisplayInfo") == 2)
        assert await second == own


# ---- pictures


async def test_scanout_comes_before_update_and_not_again_for_the_same_size() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        for colour in (GREEN, BLUE, RED):
            await paint(framebuffer, colour)
            await kit.display.wait_until(pictures(colour))
        pictured = [name for name in kit.display.requests if name in ("Scanout", "Update")]
        assert pictured[0] == "Scanout"
        assert pictured.count("Scanout") == 1


async def test_damage_alone_is_sent() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, 640, 480, RED)
        await kit.display.wait_until(pictures(RED))
        before = kit.display.requests.count("Update")
        for y in range(10, 14):
            framebuffer.pixels[(y * 640 + 20) * 4 : (y * 640 + 28) * 4] = pixel(GREEN) * 8
        await framebuffer.flush([Rect(20, 10, 8, 4)])
        await kit.display.wait_until(lambda d: d.pictures[0].pixel(27, 13)[:3] == pixel(GREEN)[:3])
        assert kit.display.requests.count("Update") == before + 1
        assert kit.display.pictures[0].pixel(28, 13)[:3] == pixel(RED)[:3]


async def test_a_busy_scanout_leaves_the_other_its_turn() -> None:
    async with running(display=VmmDisplay(modes=[(640, 480), (640, 480)])) as kit:
        busy = await shown(kit.gpu, 640, 480, RED)
        quiet = await shown(kit.gpu, 640, 480, RED, scanout=1)
        await paint(quiet, GREEN)

        def both(display: VmmDisplay) -> bool:
            return 1 in display.pictures and display.pictures[1].pixel(0, 0)[:3] == pixel(GREEN)[:3]

        async with asyncio.timeout(20):
            while not both(kit.display):
                await paint(busy, BLUE)


async def test_a_picture_that_was_given_up_comes_when_the_vmm_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has any news then."""
    monkeypatch.setattr("vhost_gpu.display_stream.MAX_HOLD_SECONDS", -1)
    display = VmmDisplay(behaviour=Behaviour.STUCK)
    async with running(display=display) as kit:
        await shown(kit.gpu, 1280, 1024, RED)
        assert kit.session._display is not None
        await until(lambda: kit.session._display._stream.has_picture)
        kit.session._display.relieve()
        monkeypatch.undo()
        resume(display)
        await display.wait_until(pictures(RED))


async def test_a_size_that_no_vmm_can_hold_is_clamped() -> None:
    async with running(display=VmmDisplay()) as kit:
        resource = await kit.gpu.create_2d(20000, 4)
        await kit.gpu.set_scanout(0, resource, Rect(0, 0, 20000, 4))
        await kit.gpu.flush(resource, Rect(0, 0, 20000, 4))
        await kit.display.wait_until(lambda d: 0 in d.pictures and d.pictures[0].updates > 0)
        assert (kit.display.pictures[0].width, kit.display.pictures[0].height) == (16384, 4)


async def test_a_stuck_vmm_costs_the_guest_nothing_and_gets_the_newest_when_it_reads() -> None:
    display = VmmDisplay(behaviour=Behaviour.STUCK)
    async with running(display=display) as kit:
        framebuffer = await shown(kit.gpu, 320, 240, RED)
        for n in range(500):
            framebuffer.pixels[:4] = n.to_bytes(4, "little")
            await framebuffer.flush()
        await paint(framebuffer, GREEN)
        resume(display)
        await display.wait_until(pictures(GREEN))


@pytest.mark.parametrize("end", ["clear", "mode", "unref", "reset"])
async def test_what_ends_a_picture_is_never_lost_on_a_stuck_vmm(end: str) -> None:
    display = VmmDisplay(behaviour=Behaviour.STUCK)
    async with running(display=display) as kit:
        cursor = await define_cursor(kit.gpu, os.urandom(16384))
        framebuffer = await shown(kit.gpu, 640, 480, RED)
        for _ in range(5):
            await paint(framebuffer, GREEN)
        if end == "clear":
            await kit.gpu.clear_scanout(0)
        elif end == "mode":
            await shown(kit.gpu, 100, 90, BLUE)
        elif end == "unref":
            await framebuffer.destroy()
        else:
            await kit.vmm.reset_device()
        await kit.gpu.update_cursor(0) if end != "reset" else await kit.vmm.get_features()
        resume(display)
        if end == "mode":
            await display.wait_until(lambda d: 0 in d.pictures and d.pictures[0].width == 100 and pictures(BLUE)(d))
        else:
            await display.wait_until(lambda d: "Scanout" in d.requests and d.pictures[0].width == 0)
        await display.wait_until(lambda d: 0 not in d.cursors or not d.cursors[0].visible)
        assert cursor


async def test_the_budget_is_not_held_by_a_stuck_vmm() -> None:
    display = VmmDisplay(behaviour=Behaviour.STUCK)
    async with running(display=display) as kit:
        for _ in range(20):
            framebuffer = await Framebuffer.create(kit.gpu, 1024, 1024)
            await framebuffer.show()
            await framebuffer.flush()
            await framebuffer.destroy()
        assert kit.session.device.hostmem_used <= 2 * (1024 * 1024 * 4 + 8192)


async def test_messages_are_whole_whatever_the_socket_takes(raw: RawDisplay) -> None:
    """Read byte by byte from a full socket, they still decode."""
    async with running() as kit:
        await _hand_over(kit, raw)
        await shown(kit.gpu, 1024, 700, RED)
        await raw.request(7)
        seen = 0
        while seen < 1024 * 700 * 4:
            payload = await raw.request(8)
            _, _, _, width, height = struct.unpack_from("=IIIII", payload)
            assert len(payload) == 20 + width * height * 4
            seen += width * height * 4


def test_our_own_displays_need_no_vmm() -> None:
    assert Displays(2, (800, 600)).vmm is None
