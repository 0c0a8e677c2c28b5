"""Blobs of guest memory for the embedded guest (virtio 1.3, 5.7.6.8): framebuffers that need no transfers.

Over a :class:`~vhost_gpu.guest.driver.GuestGpu`. A driver may use them where the device offers RESOURCE_BLOB and the
VMM passes it on: open the driver with BLOB_FEATURES and ask :func:`has_blobs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from protocol.virtio_gpu import CURSOR_SIDE, Command, Feature, Format, MemEntry, Rect, ResourceFlush
from protocol.virtio_gpu_blob import BlobFlag, BlobMem, ResourceCreateBlob, SetScanoutBlob
from vhost_gpu.guest.driver import LINUX_FEATURES, GuestGpu
from vhost_gpu.guest.framebuffer import PIXEL, Framebuffer
from vhost_gpu.guest.ring import Segment

BLOB_FEATURES = LINUX_FEATURES | 1 << Feature.RESOURCE_BLOB
"""What Linux's driver acknowledges of a device with blobs and without VirGL."""


def has_blobs(gpu: GuestGpu) -> bool:
    """Whether device and driver both have them."""
    return bool(gpu.features & 1 << Feature.RESOURCE_BLOB)


async def create_blob(
    gpu: GuestGpu,
    size: int,
    pieces: Sequence[Segment],
    *,
    resource_id: int | None = None,
    flags: int = BlobFlag.USE_SHAREABLE,
) -> int:
    """RESOURCE_CREATE_BLOB of ``size`` bytes of guest memory; returns the id, a new one unless given."""
    number = gpu.next_id() if resource_id is None else resource_id
    entries = b"".join(MemEntry(piece.gpa, piece.length).encode() for piece in pieces)
    await gpu.command(ResourceCreateBlob(number, BlobMem.GUEST, flags, len(pieces), 0, size, entries))
    return number


async def set_scanout_blob(
    gpu: GuestGpu,
    scanout: int,
    resource_id: int,
    rect: Rect,
    size: tuple[int, int],
    *,
    format_: int = Format.B8G8R8X8_UNORM,
    stride: int | None = None,
    offset: int = 0,
) -> None:
    """SET_SCANOUT_BLOB: ``rect`` of a picture of ``size`` (width, height) that begins ``offset`` bytes into the blob.

    ``stride``: bytes from row to row, those of ``width`` pixels unless given.
    """
    strides = (size[0] * PIXEL if stride is None else stride, 0, 0, 0)
    await gpu.command(SetScanoutBlob(rect, scanout, resource_id, *size, format_, strides, (offset, 0, 0, 0)))


class BlobFramebuffer(Framebuffer):
    """A framebuffer whose resource is a blob: what is painted is shown by a flush alone. ``format_``: its pixels'."""

    format_: int = Format.B8G8R8X8_UNORM

    @classmethod
    async def create(
        cls, gpu: GuestGpu, width: int, height: int, format_: int = Format.B8G8R8X8_UNORM, *, scattered: bool = False
    ) -> Self:
        """Creates the blob with its backing: one piece, or one a page with ``scattered``."""
        framebuffer = cls(gpu, gpu.next_id(), width, height, scattered)
        framebuffer.format_ = format_
        try:
            backing = framebuffer.backing()
            await create_blob(gpu, framebuffer.size, backing, resource_id=framebuffer.resource_id)
        except BaseException:
            framebuffer.release()
            raise
        return framebuffer

    async def show(self, scanout: int = 0, rect: Rect | None = None) -> None:
        """SET_SCANOUT_BLOB to ``rect`` of the picture (default: all of it)."""
        shown = self.whole() if rect is None else rect
        size = (self.width, self.height)
        await set_scanout_blob(self.gpu, scanout, self.resource_id, shown, size, format_=self.format_)

    def flush_commands(self, rects: Sequence[Rect]) -> list[Command]:
        """The flushes that :meth:`flush` sends; scattered pages are up to date on return."""
        self.write_back(rects)
        return [ResourceFlush(rect, self.resource_id) for rect in rects]


async def define_blob_cursor(
    gpu: GuestGpu, picture: bytes, hot_x: int = 0, hot_y: int = 0, *, scanout: int = 0
) -> BlobFramebuffer:
    """Makes ``picture`` (64 x 64 pixels B G R A) the cursor, at (0, 0); returns the blob, which is the caller's."""
    cursor = await BlobFramebuffer.create(gpu, CURSOR_SIDE, CURSOR_SIDE, Format.B8G8R8A8_UNORM)
    cursor.pixels[:] = picture
    await gpu.update_cursor(cursor.resource_id, hot_x=hot_x, hot_y=hot_y, scanout=scanout)
    return cursor
