"""The benchmark's guest: set up by the embedded guest's driver, then driven by C loops."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from protocol.virtio_gpu import Command, Format, Rect, ResourceFlush, SetScanout, TransferToHost2d
from vhost_gpu.bench.display import DrainedDisplay
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.queueloop import Prepared, QueueLoop, prepare
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.command_queue import DeviceStopped
from vhost_gpu.guest.driver import LINUX_FEATURES, DeviceFault, GuestError, GuestGpu
from vhost_gpu.guest.memory import MIB, PAGE, GuestMemory, one_region, page_align
from vhost_gpu.guest.ring import Segment
from vhost_gpu.guest.vmm import VmmError, VmmOptions

PIXEL = 4
_ANSWER_SECONDS = 20.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surface:
    """A resource with backing. ``pieces``: its backing in order."""

    resource_id: int
    width: int
    height: int
    pieces: tuple[Segment, ...]

    @property
    def stride(self) -> int:
        """Bytes from row to row."""
        return self.width * PIXEL

    @property
    def size(self) -> int:
        """Bytes of all its pixels."""
        return self.stride * self.height

    @property
    def whole(self) -> Rect:
        """All of it."""
        return Rect(0, 0, self.width, self.height)

    def update(self, rect: Rect | None = None) -> tuple[Prepared, ...]:
        """The operation that brings ``rect`` (default: all) to the screen: a transfer and a flush."""
        rect = self.whole if rect is None else rect
        offset = rect.y * self.stride + rect.x * PIXEL
        return prepare(TransferToHost2d(rect, offset, self.resource_id), ResourceFlush(rect, self.resource_id))


class BenchGuest:
    """A guest of ``target``. Resources first: with the first use of :attr:`control` or :attr:`cursor` C takes over."""

    def __init__(
        self,
        target: Target,
        *,
        memory: int = 16 * MIB,
        modes: Sequence[tuple[int, int]] | None = ((1280, 800),),
        features: int = LINUX_FEATURES,
    ) -> None:
        """Connects and starts the device. ``memory``: bytes; ``modes``: the outputs' preferred sizes, None for a VMM
        without a display socket."""
        self.target = target
        self.memory = GuestMemory(one_region(memory))
        self.display = DrainedDisplay(modes or [])
        self._runner = asyncio.Runner()
        self._loops: dict[int, QueueLoop] = {}
        self._connection = target.connect()
        options = VmmOptions(display=self.display if modes else None)
        try:
            self.gpu = self.do(GuestGpu.open(self._connection, self.memory, options, features=features))
        except BaseException:
            self._end()
            raise

    @classmethod
    @contextmanager
    def open(cls, target: Target, **arguments: Any) -> Iterator[Self]:
        """A guest until leaving; arguments as for the class."""
        with cls(target, **arguments) as guest:
            yield guest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and frees the guest's memory."""
        self._loops.clear()
        self.do(self._close_gpu())
        self._end()

    async def _close_gpu(self) -> None:
        self.gpu.close()

    def _end(self) -> None:
        self._connection.close()
        self.display.close()
        self._runner.close()
        self.memory.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs the driver's ``work`` to its end. Raises BenchError when the back-end fails it."""
        try:
            return self._runner.run(asyncio.wait_for(work, _ANSWER_SECONDS))
        except TimeoutError:
            raise BenchError(f"{self.target.program.name} does not answer{self.target.last_words()}") from None
        except (GuestError, DeviceFault, DeviceStopped, VmmError) as error:
            raise BenchError(f"{self.target.program.name}: {error}{self.target.last_words()}") from error

    # ---- resources ----

    def surface(
        self,
        width: int,
        height: int,
        *,
        scattered: bool = False,
        piece: int = PAGE,
        format_: int = Format.B8G8R8X8_UNORM,
    ) -> Surface:
        """A resource with backing in one piece, or ``scattered`` over pieces of ``piece`` bytes in random order."""
        size = page_align(width * height * PIXEL)
        gpa = self.memory.alloc(size)
        self._paint(gpa, size)
        return self._surface_at(gpa, width, height, piece if scattered else size, format_)

    def surface_over(self, other: Surface, *, scattered: bool = False, piece: int = PAGE) -> Surface:
        """Another resource over the memory of one whose backing is one piece."""
        (whole,) = other.pieces
        return self._surface_at(whole.gpa, other.width, other.height, piece if scattered else whole.length)

    def _surface_at(
        self, gpa: int, width: int, height: int, piece: int, format_: int = Format.B8G8R8X8_UNORM
    ) -> Surface:
        pieces = _scattered(gpa, page_align(width * height * PIXEL), piece)
        number = self.do(self.gpu.create_2d(width, height, format_))
        self.do(self.gpu.attach_backing(number, pieces))
        return Surface(number, width, height, tuple(pieces))

    def _paint(self, gpa: int, size: int) -> None:
        """Pixels that are not zero: zero pages might be cheaper than others."""
        pattern = bytes(range(1, 256)) * 257
        view = self.memory.view(gpa, size)
        for at in range(0, size, len(pattern)):
            view[at : at + len(pattern)] = pattern[: size - at]

    def show(self, surface: Surface, scanout: int = 0) -> None:
        """Puts it on a scanout and flushes all of it, from the loop if that has taken over."""
        whole, number = surface.whole, surface.resource_id
        commands: list[Command] = [
            TransferToHost2d(whole, 0, number),
            SetScanout(whole, scanout, number),
            ResourceFlush(whole, number),
        ]
        if 0 in self._loops:
            self.control.run([prepare(*commands)], count=1)
        else:
            self.do(self.gpu.batch(commands))

    # ---- loops ----

    @property
    def control(self) -> QueueLoop:
        """The control queue."""
        return self._loop(0)

    @property
    def cursor(self) -> QueueLoop:
        """The cursor queue."""
        return self._loop(1)

    def _loop(self, index: int) -> QueueLoop:
        if index not in self._loops:
            vring = self.gpu.vmm.vrings[index]
            ring = self.gpu.queues[index].ring
            self._runner.get_loop().remove_reader(vring.call)  # the driver is not to look at this ring again
            self._loops[index] = QueueLoop(self.memory, ring, vring.kick, vring.call, self._connection.fileno())
        return self._loops[index]


def _scattered(gpa: int, size: int, piece: int) -> list[Segment]:
    pieces = [Segment(at, min(piece, gpa + size - at)) for at in range(gpa, gpa + size, piece)]
    full, rest = (pieces[:-1], pieces[-1:]) if pieces[-1].length < piece else (pieces, [])
    random.Random(1).shuffle(full)
    return full + rest


def settle(guest: BenchGuest, seconds: float = 1.0) -> None:
    """Waits until nothing more comes over the display socket."""
    end = time.monotonic() + seconds
    before = guest.display.drawn().messages
    while time.monotonic() < end:
        time.sleep(0.02)
        now = guest.display.drawn().messages
        if now == before:
            return
        before = now
