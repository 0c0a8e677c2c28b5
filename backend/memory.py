"""The guest's memory table, as the VMM described it, over the core's mapped regions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backend._core import lib
from protocol.errors import PeerError

MAX_SLOTS: int = lib.VG_MAX_REGIONS
"""The answer to GET_MAX_MEM_SLOTS."""


@dataclass(frozen=True, slots=True)
class Region:
    """One region of guest memory (vhost-user "memory region description")."""

    gpa: int
    """Guest-physical address."""
    size: int
    """Bytes."""
    uva: int
    """Address in the VMM's address space: what vring addresses are relative to."""
    mmap_offset: int
    """Where the region starts in its file."""


class GuestMemory:
    """The regions of one device. Descriptors stay the caller's: the mapping needs none after the call."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.regions: list[Region] = []

    @property
    def faults(self) -> int:
        """Pages that were gone under their mapping and read as zeros since."""
        return int(lib.vg_mem_faults(self._core))

    def replace(self, regions: Sequence[Region], fds: Sequence[int]) -> None:
        """SET_MEM_TABLE: these regions instead of all earlier ones.

        Raises:
            PeerError: a region can't be mapped; the regions before it are mapped, the rest is not.
        """
        lib.vg_mem_clear(self._core)
        self.regions = []
        for region, fd in zip(regions, fds, strict=True):
            self.add(region, fd)

    def add(self, region: Region, fd: int) -> None:
        """ADD_MEM_REG.

        Raises:
            PeerError: it overlaps, wraps, is larger than its file, or can't be mapped.
        """
        result = lib.vg_mem_add(self._core, fd, region.gpa, region.size, region.uva, region.mmap_offset)
        if result < 0:
            raise PeerError(f"memory region {region}: {os.strerror(-result)}")
        self.regions.append(region)

    def remove(self, gpa: int, size: int, uva: int) -> None:
        """REM_MEM_REG.

        Raises:
            PeerError: there is no such region.
        """
        if lib.vg_mem_remove(self._core, gpa, size, uva) < 0:
            raise PeerError(f"no memory region at {gpa:#x}, {size:#x} bytes")
        self.regions = [r for r in self.regions if (r.gpa, r.size, r.uva) != (gpa, size, uva)]

    def clear(self) -> None:
        """Unmaps everything."""
        lib.vg_mem_clear(self._core)
        self.regions = []
