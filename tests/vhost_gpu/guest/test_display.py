"""The VMM's end of the display socket, talked to as a device does."""

import asyncio

import pytest

from protocol.errors import PeerError
from protocol.vhost_user_gpu import (
    CURSOR_BYTES,
    CursorPos,
    CursorUpdate,
    DisplayInfoReply,
    EdidReply,
    GetDisplayInfo,
    GetEdid,
    GetProtocolFeatures,
    ProtocolFeaturesReply,
    ReplyDecoder,
    Scanout,
    SetProtocolFeatures,
    Unknown,
    Update,
)
from vhost_gpu.guest.display import Behaviour, VmmDisplay, plain_edid

HIDE = CursorPos(0, 8, 9, visible=False)


class Device:
    """The device's end: sends messages, reads replies."""

    def __init__(self, display: VmmDisplay) -> None:
        self.sock = display.open()
        self.sock.setblocking(False)
        self.decoder = ReplyDecoder()

    async def send(self, *messages):
        for message in messages:
            await asyncio.get_running_loop().sock_sendall(self.sock, message.encode())

    async def receive(self):
        """The next reply, or None at the end of the stream."""
        loop = asyncio.get_running_loop()
        while True:
            data = await loop.sock_recv(self.sock, 4096)
            if not data:
                return None
            if replies := self.decoder.feed(data):
                return replies[0]


@pytest.fixture
async def display():
    made = []

    def make(*args, **kwargs):
        made.append(VmmDisplay(*args, **kwargs))
        return made[-1], Device(made[-1])

    yield make
    for one in made:
        one.close()
    await asyncio.sleep(0)


async def test_it_answers_what_qemu_answers(display):
    vmm, device = display([(800, 600), (640, 480)])
    await device.send(GetProtocolFeatures())
    assert await device.receive() == ProtocolFeaturesReply(3)
    await device.send(SetProtocolFeatures(1), GetDisplayInfo())
    info = await device.receive()
    assert isinstance(info, DisplayInfoReply)
    assert [(mode.rect.width, mode.enabled) for mode in info.modes[:3]] == [(800, True), (640, True), (0, False)]
    await device.send(GetEdid(1))
    assert await device.receive() == EdidReply(plain_edid())
    assert vmm.agreed_features == 1
    assert vmm.requests == ["GetProtocolFeatures", "SetProtocolFeatures", "GetDisplayInfo", "GetEdid"]
    device.sock.close()


async def test_it_keeps_the_picture(display):
    vmm, device = display()
    await device.send(Scanout(0, 4, 2), Update(0, 1, 1, 2, 1, b"abcdefgh"))
    await vmm.wait_until(lambda d: 0 in d.pictures and d.pictures[0].updates == 1)
    picture = vmm.pictures[0]
    assert bytes(picture.pixels) == bytes(20) + b"abcdefgh" + bytes(4)
    assert picture.pixel(2, 1) == b"efgh"
    await device.send(Scanout(0, 0, 0))
    await vmm.wait_until(lambda d: not d.pictures[0].pixels)
    assert vmm.violations == []
    device.sock.close()


async def test_it_keeps_the_cursor(display):
    vmm, device = display()
    await device.send(CursorUpdate(0, 5, 6, 1, 2, b"c" * CURSOR_BYTES))
    await vmm.wait_until(lambda d: 0 in d.cursors)
    cursor = vmm.cursors[0]
    assert (cursor.x, cursor.y, cursor.hot_x, cursor.hot_y, cursor.visible) == (5, 6, 1, 2, True)
    await device.send(HIDE)
    await vmm.wait_until(lambda d: not d.cursors[0].visible)
    assert (cursor.x, cursor.y, cursor.pixels) == (8, 9, b"c" * CURSOR_BYTES)
    device.sock.close()


@pytest.mark.parametrize(
    "messages",
    [
        (Update(0, 0, 0, 1, 1, bytes(4)),),
        (Scanout(0, 0, 0), Update(0, 0, 0, 1, 1, bytes(4))),
        (Scanout(0, 2, 2), Update(0, 1, 1, 2, 1, bytes(8))),
        (Scanout(0, 65535, 65535),),
        (Scanout(1, 8, 8),),
        (GetEdid(1),),
        (Unknown(77, b""),),
        (Scanout(0, 2, 2), Unknown(8, b"short")),
    ],
)
async def test_what_hurts_a_vmm_is_noted(display, messages):
    vmm, device = display()
    await device.send(*messages)
    await vmm.wait_until(lambda d: len(d.violations) == 1)
    device.sock.close()


async def test_a_new_socket_begins_empty(display):
    vmm, device = display()
    await device.send(Scanout(0, 4, 4))
    await vmm.wait_until(lambda d: 0 in d.pictures)
    device.sock.close()
    again = Device(vmm)
    assert vmm.pictures == {}
    assert vmm.opened == 2
    await again.send(Update(0, 0, 0, 1, 1, bytes(4)))
    await vmm.wait_until(lambda d: bool(d.violations))
    again.sock.close()


async def test_closing_is_seen_at_once(display):
    vmm, device = display()
    vmm.close()
    assert device.sock.recv(1) == b""
    device.sock.close()


async def test_misbehaviours(display):
    _, device = display(behaviour=Behaviour.CLOSES)
    await device.send(GetProtocolFeatures())
    assert await device.receive() is None
    device.sock.close()
    _, device = display(behaviour=Behaviour.HUGE_EDID)
    await device.send(GetEdid(0))
    with pytest.raises(PeerError, match="1025"):
        await device.receive()
    device.sock.close()
    _, device = display(behaviour=Behaviour.GARBAGE)
    await device.send(GetDisplayInfo())
    with pytest.raises(PeerError):
        await device.receive()
    device.sock.close()


async def test_a_silent_display_draws_all_the_same(display):
    vmm, device = display(behaviour=Behaviour.SILENT)
    await device.send(GetProtocolFeatures(), Scanout(0, 4, 4))
    await vmm.wait_until(lambda d: 0 in d.pictures)
    with pytest.raises(BlockingIOError):
        device.sock.recv(1)
    device.sock.close()


async def test_a_stuck_display_reads_nothing(display):
    _, device = display(behaviour=Behaviour.STUCK)
    data = bytes(1 << 24)
    assert device.sock.send(data) < len(data)
    await asyncio.sleep(0)
    with pytest.raises(BlockingIOError):
        device.sock.send(data)
    device.sock.close()
