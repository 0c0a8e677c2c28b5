"""The VMM's end of the display socket: answers the device's questions and keeps the picture that it draws.

What a device must never send (it kills QEMU) is noted in ``violations``, so that a test can demand that there is none.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from protocol.errors import PeerError
from protocol.vhost_user_gpu import (
    CURSOR_BYTES,
    REPLY,
    CursorPos,
    CursorUpdate,
    DisplayFeature,
    DisplayInfoReply,
    DisplayMessage,
    DisplayRequest,
    EdidReply,
    GetDisplayInfo,
    GetEdid,
    GetProtocolFeatures,
    ProtocolFeaturesReply,
    RequestDecoder,
    Scanout,
    SetProtocolFeatures,
    Unknown,
    Update,
)
from protocol.virtio_gpu import MAX_EDID, ControlHeader, DisplayOne, Rect, ResponseType

_LARGEST_SIDE = 16384


class Behaviour(Enum):
    """How the display answers."""

    GOOD = "answers everything, as QEMU does"
    SILENT = "reads and never answers"
    CLOSES = "closes the socket at the first question"
    HUGE_EDID = "answers GET_EDID with a size over 1024"
    GARBAGE = "answers every question with noise"
    STUCK = "does not even read"


@dataclass(slots=True)
class Picture:
    """What is on a scanout: ``height`` rows of ``width`` pixels B G R X without gaps; 0x0 when it is off."""

    width: int = 0
    height: int = 0
    pixels: bytearray = field(default_factory=bytearray)
    updates: int = 0
    """UPDATE messages since the last SCANOUT."""

    def pixel(self, x: int, y: int) -> bytes:
        """The four bytes of a pixel."""
        at = 4 * (y * self.width + x)
        return bytes(self.pixels[at : at + 4])

    def draw(self, update: Update) -> None:
        """Copies an update that lies inside."""
        row = 4 * update.width
        pixels = memoryview(update.pixels)
        for i in range(update.height):
            at = 4 * ((update.y + i) * self.width + update.x)
            self.pixels[at : at + row] = pixels[i * row : (i + 1) * row]


@dataclass(slots=True)
class Cursor:
    """The cursor of a scanout; ``pixels``: 64 x 64 B G R A, zero before the first CURSOR_UPDATE."""

    x: int = 0
    y: int = 0
    hot_x: int = 0
    hot_y: int = 0
    visible: bool = False
    pixels: bytes = bytes(CURSOR_BYTES)
    updates: int = 0


def plain_edid(serial: int = 1) -> bytes:
    """A 128-byte EDID with a valid header and checksum and nothing but a serial number: to be recognised by."""
    block = b"\x00\xff\xff\xff\xff\xff\xff\x00" + struct.pack(">H", 0x5A3B) + struct.pack("<HI", 1, serial)
    block = (block + bytes((1, 34, 1, 4))).ljust(127, b"\0")
    return block + bytes((-sum(block) & 0xFF,))


class VmmDisplay:
    """A display for any number of sockets, one after another: :meth:`open` gives the device's end of a new one.

    ``pictures`` and ``cursors`` are keyed by scanout and begin empty with every socket.
    """

    def __init__(
        self,
        modes: Sequence[tuple[int, int]] = ((1280, 800),),
        *,
        edid: bytes | None = None,
        features: int = 1 << DisplayFeature.EDID | 1 << DisplayFeature.DMABUF2,
        behaviour: Behaviour = Behaviour.GOOD,
    ) -> None:
        """``modes``: preferred width and height of every output that there is."""
        self.modes = list(modes)
        self.edid = plain_edid() if edid is None else edid
        self.features = features
        self.behaviour = behaviour
        self.agreed_features = 0
        """What the device acknowledged with SET_PROTOCOL_FEATURES."""
        self.pictures: dict[int, Picture] = {}
        self.cursors: dict[int, Cursor] = {}
        self.requests: list[str] = []
        """Names of the messages on the present socket, in order."""
        self.received = 0
        """Bytes from the present socket."""
        self.violations: list[str] = []
        """What the device did that it must not do, on any socket."""
        self.opened = 0
        """Sockets so far."""
        self._task: asyncio.Task[None] | None = None
        self._sock: socket.socket | None = None
        self._changed = asyncio.Event()

    def open(self) -> socket.socket:
        """Ends the present socket and begins a new one; returns the end to be given to the device."""
        self.close()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.pictures.clear()
        self.cursors.clear()
        self.requests.clear()
        self.received = 0
        self.opened += 1
        self._sock = ours
        if self.behaviour is not Behaviour.STUCK:
            self._task = asyncio.get_running_loop().create_task(self._serve(ours))
        return theirs

    def close(self) -> None:
        """Closes the present socket, at once."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._sock is not None:
            # shutdown, not close alone: the cancelled task may hold the descriptor for one more turn of the loop
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            asyncio.get_running_loop().call_soon(self._sock.close)
            self._sock = None

    async def wait_until(self, condition: Callable[[VmmDisplay], bool], timeout: float = 10) -> None:
        """Returns when ``condition`` holds, now or after some message. Raises TimeoutError (``timeout``: seconds)."""
        async with asyncio.timeout(timeout):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    # ---- one socket ----

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        decoder = RequestDecoder()
        try:
            while data := await loop.sock_recv(sock, 1 << 20):
                self.received += len(data)
                for message in decoder.feed(data):
                    self._note(message)
                    answer = self._answer(message)
                    if answer is None:
                        return
                    await loop.sock_sendall(sock, answer)
                self._changed.set()
        except PeerError as error:
            self._complain(str(error))
        except ConnectionError:
            pass
        finally:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            self._changed.set()

    def _note(self, message: DisplayMessage) -> None:
        self.requests.append(type(message).__name__)
        match message:
            case SetProtocolFeatures():
                self.agreed_features = message.features
            case Scanout():
                self._set_scanout(message)
            case Update():
                self._update(message)
            case CursorUpdate():
                self._cursor_update(message)
            case CursorPos():
                cursor = self.cursors.setdefault(message.scanout, Cursor())
                cursor.x, cursor.y, cursor.visible = message.x, message.y, message.visible
            case Unknown():
                self._complain(f"unknown request {message.request}")
            case _:
                pass

    def _set_scanout(self, message: Scanout) -> None:
        width, height = message.width, message.height
        if message.scanout >= len(self.modes):
            self._complain(f"SCANOUT of output {message.scanout}")
        elif max(width, height) > _LARGEST_SIDE:
            self._complain(f"SCANOUT of {width}x{height}")
        else:
            self.pictures[message.scanout] = Picture(width, height, bytearray(4 * width * height))

    def _update(self, message: Update) -> None:
        picture = self.pictures.get(message.scanout)
        if picture is None or not picture.width:
            self._complain(f"UPDATE of output {message.scanout} without a SCANOUT")
        elif not _inside(Rect(message.x, message.y, message.width, message.height), picture):
            self._complain(f"UPDATE outside the scanout: {message.width}x{message.height}+{message.x}+{message.y}")
        else:
            picture.draw(message)
            picture.updates += 1

    def _cursor_update(self, message: CursorUpdate) -> None:
        cursor = self.cursors.setdefault(message.scanout, Cursor())
        cursor.x, cursor.y, cursor.hot_x, cursor.hot_y = message.x, message.y, message.hot_x, message.hot_y
        cursor.pixels, cursor.visible = message.pixels, True
        cursor.updates += 1

    def _complain(self, what: str) -> None:
        self.violations.append(what)
        self._changed.set()

    def _answer(self, message: DisplayMessage) -> bytes | None:
        """What to send; nothing: empty; None: close the socket."""
        if not isinstance(message, GetProtocolFeatures | GetDisplayInfo | GetEdid):
            return b""
        match self.behaviour:
            case Behaviour.SILENT:
                return b""
            case Behaviour.CLOSES:
                return None
            case Behaviour.GARBAGE:
                return b"\xa5" * 64
            case _:
                return self._good_answer(message)

    def _good_answer(self, message: GetProtocolFeatures | GetDisplayInfo | GetEdid) -> bytes:
        if isinstance(message, GetProtocolFeatures):
            return ProtocolFeaturesReply(self.features).encode()
        if isinstance(message, GetDisplayInfo):
            modes = tuple(DisplayOne(Rect(0, 0, width, height)) for width, height in self.modes)
            return DisplayInfoReply(modes).encode()
        if message.scanout >= len(self.modes):
            self._complain(f"GET_EDID of output {message.scanout}")
            return b""  # QEMU prints an error and never answers
        if self.behaviour is Behaviour.HUGE_EDID:
            return _huge_edid()
        return EdidReply(self.edid).encode()


def _inside(rect: Rect, picture: Picture) -> bool:
    return rect.x + rect.width <= picture.width and rect.y + rect.height <= picture.height


def _huge_edid() -> bytes:
    """A reply of the right length that announces 1025 bytes of EDID."""
    payload = ControlHeader(ResponseType.OK_EDID).encode() + struct.pack("<II", MAX_EDID + 1, 0) + bytes(MAX_EDID)
    return struct.pack("=III", DisplayRequest.GET_EDID, REPLY, len(payload)) + payload
