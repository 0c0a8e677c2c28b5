"""What the demo shows: scenes on scanout 0 of a started device, frame by frame.

``2d`` is painted by the guest into a framebuffer, ``balls`` is drawn by the device's renderer from one stream a frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Self

from protocol.virtio_gpu import ResourceFlush
from vhost_gpu.guest.balls import Balls
from vhost_gpu.guest.balls_stream import (
    BUFFER_BIND,
    BUFFER_FORMAT,
    BUFFER_TARGET,
    FORMAT,
    PICTURE_BIND,
    PICTURE_TARGET,
    BallsStream,
    buffer_size,
)
from vhost_gpu.guest.driver import LINUX_FEATURES, GuestGpu, checked
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, Context, Gpu3d
from vhost_gpu.guest.framebuffer import Framebuffer, define_cursor
from vhost_gpu.guest.picture import cursor_picture
from vhost_gpu.guest.scene import Scene


class Show:
    """A scene on its way, and how it went: ``frames`` in ``seconds``."""

    FEATURES: ClassVar[int] = LINUX_FEATURES
    """What the driver is to acknowledge."""
    DAEMON_OPTIONS: ClassVar[tuple[str, ...]] = ()
    """What a daemon of our own is started with."""

    def __init__(self, gpu: GuestGpu) -> None:
        """:meth:`create` is for callers."""
        self.gpu = gpu
        self.frames = 0
        self.seconds = 0.0

    @classmethod
    async def create(cls, gpu: GuestGpu, width: int, height: int) -> Self:
        """The first picture is on the screen on return. Raises GuestError; No3d where the scene wants 3D."""
        raise NotImplementedError

    async def frame(self) -> None:
        """The next frame; the device is done with it on return."""
        raise NotImplementedError

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    async def paint(self, stop: asyncio.Event, fps: float) -> None:
        """Frames until ``stop``, each when it is due; after a delay it goes on from there and does not catch up."""
        loop = asyncio.get_running_loop()
        began = due = loop.time()
        while not stop.is_set():
            await self.frame()
            self.frames += 1
            self.seconds = loop.time() - began
            if fps:
                due = max(due + 1 / fps, loop.time())
                await asyncio.sleep(due - loop.time())


class PaintedShow(Show):
    """The 2D scene: the guest paints, only where something moved, and a cursor glides."""

    def __init__(self, gpu: GuestGpu, framebuffer: Framebuffer, scene: Scene) -> None:
        """:meth:`create` is for callers."""
        super().__init__(gpu)
        self.framebuffer = framebuffer
        self.scene = scene

    @classmethod
    async def create(cls, gpu: GuestGpu, width: int, height: int, *, scattered: bool = False) -> Self:
        """As for a Show; ``scattered``: the framebuffer is spread over single pages."""
        framebuffer = await Framebuffer.create(gpu, width, height, scattered=scattered)
        scene = Scene(width, height)
        scene.start(framebuffer.pixels)
        await framebuffer.show()
        await framebuffer.flush()
        await define_cursor(gpu, cursor_picture())
        return cls(gpu, framebuffer, scene)

    async def frame(self) -> None:
        """The next frame."""
        damage = self.scene.step(self.framebuffer.pixels)
        moved = asyncio.ensure_future(self.gpu.move_cursor(*self.scene.cursor()))
        await asyncio.gather(self.framebuffer.flush(damage), moved)


class ScatteredShow(PaintedShow):
    """The same over single pages, as a kernel may have them."""

    @classmethod
    async def create(cls, gpu: GuestGpu, width: int, height: int, *, scattered: bool = True) -> Self:
        """As for a PaintedShow."""
        return await super().create(gpu, width, height, scattered=scattered)


class BallsShow(Show):
    """Twelve bouncing balls: for each frame one SUBMIT_3D, with a fence, and one RESOURCE_FLUSH, with one kick."""

    FEATURES = VIRGL_FEATURES
    DAEMON_OPTIONS = ("--virgl",)

    def __init__(self, context: Context, stream: BallsStream) -> None:
        """:meth:`create` is for callers."""
        super().__init__(context.gpu)
        self.context = context
        self.stream = stream
        self.balls = Balls(stream.width, stream.height)

    @classmethod
    async def create(cls, gpu: GuestGpu, width: int, height: int) -> Self:
        """As for a Show. The picture has no memory in the guest: nobody there looks at it."""
        gpu3d = Gpu3d(gpu)
        context = await gpu3d.context("balls")
        picture = await gpu3d.create(PICTURE_TARGET, FORMAT, PICTURE_BIND, width, height)
        vertices = await gpu3d.create(BUFFER_TARGET, BUFFER_FORMAT, BUFFER_BIND, buffer_size())
        await context.attach(picture, vertices)
        show = cls(context, BallsStream(picture, vertices, width, height))
        await context.submit(show.stream.setup())
        await context.submit(show.stream.frame(show.balls.balls))
        await gpu.set_scanout(0, picture, show.stream.whole())
        await gpu.flush(picture, show.stream.whole())
        return show

    async def frame(self) -> None:
        """The next frame."""
        self.balls.step()
        pending = self.context.post(self.stream.frame(self.balls.balls))
        flush = ResourceFlush(self.stream.whole(), self.stream.picture)
        flushed = self.gpu.post(flush)
        self.gpu.kick()
        await pending.done()
        checked(await flushed, type(flush).__name__)


SCENES: Mapping[str, type[Show]] = MappingProxyType({"2d": PaintedShow, "balls": BallsShow})
"""By name; the first is the demo's own choice."""
