"""The C core's 2D device in a test's hands: commands as calls, guest memory in a memfd, no rings."""

import mmap
import os
import struct
from types import TracebackType
from typing import Any, NamedTuple, Self

from backend._core import ffi, lib

OK = 0x1100
ERR_UNSPEC = 0x1200
ERR_OUT_OF_MEMORY = 0x1201
ERR_INVALID_SCANOUT_ID = 0x1202
ERR_INVALID_RESOURCE_ID = 0x1203
ERR_INVALID_PARAMETER = 0x1205

B8G8R8A8, B8G8R8X8, A8R8G8B8, X8R8G8B8 = 1, 2, 3, 4
R8G8B8A8, X8B8G8R8, A8B8G8R8, R8G8B8X8 = 67, 68, 121, 134

MIB = 1 << 20
RAM_GPA = 0x10_0000
RAM_SIZE = 4 * MIB
UVA = 0x7F00_0000_0000

Rect = tuple[int, int, int, int]
"""x, y, width, height."""


class Frame(NamedTuple):
    generation: int
    sequence: int
    resource: int
    width: int
    height: int
    x: int
    y: int
    format: int
    image: int


class Device:
    """A core device with ``RAM_SIZE`` bytes of guest memory at ``RAM_GPA``, writable here as ``ram``."""

    def __init__(self, scanouts: int = 2, hostmem: int = 64 * MIB) -> None:
        self.dev = lib.vg_device_new(scanouts, hostmem)
        assert self.dev != ffi.NULL
        self.ram = self.add_memory(RAM_GPA, RAM_SIZE)

    def add_memory(self, gpa: int, size: int) -> mmap.mmap:
        """One more region of guest memory."""
        fd = os.memfd_create("guest")
        try:
            os.ftruncate(fd, size)
            assert lib.vg_mem_add(self.dev, fd, gpa, size, gpa + UVA, 0) == 0
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def remove_memory(self, gpa: int, size: int) -> None:
        assert lib.vg_mem_remove(self.dev, gpa, size, gpa + UVA) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.ram.close()
        lib.vg_device_free(self.dev)

    @property
    def used(self) -> int:
        return int(lib.vg_hostmem_used(self.dev))

    # ---- commands ----

    def create(self, id_: int, width: int, height: int, format_: int = B8G8R8X8) -> int:
        return int(lib.vg_resource_create_2d(self.dev, id_, format_, width, height))

    def unref(self, id_: int) -> int:
        return int(lib.vg_resource_unref(self.dev, id_))

    def attach(self, id_: int, *pieces: tuple[int, int]) -> int:
        """Backing of (guest-physical address, length) pieces; by default all of ``ram``."""
        data = b"".join(struct.pack("<QII", *piece, 0) for piece in (pieces or ((RAM_GPA, RAM_SIZE),)))
        return int(lib.vg_resource_attach_backing(self.dev, id_, data, len(data) // 16))

    def detach(self, id_: int) -> int:
        return int(lib.vg_resource_detach_backing(self.dev, id_))

    def transfer(self, id_: int, rect: Rect, offset: int = 0) -> int:
        return int(lib.vg_transfer_to_host_2d(self.dev, id_, *rect, offset))

    def flush(self, id_: int, rect: Rect) -> int:
        return int(lib.vg_resource_flush(self.dev, id_, *rect))

    def set_scanout(self, scanout: int, id_: int, rect: Rect = (0, 0, 0, 0)) -> int:
        return int(lib.vg_set_scanout(self.dev, scanout, id_, *rect))

    def fill(self, id_: int, width: int, rect: Rect, pixel: bytes) -> None:
        """Paints a rectangle of a resource of that width: in guest memory at its own place, then transferred."""
        x, y, w, h = rect
        for row in range(y, y + h):
            start = (row * width + x) * 4
            self.ram[start : start + 4 * w] = pixel * w
        assert self.transfer(id_, rect, (y * width + x) * 4) == OK

    # ---- looking ----

    def read(self, id_: int, rect: Rect) -> bytes:
        """A resource's present content, rows packed."""
        _, _, width, height = rect
        out = ffi.new("uint8_t[]", max(1, width * height * 4))
        assert lib.vg_resource_read(self.dev, id_, *rect, out, width * 4) == 0
        return bytes(ffi.buffer(out, width * height * 4))

    def frame(self, scanout: int = 0) -> Frame:
        out = ffi.new("vg_frame *")
        assert lib.vg_scanout_frame(self.dev, scanout, out) == 0
        return Frame(
            out.generation,
            out.sequence,
            out.resource_id,
            out.width,
            out.height,
            out.x,
            out.y,
            out.format,
            out.image,
        )

    def damage(self, scanout: int = 0, most: int = 32) -> list[Rect]:
        out = ffi.new("vg_rect[]", most)
        count = lib.vg_scanout_take_damage(self.dev, scanout, out, most)
        assert 0 <= count <= most
        return sorted((out[i].x, out[i].y, out[i].width, out[i].height) for i in range(count))

    def dirty(self) -> int:
        return int(lib.vg_take_dirty(self.dev))

    def describe(self, image: int) -> Any:
        out = ffi.new("vg_image_info *")
        assert lib.vg_image_describe(self.dev, image, out) == 0
        return out

    def image_bytes(self, image: int) -> bytes:
        """The whole image, as a sink sees it through a mapping of its own."""
        info = self.describe(image)
        with mmap.mmap(info.fd, info.size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
            return view[:]

    def shown(self, scanout: int = 0) -> bytes:
        """The pixels of a scanout's published frame, rows packed, in the image's format."""
        frame = self.frame(scanout)
        stride = self.describe(frame.image).stride
        data = self.image_bytes(frame.image)
        starts = (row * stride + frame.x * 4 for row in range(frame.y, frame.y + frame.height))
        return b"".join(data[start : start + frame.width * 4] for start in starts)

    def hold(self, image: int) -> int:
        return int(lib.vg_image_hold(self.dev, image))

    def release(self, image: int) -> None:
        lib.vg_image_release(self.dev, image)

    def starved(self) -> bool:
        return bool(lib.vg_images_starved(self.dev))

    def retired(self) -> list[int]:
        out = ffi.new("uint64_t[]", 4)
        ids: list[int] = []
        while count := lib.vg_take_retired_images(self.dev, out, 4):
            ids += ffi.unpack(out, count)
        return ids


def resident_kib() -> int:
    """Resident memory of this process, KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE // 1024


def resident_slack_kib() -> int:
    """How much resident memory may grow without a leak. The address sanitizer keeps freed memory aside for a while."""
    with open("/proc/self/maps") as file:
        return 600 * 1024 if "libasan" in file.read() else 2048


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))
