"""Framebuffers and cursors of the embedded guest: a resource, its backing, and what brings changes to the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from protocol.virtio_gpu import CURSOR_SIDE, Command, Format, Rect, ResourceFlush, TransferToHost2d
from vhost_gpu.guest.driver import GuestGpu
from vhost_gpu.guest.memory import PAGE, page_align
from vhost_gpu.guest.ring import Segment

PIXEL = 4


class Framebuffer:
    """A resource of ``width`` x ``height`` pixels of 4 bytes with backing; paint into ``pixels``, then :meth:`flush`.

    ``pixels``: ``height`` rows of ``stride`` bytes. It is guest memory itself when the backing is contiguous; when it
    is scattered over pages it is a copy, which :meth:`flush` brings to the pages (a kernel would map them in a row).
    """

    def __init__(self, gpu: GuestGpu, resource_id: int, width: int, height: int, scattered: bool) -> None:
        """Allocates the backing only: :meth:`create` is for callers."""
        self.gpu = gpu
        self.resource_id = resource_id
        self.width = width
        self.height = height
        self.stride = width * PIXEL
        self.size = self.stride * height
        self._pages: list[int] = []
        self._gpa = 0
        if scattered:
            self._pages = gpu.memory.alloc_pages(page_align(self.size) // PAGE)
            self.pixels = memoryview(bytearray(self.size))
        else:
            self._gpa = gpu.memory.alloc(self.size)
            self.pixels = gpu.memory.view(self._gpa, self.size)

    @classmethod
    async def create(
        cls, gpu: GuestGpu, width: int, height: int, format_: int = Format.B8G8R8X8_UNORM, *, scattered: bool = False
    ) -> Self:
        """Creates the resource and attaches backing: one piece, or one a page with ``scattered``."""
        framebuffer = cls(gpu, gpu.next_id(), width, height, scattered)
        try:
            await gpu.create_2d(width, height, format_, resource_id=framebuffer.resource_id)
            await gpu.attach_backing(framebuffer.resource_id, framebuffer.backing())
        except BaseException:
            framebuffer.release()
            raise
        return framebuffer

    def backing(self) -> list[Segment]:
        """The pieces of guest memory behind the resource."""
        if not self._pages:
            return [Segment(self._gpa, self.size)]
        return [
            Segment(page, min(PAGE, self.size - at))
            for page, at in zip(self._pages, range(0, self.size, PAGE), strict=True)
        ]

    def whole(self) -> Rect:
        """The rectangle of the whole resource."""
        return Rect(0, 0, self.width, self.height)

    async def show(self, scanout: int = 0, rect: Rect | None = None) -> None:
        """SET_SCANOUT to ``rect`` of the resource (default: all of it)."""
        await self.gpu.set_scanout(scanout, self.resource_id, self.whole() if rect is None else rect)

    async def flush(self, rects: Sequence[Rect] | None = None, *, fenced: bool = False) -> None:
        """Brings ``rects`` (default: all) to the device and to the screens: one kick, answered when all is done."""
        await self.gpu.batch(self.flush_commands([self.whole()] if rects is None else rects), fenced=fenced)

    def flush_commands(self, rects: Sequence[Rect]) -> list[Command]:
        """The transfers and flushes that :meth:`flush` sends; scattered pages are up to date on return."""
        self.write_back(rects)
        commands: list[Command] = [
            TransferToHost2d(rect, rect.y * self.stride + rect.x * PIXEL, self.resource_id) for rect in rects
        ]
        return commands + [ResourceFlush(rect, self.resource_id) for rect in rects]

    def write_back(self, rects: Sequence[Rect]) -> None:
        """Brings what was painted in ``rects`` to the pages, where they are scattered: every page that one touches."""
        if not self._pages:
            return
        touched: set[int] = set()
        for rect in rects:
            for y in range(rect.y, rect.y + rect.height):
                start = y * self.stride + rect.x * PIXEL
                touched.update(range(start // PAGE, (start + rect.width * PIXEL - 1) // PAGE + 1))
        for page in touched:
            self.gpu.memory.write(self._pages[page], self.pixels[page * PAGE : (page + 1) * PAGE])

    async def destroy(self) -> None:
        """RESOURCE_UNREF, then gives the memory back."""
        await self.gpu.unref(self.resource_id)
        self.release()

    def release(self) -> None:
        """Gives the guest memory back without telling the device: after a reset."""
        self.pixels.release()
        if self._pages:
            self.gpu.memory.free_pages(self._pages)
        elif self.size:
            self.gpu.memory.free(self._gpa, self.size)
        self._pages = []
        self.size = 0


async def define_cursor(gpu: GuestGpu, picture: bytes, hot_x: int = 0, hot_y: int = 0, *, scanout: int = 0) -> int:
    """Makes ``picture`` (64 x 64 pixels B G R A) the cursor, at (0, 0); returns its resource id, without backing."""
    framebuffer = await Framebuffer.create(gpu, CURSOR_SIDE, CURSOR_SIDE, Format.B8G8R8A8_UNORM)
    framebuffer.pixels[:] = picture
    await gpu.transfer(framebuffer.resource_id, framebuffer.whole(), 0)
    await gpu.update_cursor(framebuffer.resource_id, hot_x=hot_x, hot_y=hot_y, scanout=scanout)
    await gpu.detach_backing(framebuffer.resource_id)
    framebuffer.release()
    return framebuffer.resource_id
