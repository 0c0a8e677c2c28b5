"""Guest memory in the C core: the region table, translation, copies across regions, SIGBUS."""

import errno
import mmap
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend._core import ffi, lib
from tests.backend.ringkit import ERR_UNSPEC, EVENT_IDX, OK, UVA, VERSION_1, Kit, Ram, transfer

PAGE = mmap.PAGESIZE


@pytest.fixture
def core():
    device = lib.vg_device_new(1, 1 << 24)
    yield device
    lib.vg_device_free(device)


@pytest.fixture
def memfd():
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 16 * PAGE)
    yield fd
    os.close(fd)


def read(core, gpa, length):
    out = bytearray(length)
    result = lib.vg_mem_read(core, gpa, ffi.from_buffer(out), length)
    return bytes(out) if result == 0 else result


# ---- the table


@pytest.mark.parametrize(
    ("gpa", "size", "uva", "offset"),
    [
        pytest.param(0, 0, 0, 0, id="no size"),
        pytest.param(2**64 - PAGE, PAGE, 0, 0, id="reaches the end of the address space"),
        pytest.param(2**64 - PAGE, 2 * PAGE, 0, 0, id="wraps"),
        pytest.param(0, PAGE, 2**64 - 1, 0, id="VMM address wraps"),
        pytest.param(0, PAGE, 0, 2**64 - PAGE, id="offset and size wrap"),
        pytest.param(0, 2**63, 0, 2**63, id="offset and size wrap to zero"),
        pytest.param(0, PAGE, 0, 2**63 - PAGE, id="offset at the end of off_t"),
        pytest.param(0, 2**62, 0, 0, id="far larger than the file"),
        pytest.param(0, 17 * PAGE, 0, 0, id="a page larger than the file"),
        pytest.param(0, 16 * PAGE, 0, 1, id="one byte larger than the file"),
    ],
)
def test_bad_region_is_refused(core, memfd, gpa, size, uva, offset):
    assert lib.vg_mem_add(core, memfd, gpa, size, uva, offset) == -errno.EINVAL


@pytest.mark.parametrize(
    ("gpa", "uva"),
    [
        pytest.param(0x10000, 0x900000, id="same"),
        pytest.param(0x10000 - PAGE, 0x900000, id="below, reaching in"),
        pytest.param(0x10000 + PAGE, 0x900000, id="above, reaching in"),
        pytest.param(0x900000, 0x50000 + PAGE, id="VMM addresses overlap"),
    ],
)
def test_overlap_is_refused(core, memfd, gpa, uva):
    assert lib.vg_mem_add(core, memfd, 0x10000, 2 * PAGE, 0x50000, 0) == 0
    assert lib.vg_mem_add(core, memfd, gpa, 2 * PAGE, uva, 0) == -errno.EINVAL


def test_neighbours_are_not_overlapping(core, memfd):
    for i in (1, 0, 2):
        assert lib.vg_mem_add(core, memfd, i * PAGE, PAGE, UVA + i * PAGE, i * PAGE) == 0


def test_bad_descriptor(core):
    assert lib.vg_mem_add(core, -1, 0, PAGE, 0, 0) == -errno.EBADF


def test_read_only_descriptor(core, memfd):
    fd = os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY)
    try:
        assert lib.vg_mem_add(core, fd, 0, PAGE, 0, 0) == -errno.EACCES
    finally:
        os.close(fd)


def test_509_regions_and_no_more(core, memfd):
    order = sorted(range(lib.VG_MAX_REGIONS), key=lambda i: i * 7919 % 509)
    for i in order:
        assert lib.vg_mem_add(core, memfd, i * 2 * PAGE, PAGE, UVA + i * 2 * PAGE, 0) == 0
    assert lib.vg_mem_add(core, memfd, 1 << 40, PAGE, 1 << 40, 0) == -errno.ENOSPC
    assert read(core, 508 * 2 * PAGE, PAGE) == bytes(PAGE)
    assert read(core, 508 * 2 * PAGE + PAGE, 1) == -errno.EFAULT
    for i in order:
        assert lib.vg_mem_remove(core, i * 2 * PAGE, PAGE, UVA + i * 2 * PAGE) == 0


def test_remove_wants_the_very_region(core, memfd):
    assert lib.vg_mem_add(core, memfd, PAGE, 2 * PAGE, UVA, 0) == 0
    for gpa, size, uva in [(PAGE, PAGE, UVA), (0, 2 * PAGE, UVA), (PAGE, 2 * PAGE, UVA + 1)]:
        assert lib.vg_mem_remove(core, gpa, size, uva) == -errno.ENOENT
    assert lib.vg_mem_remove(core, PAGE, 2 * PAGE, UVA) == 0
    assert lib.vg_mem_remove(core, PAGE, 2 * PAGE, UVA) == -errno.ENOENT


def test_clear(core, memfd):
    assert lib.vg_mem_add(core, memfd, 0, PAGE, UVA, 0) == 0
    lib.vg_mem_clear(core)
    assert read(core, 0, 1) == -errno.EFAULT
    assert lib.vg_mem_add(core, memfd, 0, PAGE, UVA, 0) == 0


def test_mappings_are_given_back(core, memfd):
    def mappings():
        with open("/proc/self/maps") as maps:
            return sum("memfd:guest" in line for line in maps)

    before = mappings()
    for _ in range(3):
        assert lib.vg_mem_add(core, memfd, 0, 3 * PAGE, 0, 0) == 0
        assert mappings() == before + 1
        lib.vg_mem_clear(core)
    assert mappings() == before


# ---- copies


def test_offset_inside_a_page(core, memfd):
    os.pwrite(memfd, b"hello", PAGE + 100)
    assert lib.vg_mem_add(core, memfd, 0x5000, PAGE, UVA, PAGE + 100) == 0
    assert read(core, 0x5000, 5) == b"hello"
    assert lib.vg_mem_write(core, 0x5000 + PAGE - 2, b"xy", 2) == 0
    assert os.pread(memfd, 2, 2 * PAGE + 98) == b"xy"


def test_copy_across_regions_in_any_file_order(core, memfd):
    for i, place in enumerate((2, 0, 1)):
        assert lib.vg_mem_add(core, memfd, i * PAGE, PAGE, UVA + i * PAGE, place * PAGE) == 0
    data = bytes(range(256)) * (3 * PAGE // 256)
    assert lib.vg_mem_write(core, 0, data, len(data)) == 0
    assert read(core, 0, len(data)) == data
    assert os.pread(memfd, PAGE, 2 * PAGE) == data[:PAGE]


def test_copy_into_a_hole_copies_nothing(core, memfd):
    assert lib.vg_mem_add(core, memfd, 0, PAGE, UVA, 0) == 0
    assert lib.vg_mem_add(core, memfd, 2 * PAGE, PAGE, UVA + PAGE, PAGE) == 0
    assert lib.vg_mem_write(core, PAGE - 4, b"x" * 8, 8) == -errno.EFAULT
    assert read(core, PAGE - 4, 4) == bytes(4)
    assert read(core, PAGE - 4, 8) == -errno.EFAULT
    assert read(core, 2**64 - 1, 2) == -errno.EFAULT


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(1, 4)), max_size=6),
    st.integers(0, 17 * PAGE),
    st.integers(0, 3 * PAGE),
)
def test_read_agrees_with_a_model(places, gpa, length):
    """Regions that overlap earlier ones are refused; reads succeed exactly where every byte has a region."""
    core = lib.vg_device_new(1, 1 << 20)
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 32 * PAGE)
    pages: set[int] = set()
    for start, count in places:
        wanted = set(range(start, start + count))
        expected = -errno.EINVAL if wanted & pages else 0
        assert lib.vg_mem_add(core, fd, start * PAGE, count * PAGE, UVA + start * PAGE, start * PAGE) == expected
        if expected == 0:
            pages |= wanted
    inside = all(page in pages for page in range(gpa // PAGE, (gpa + length - 1) // PAGE + 1)) or length == 0
    assert read(core, gpa, length) == (bytes(length) if inside else -errno.EFAULT)
    lib.vg_device_free(core)
    os.close(fd)


# ---- SIGBUS


def test_shrunk_file_reads_as_zeros_and_is_counted(core):
    ram = Ram(core, 0x10000, 4 * PAGE)
    ram.write(0x10000, b"a" * 4 * PAGE)
    ram.map.close()
    os.ftruncate(ram.fd, PAGE)
    assert read(core, 0x10000, 4 * PAGE) == b"a" * PAGE + bytes(3 * PAGE)
    assert lib.vg_mem_faults(core) == 3
    assert lib.vg_mem_write(core, 0x10000 + PAGE, b"b" * PAGE, PAGE) == 0
    assert read(core, 0x10000 + PAGE, 1) == b"b"
    assert lib.vg_mem_faults(core) == 3
    os.close(ram.fd)


def test_faults_are_counted_for_their_own_device(core):
    other = lib.vg_device_new(1, 1 << 20)
    ram = Ram(core, 0, PAGE)
    ram.map.close()
    os.ftruncate(ram.fd, 0)
    assert read(core, 0, 8) == bytes(8)
    assert (lib.vg_mem_faults(core), lib.vg_mem_faults(other)) == (1, 0)
    lib.vg_device_free(other)
    os.close(ram.fd)


def test_transfer_from_lost_pages_fails_and_the_queue_goes_on():
    with Kit() as kit:
        far = kit.add_ram(0x4000_0000, 4 * PAGE)
        kit.make_resource(1, 4, 4)
        entry = ffi.new("uint64_t[2]", [far.gpa, 64])
        assert lib.vg_resource_detach_backing(kit.core, 1) == OK
        assert lib.vg_resource_attach_backing(kit.core, 1, ffi.cast("uint8_t *", entry), 1) == OK
        far.map.close()
        far.map = mmap.mmap(-1, PAGE)
        os.ftruncate(far.fd, 0)
        first, second = kit.control.send(transfer(1, 4, 4)), kit.control.send(transfer(1, 4, 4))
        assert kit.control.drain() == lib.VG_DRAIN_IDLE
        assert kit.control.reply(first)[:4] == ERR_UNSPEC.to_bytes(4, "little")
        assert kit.control.reply(second)[:4] == OK.to_bytes(4, "little")
        assert lib.vg_mem_faults(kit.core) == 1


def test_lost_ring_memory_breaks_the_queue():
    with Kit() as kit:
        kit.ram.map.close()
        kit.ram.map = mmap.mmap(-1, PAGE)
        os.ftruncate(kit.ram.fd, 0)
        assert kit.control.drain() == lib.VG_DRAIN_BROKEN
        assert "gone" in kit.control.reason
        assert kit.control.err_count() == 1


@pytest.mark.parametrize("features", [VERSION_1, VERSION_1 | EVENT_IDX])
@pytest.mark.parametrize("part", ["desc", "avail", "used"])
@pytest.mark.parametrize("waiting", [0, 1])
def test_any_part_of_a_ring_may_be_lost(features, part, waiting):
    """Found out at the first touch, whatever the drain was doing; the queue breaks, and only that one."""
    with Kit(features=features) as kit:
        far = kit.add_ram(0x4000_0000, PAGE)
        setattr(kit.control, part, far.gpa)
        kit.control.start()
        for _ in range(waiting):
            kit.control.send(transfer(1, 4, 4))
        assert kit.control.drain() == lib.VG_DRAIN_IDLE
        kit.control.send(transfer(1, 4, 4))
        far.map.close()
        far.map = mmap.mmap(-1, PAGE)
        os.ftruncate(far.fd, 0)
        assert kit.control.drain() == lib.VG_DRAIN_BROKEN
        assert kit.control.err_count() == 1
        assert kit.cursor.drain() == lib.VG_DRAIN_IDLE


def run_python(code):
    # Under tests/sanitize these deaths are wanted, not findings.
    env = os.environ | {"ASAN_OPTIONS": "detect_leaks=0:handle_sigbus=0:handle_abort=0"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)


FOREIGN = """
import ctypes, faulthandler, mmap, os, sys
from backend._core import lib
{before}
core = lib.vg_device_new(1, 1 << 20)
fd = os.memfd_create("x")
os.ftruncate(fd, 8192)
assert lib.vg_mem_add(core, fd, 0, 4096, 0, 0) == 0
{after}
other = mmap.mmap(fd, 8192)
os.ftruncate(fd, 0)
print("still here", flush=True)
other[0]
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "", id="no other handler"),
        pytest.param("faulthandler.enable()", "", id="faulthandler before"),
        pytest.param("", "faulthandler.enable()", id="faulthandler after"),
        pytest.param(
            "faulthandler.enable()",
            "faulthandler.disable(); faulthandler.enable(); lib.vg_mem_add(core, fd, 8192, 4096, 8192, 0)",
            id="faulthandler on both sides",
        ),
    ],
)
def test_fault_elsewhere_is_not_swallowed(before, after):
    done = run_python(FOREIGN.format(before=before, after=after))
    assert done.stdout == "still here\n"
    assert done.returncode == -signal.SIGBUS
    assert ("Bus error" in done.stderr) == ("faulthandler" in before + after)


# ---- the hang watch


def test_hang_watch_aborts_a_busy_loop():
    done = run_python("from backend._core import lib\nlib.vg_hang_watch(1)\nwhile True: pass")
    assert done.returncode == -signal.SIGABRT
    assert "no sign of life" in done.stderr


def test_hang_watch_spares_who_pats_and_can_be_turned_off():
    done = run_python(
        "import time\n"
        "from backend._core import lib\n"
        "lib.vg_hang_watch(1)\n"
        "while time.process_time() < 2: lib.vg_hang_pat()\n"
        "lib.vg_hang_watch(0)\n"
        "while time.process_time() < 4: pass\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


BUSY_THREAD = """
import hashlib, threading, time
from backend._core import lib
done = threading.Event()
def burn():
    while not done.is_set(): hashlib.sha256(bytes(1 << 22)).digest()
other = threading.Thread(target=burn)
lib.vg_hang_watch(1)
other.start()
while time.process_time() < 3: done.wait(0.1)
done.set()
other.join()
"""


def test_hang_watch_does_not_count_what_other_threads_use():
    done = run_python(BUSY_THREAD)
    assert (done.returncode, done.stderr) == (0, "")


def test_hang_watch_is_of_the_thread_that_asked_last():
    done = run_python(
        "import faulthandler, threading\n"
        "from backend._core import lib\n"
        "faulthandler.enable()\n"
        "lib.vg_hang_watch(1)\n"
        "def busy_loop():\n"
        "    lib.vg_hang_watch(1)\n"
        "    while True: pass\n"
        "threading.Thread(target=busy_loop).start()\n"
    )
    assert done.returncode == -signal.SIGABRT
    current = done.stderr.split("Current thread", 1)[1]
    assert "in busy_loop" in current.split("\n\n", 1)[0]
