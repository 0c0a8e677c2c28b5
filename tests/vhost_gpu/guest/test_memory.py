"""Guest memory: layouts, views and the allocator."""

import mmap
import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vhost_gpu.guest.memory import PAGE, GuestMemory, OutOfGuestMemory, RegionSpec, one_region, pc_layout, split_regions

SMALL = one_region(64 * PAGE, gpa=16 * PAGE)


def test_a_region_is_its_file():
    memory = GuestMemory([RegionSpec(0x10000, 2 * PAGE, 0x5000, mmap_offset=PAGE)])
    memory.write(0x10000 + PAGE, b"here")
    (region,) = memory.regions
    assert os.pread(region.fd, 4, 2 * PAGE) == b"here"
    assert os.fstat(region.fd).st_size == 3 * PAGE
    assert memory.uva(0x10010) == 0x5010
    memory.close()


def test_reads_and_writes_cross_adjacent_regions():
    memory = GuestMemory(split_regions(3, PAGE))
    data = bytes(range(256)) * 24
    memory.write(1000, data)
    assert memory.read(1000, len(data)) == data
    assert memory.uva(PAGE) < memory.uva(0)
    with pytest.raises(ValueError, match="no region holds"):
        memory.view(PAGE - 1, 2)
    memory.close()


def test_pc_layout_has_a_hole():
    memory = GuestMemory(pc_layout(PAGE, PAGE))
    with pytest.raises(ValueError, match="no region holds"):
        memory.read(PAGE - 1, 2)
    memory.write(1 << 32, b"high")
    assert memory.read(1 << 32, 4) == b"high"
    memory.close()


@pytest.mark.parametrize("spec", [RegionSpec(0, 0, 0), RegionSpec(1, PAGE, 0), RegionSpec(0, PAGE, 0, 1)])
def test_regions_are_whole_pages(spec):
    with pytest.raises(ValueError, match="whole pages"):
        GuestMemory([spec])


def test_allocations_are_zeroed_and_contiguous():
    memory = GuestMemory(SMALL)
    gpa = memory.alloc(3 * PAGE - 1)
    memory.write(gpa, b"x" * (3 * PAGE))
    memory.free(gpa, 3 * PAGE - 1)
    assert memory.read(memory.alloc(3 * PAGE), 3 * PAGE) == bytes(3 * PAGE)
    memory.close()


def test_allocations_never_cross_regions():
    memory = GuestMemory(split_regions(4, 2 * PAGE))
    assert [memory.alloc(2 * PAGE) for _ in range(4)] == [0, 2 * PAGE, 4 * PAGE, 6 * PAGE]
    for gpa in (0, 2 * PAGE, 4 * PAGE, 6 * PAGE):
        memory.free(gpa, 2 * PAGE)
    with pytest.raises(OutOfGuestMemory):
        memory.alloc(3 * PAGE)
    memory.close()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 64])
def test_pages_are_scattered(count):
    memory = GuestMemory(SMALL)
    pages = memory.alloc_pages(count)
    assert len(set(pages)) == count
    assert all(after != before + PAGE for before, after in pairwise(pages))
    memory.free_pages(pages)
    assert memory.alloc(64 * PAGE) == 16 * PAGE
    memory.close()


def test_a_failed_allocation_takes_nothing():
    memory = GuestMemory(SMALL)
    with pytest.raises(OutOfGuestMemory):
        memory.alloc_pages(65)
    assert memory.free_bytes() == 64 * PAGE
    memory.close()


def test_a_removed_region_gives_no_pages():
    memory = GuestMemory(split_regions(2, 4 * PAGE))
    memory.alloc(PAGE)
    memory.remove_region(memory.regions[0])
    assert memory.free_bytes() == 4 * PAGE
    assert memory.alloc(PAGE) == 4 * PAGE
    memory.close()


def test_closing_leaves_views_alive():
    memory = GuestMemory(SMALL)
    view = memory.view(16 * PAGE, 4)
    memory.close()
    view[:] = b"live"
    assert bytes(view) == b"live"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["alloc", "pages", "free"]), st.integers(1, 9)), max_size=40))
def test_the_allocator_neither_loses_nor_doubles_pages(steps):
    memory = GuestMemory(split_regions(2, 16 * PAGE))
    held = []
    for kind, number in steps:
        try:
            if kind == "alloc":
                gpa = memory.alloc(number * PAGE)
                held.append(list(range(gpa, gpa + number * PAGE, PAGE)))
            elif kind == "pages":
                held.append(memory.alloc_pages(number))
            elif held:
                memory.free_pages(held.pop(number % len(held)))
        except OutOfGuestMemory:
            pass
        pages = [page for pages in held for page in pages]
        assert len(pages) == len(set(pages))
        assert memory.free_bytes() + len(pages) * PAGE == 32 * PAGE
    memory.close()


def test_pages_are_the_machines():
    assert mmap.PAGESIZE % PAGE == 0
