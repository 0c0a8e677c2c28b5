"""Guest memory of the embedded guest: memfd regions, views of them and a page allocator.

Addresses: a *gpa* is guest-physical (what descriptors and backing entries hold), a *uva* is an address in the VMM's
own address space (what SET_MEM_TABLE and SET_VRING_ADDR hold; the device translates it, so it need not be a real one).
"""

from __future__ import annotations

import mmap
import os
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PAGE = 4096
MIB = 1 << 20

_UVA_BASE = 0x7F00_0000_0000


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """Where a region is to lie; ``size`` and addresses in bytes, multiples of the page size."""

    gpa: int
    size: int
    uva: int
    mmap_offset: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A mapped region. ``fd`` is its memfd (file size ``mmap_offset + size``), ``view`` its ``size`` bytes."""

    gpa: int
    size: int
    uva: int
    mmap_offset: int
    fd: int
    map: mmap.mmap
    view: memoryview

    def holds(self, gpa: int, size: int) -> bool:
        """Whether all of ``[gpa, gpa + size)`` lies inside."""
        return self.gpa <= gpa and gpa + size <= self.gpa + self.size


class OutOfGuestMemory(MemoryError):
    """The allocator has no run of pages that would do."""


def one_region(size: int = 64 * MIB, gpa: int = 0) -> list[RegionSpec]:
    """The plainest layout: one region of ``size`` bytes at ``gpa``."""
    return [RegionSpec(gpa, size, _UVA_BASE + gpa)]


def pc_layout(low: int = 32 * MIB, high: int = 32 * MIB) -> list[RegionSpec]:
    """Two regions with a hole between them, as on a PC: ``low`` bytes from 0 and ``high`` bytes from 4 GiB.

    The uvas do not follow the gpas' order, and the second region starts inside its file, as QEMU's do.
    """
    return [
        RegionSpec(0, low, _UVA_BASE + (1 << 36)),
        RegionSpec(1 << 32, high, _UVA_BASE, mmap_offset=low),
    ]


def split_regions(count: int, size: int, gpa: int = 0) -> list[RegionSpec]:
    """``count`` regions of ``size`` bytes each, adjacent in gpa and far apart in uva."""
    return [RegionSpec(gpa + i * size, size, _UVA_BASE + ((count - i) << 36)) for i in range(count)]


def _map_region(spec: RegionSpec) -> Region:
    if spec.size <= 0 or (spec.gpa | spec.size | spec.mmap_offset) % PAGE:
        raise ValueError(f"region is not made of whole pages: {spec}")
    fd = os.memfd_create("vhost-gpu-guest", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, spec.mmap_offset + spec.size)
        mapping = mmap.mmap(fd, spec.size, offset=spec.mmap_offset)
    except BaseException:
        os.close(fd)
        raise
    return Region(spec.gpa, spec.size, spec.uva, spec.mmap_offset, fd, mapping, memoryview(mapping))


class GuestMemory:
    """Guest memory made of memfd regions, with an allocator over all of them.

    Allocations are page-sized and page-aligned; :meth:`alloc` never crosses a region, :meth:`alloc_pages` gives single
    pages in an order in which no page follows its predecessor, as a fragmented guest would.
    """

    def __init__(self, layout: Iterable[RegionSpec] | None = None) -> None:
        """Maps the regions of ``layout`` (default: :func:`one_region`)."""
        self.regions: list[Region] = []
        self._free: list[tuple[int, int]] = []
        try:
            for spec in one_region() if layout is None else layout:
                self.add_region(spec)
        except BaseException:
            self.close()
            raise

    def add_region(self, spec: RegionSpec, *, allocate: bool = True) -> Region:
        """Maps one more region and gives its pages to the allocator unless ``allocate`` is false."""
        region = _map_region(spec)
        self.regions.append(region)
        if allocate:
            insort(self._free, (region.gpa, region.size))
        return region

    def remove_region(self, region: Region) -> None:
        """Takes a region away, used or not: its pages are no longer given out and its file is closed."""
        self.regions.remove(region)
        self._free = [run for run in self._free if not region.holds(*run)]
        _unmap(region)

    def close(self) -> None:
        """Unmaps everything. Views that are still in use keep their mapping until they are gone."""
        for region in self.regions:
            _unmap(region)
        self.regions.clear()
        self._free.clear()

    # ---- addresses and content ----

    def region_of(self, gpa: int, size: int = 1) -> Region:
        """The region that holds all ``size`` bytes at ``gpa``. Raises ValueError when none does."""
        for region in self.regions:
            if region.holds(gpa, size):
                return region
        raise ValueError(f"no region holds {size} bytes at {gpa:#x}")

    def view(self, gpa: int, size: int) -> memoryview:
        """A writable view of ``size`` bytes inside one region."""
        region = self.region_of(gpa, size)
        start = gpa - region.gpa
        return region.view[start : start + size]

    def uva(self, gpa: int) -> int:
        """The VMM's address of a guest-physical byte."""
        region = self.region_of(gpa)
        return region.uva + (gpa - region.gpa)

    def read(self, gpa: int, size: int) -> bytes:
        """Copies ``size`` bytes out; they may cross regions that are adjacent in gpa."""
        return b"".join(self._pieces(gpa, size))

    def write(self, gpa: int, data: bytes | bytearray | memoryview) -> None:
        """Copies ``data`` in; it may cross regions that are adjacent in gpa."""
        source = memoryview(data).cast("B")
        done = 0
        for piece in self._pieces(gpa, len(source)):
            piece[:] = source[done : done + len(piece)]
            done += len(piece)

    def _pieces(self, gpa: int, size: int) -> list[memoryview]:
        pieces = []
        while size:
            region = self.region_of(gpa)
            count = min(size, region.gpa + region.size - gpa)
            pieces.append(self.view(gpa, count))
            gpa += count
            size -= count
        return pieces

    # ---- allocator ----

    def alloc(self, size: int) -> int:
        """Gives ``size`` bytes (rounded up to pages) contiguous in one region, zeroed; returns the gpa."""
        size = page_align(size)
        for i, (start, length) in enumerate(self._free):
            if length >= size:
                self._take(i, size)
                self.view(start, size)[:] = bytes(size)
                return start
        raise OutOfGuestMemory(f"no {size} contiguous bytes of guest memory left")

    def alloc_pages(self, count: int) -> list[int]:
        """Gives ``count`` single pages (gpas), zeroed, no page right behind its predecessor in the list."""
        pages: list[int] = []
        while len(pages) < count:
            if not self._free:
                self.free_pages(pages)
                raise OutOfGuestMemory(f"no {count} pages of guest memory left")
            start, length = self._free[0]
            size = min(length, (count - len(pages)) * PAGE)
            self._take(0, size)
            pages += range(start, start + size, PAGE)
        for page in pages:
            self.view(page, PAGE)[:] = bytes(PAGE)
        return pages[1::2] + pages[0::2]

    def free(self, gpa: int, size: int) -> None:
        """Takes back what :meth:`alloc` gave; same ``size``."""
        insort(self._free, (gpa, page_align(size)))
        self._merge()

    def free_pages(self, pages: Sequence[int]) -> None:
        """Takes back what :meth:`alloc_pages` gave."""
        self._free = sorted([*self._free, *((page, PAGE) for page in pages)])
        self._merge()

    def free_bytes(self) -> int:
        """Bytes that the allocator still has."""
        return sum(length for _, length in self._free)

    def _take(self, index: int, size: int) -> None:
        start, length = self._free[index]
        if length == size:
            del self._free[index]
        else:
            self._free[index] = (start + size, length - size)

    def _merge(self) -> None:
        """Joins free runs that touch, but never across a region's end."""
        starts = {region.gpa for region in self.regions}
        merged: list[tuple[int, int]] = []
        for start, length in self._free:
            if merged and start not in starts and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self._free = merged


def page_align(size: int) -> int:
    """``size`` rounded up to whole pages."""
    return (size + PAGE - 1) & -PAGE


def _unmap(region: Region) -> None:
    os.close(region.fd)
    try:
        region.view.release()
        region.map.close()
    except BufferError:
        pass  # someone still holds a view: the mapping goes with the last of them
