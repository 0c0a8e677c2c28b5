"""A whole session in the test's own process: the session on one end of a socket pair, our guest on the other.

``running`` gives both; ``Viewer`` is a raw client of the viewer protocol, for a session in this process or elsewhere.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from protocol import viewer as vp
from protocol.virtio_gpu import Format, Rect
from tests.vhost_gpu.guestkit import open_fds as open_fds
from vhost_gpu.control import SessionConfig
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver import LINUX_FEATURES, GuestGpu
from vhost_gpu.guest.framebuffer import Framebuffer
from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.vmm import VmmConnection, VmmOptions
from vhost_gpu.session import Session

TIMEOUT = 10
MIB = 1 << 20

BYTES = {
    Format.B8G8R8A8_UNORM: "BGRA",
    Format.B8G8R8X8_UNORM: "BGRX",
    Format.A8R8G8B8_UNORM: "ARGB",
    Format.X8R8G8B8_UNORM: "XRGB",
    Format.R8G8B8A8_UNORM: "RGBA",
    Format.X8B8G8R8_UNORM: "XBGR",
    Format.A8B8G8R8_UNORM: "ABGR",
    Format.R8G8B8X8_UNORM: "RGBX",
}
"""The order of a pixel's bytes in memory, by format."""


def pixel(colour: tuple[int, int, int], format_: int = Format.B8G8R8X8_UNORM) -> bytes:
    """The four bytes of an opaque colour (red, green, blue) in a format."""
    channels = dict(zip("RGBAX", (*colour, 255, 7), strict=True))
    return bytes(channels[letter] for letter in BYTES[Format(format_)])


def xrgb(data: bytes, format_: int) -> bytes:
    """Pixels of any format as x8r8g8b8 with X = 0."""
    order = BYTES[Format(format_)]
    out = bytearray(len(data))
    for at, letter in enumerate("BGR"):
        out[at::4] = data[order.index(letter) :: 4]
    return bytes(out)


def on_display(display: VmmDisplay, scanout: int = 0) -> bytes:
    """What a VMM's display shows of a scanout (b"": nothing), X = 0 since x8r8g8b8 gives it no meaning."""
    picture = display.pictures.get(scanout)
    return b"" if picture is None else xrgb(bytes(picture.pixels), Format.B8G8R8X8_UNORM)


@dataclass
class FakeControl:
    """The supervisor's place: remembers what the session said."""

    held: dict[str, list[int]] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)

    def send_hold(self, key: str, fds: list[int]) -> None:
        for fd in fds:
            os.fstat(fd)  # each must be open
        self.held[key] = list(fds)

    def send_state(self, key: str, value: Any) -> None:
        self.states[key] = value

    def send_viewers(self, count: int) -> None:
        self.states["viewers"] = count


@dataclass
class Running:
    """A session with its guest."""

    session: Session
    control: FakeControl
    gpu: GuestGpu

    @property
    def vmm(self) -> VmmConnection:
        return self.gpu.vmm

    @property
    def display(self) -> VmmDisplay:
        assert self.vmm.display is not None
        return self.vmm.display

    def viewer(self, *, answers: bool = True) -> Viewer:
        """A new viewer of this session."""
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.session.add_viewer(theirs)
        return Viewer(ours, answers=answers)


def config(**changes: Any) -> SessionConfig:
    values: dict[str, Any] = {
        "name": "session-1",
        "max_outputs": 1,
        "resolution": (1280, 800),
        "max_hostmem": 64 * MIB,
        "poll_us": 50,
        "log_level": "debug",
    }
    return SessionConfig(**(values | changes))


@asynccontextmanager
async def serving(**changes: Any) -> AsyncIterator[tuple[Session, socket.socket, FakeControl]]:
    """A session, and the VMM's end of its connection. ``changes``: to its configuration."""
    ours, theirs = socket.socketpair()
    control = FakeControl()
    session = Session(config(**changes), theirs, control)  # type: ignore[arg-type]
    try:
        yield session, ours, control
    finally:
        session.close()
        ours.close()


@asynccontextmanager
async def running(
    order: str = "qemu",
    *,
    display: VmmDisplay | None = None,
    memory: GuestMemory | None = None,
    features: int = LINUX_FEATURES,
    options: VmmOptions | None = None,
    **changes: Any,
) -> AsyncIterator[Running]:
    """A session with a started guest; at the end, nothing that hurts a VMM has come to its display."""
    shown = display or VmmDisplay()
    wanted = options or VmmOptions(order=order, display=shown, timeout=TIMEOUT)
    async with serving(**changes) as (session, connection, control):
        gpu = await GuestGpu.open(connection, memory, wanted, features=features)
        try:
            yield Running(session, control, gpu)
        finally:
            gpu.close()
    assert shown.violations == []


@asynccontextmanager
async def vmm_of(
    memory: GuestMemory | None = None, options: VmmOptions | None = None, **changes: Any
) -> AsyncIterator[tuple[Session, VmmConnection]]:
    """A session and a VMM that has said nothing yet."""
    own = memory or GuestMemory()
    async with (
        serving(**changes) as (session, connection, _),
        await VmmConnection.connect(connection, own, options) as vmm,
    ):
        yield session, vmm
    if memory is None:
        own.close()


class Viewer:
    """A viewer: keeps what it was told. ``answers``: every FRAME gets its FRAME_DONE, after its pixels were copied."""

    def __init__(self, sock: socket.socket, *, answers: bool = True) -> None:
        self.sock = sock
        self.answers = answers
        self.welcome: vp.Welcome | None = None
        self.error: vp.Error | None = None
        self.closed = False
        self.messages: list[vp.Message] = []
        self.scanouts: dict[int, vp.Scanout] = {}
        self.frames: dict[int, vp.Frame] = {}
        self.cursors: dict[int, vp.CursorImage] = {}
        self.cursor_pixels: dict[int, bytes] = {}
        self.positions: dict[int, tuple[int, int]] = {}
        self.images: dict[int, tuple[vp.Image, int]] = {}
        self.pixels: dict[int, bytes] = {}
        """By scanout: the pixels of the newest frame, in the image's format."""
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self.read()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves."""
        if self.sock.fileno() >= 0:
            self.pause()
            self.sock.close()
        for _, fd in self.images.values():
            os.close(fd)
        self.images.clear()

    def read(self) -> None:
        """Reads from now on."""
        self._loop.add_reader(self.sock, self._readable)

    def pause(self) -> None:
        """Reads no more."""
        self._loop.remove_reader(self.sock)

    def send(self, data: bytes | vp.Message, fds: list[int] | None = None) -> None:
        packet = vp.encode(data) if isinstance(data, vp.Message) else data
        socket.send_fds(self.sock, [packet], fds or [], socket.MSG_NOSIGNAL)

    def done(self, scanout: int = 0) -> None:
        """Answers the newest frame."""
        self.send(vp.FrameDone(scanout, self.frames[scanout].sequence))

    async def wait(self, condition: Callable[[Viewer], object]) -> None:
        """Returns when the condition holds."""
        async with asyncio.timeout(TIMEOUT):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def _readable(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self.sock, 4096, 8)
        except BlockingIOError:
            return
        except ConnectionError:
            data, fds, flags = b"", [], 0
        self._changed.set()
        if not data:
            self.closed = True
            self.pause()
            return
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
        message = vp.decode_from_daemon(data, fds)
        self.messages.append(message)
        self._take(message, fds)

    def _take(self, message: vp.Message, fds: list[int]) -> None:
        match message:
            case vp.Welcome():
                self.welcome = message
            case vp.Error():
                self.error = message
            case vp.Image():
                assert message.image not in self.images
                self.images[message.image] = (message, fds[0])
            case vp.ImageGone():
                os.close(self.images.pop(message.image)[1])
            case vp.Scanout():
                self.scanouts[message.scanout] = message
                self.frames.pop(message.scanout, None)
                self.pixels.pop(message.scanout, None)
            case vp.Frame():
                self._frame(message)
            case vp.CursorImage():
                self.cursors[message.scanout] = message
                for fd in fds:
                    self.cursor_pixels[message.scanout] = os.pread(fd, 1 << 16, 0)
                    os.close(fd)
            case vp.CursorPos():
                self.positions[message.scanout] = (message.x, message.y)

    def _frame(self, frame: vp.Frame) -> None:
        scanout = self.scanouts[frame.scanout]
        assert scanout.generation == frame.generation
        self.frames[frame.scanout] = frame
        self.pixels[frame.scanout] = self.look(frame)
        if self.answers:
            self.done(frame.scanout)

    def look(self, frame: vp.Frame) -> bytes:
        """The pixels of a frame, rows packed."""
        image, fd = self.images[frame.image]
        scanout = self.scanouts[frame.scanout]
        with mmap.mmap(fd, image.size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            starts = (row * image.stride + frame.x * 4 for row in range(frame.y, frame.y + scanout.height))
            return b"".join(view[start : start + scanout.width * 4] for start in starts)


async def paint(framebuffer: Framebuffer, colour: tuple[int, int, int], format_: int = Format.B8G8R8X8_UNORM) -> None:
    """Fills a framebuffer with one colour and flushes it."""
    framebuffer.pixels[:] = pixel(colour, format_) * (framebuffer.width * framebuffer.height)
    await framebuffer.flush()


async def shown(
    gpu: GuestGpu,
    width: int = 64,
    height: int = 48,
    colour: tuple[int, int, int] = (200, 100, 50),
    format_: int = Format.B8G8R8X8_UNORM,
    scanout: int = 0,
) -> Framebuffer:
    """A framebuffer of one colour on a scanout."""
    framebuffer = await Framebuffer.create(gpu, width, height, format_)
    await framebuffer.show(scanout)
    await paint(framebuffer, colour, format_)
    return framebuffer


def pictures(colour: tuple[int, int, int], scanout: int = 0) -> Callable[[VmmDisplay], bool]:
    """Condition: the VMM's display shows one colour and nothing else."""
    wanted = pixel(colour)[:3]

    def condition(display: VmmDisplay) -> bool:
        picture = display.pictures.get(scanout)
        if picture is None or not picture.width:
            return False
        data = bytes(picture.pixels)
        return all(data[at::4] == bytes([value]) * (len(data) // 4) for at, value in enumerate(wanted))

    return condition


def viewed(colour: tuple[int, int, int], format_: int = Format.B8G8R8X8_UNORM, scanout: int = 0) -> Any:
    """Condition: the viewer's newest frame has one colour."""

    def condition(viewer: Viewer) -> bool:
        data = viewer.pixels.get(scanout)
        return data is not None and data == pixel(colour, format_) * (len(data) // 4)

    return condition


def whole(width: int, height: int) -> Rect:
    return Rect(0, 0, width, height)


async def until(condition: Callable[[], object]) -> None:
    """Returns when the condition holds; looks at every turn of the loop, for what nobody tells."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0)
