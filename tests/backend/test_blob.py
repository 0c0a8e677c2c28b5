"""Blobs of guest memory: pictures on scanouts, flushes without transfers, cursors, their cost, what is refused."""

import errno
import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend._core import ffi, lib
from protocol.virtio_gpu_blob import (
    BlobFlag,
    BlobMem,
)
from tests.backend.devicekit import (
    B8G8R8A8,
    B8G8R8X8,
    ERR_INVALID_PARAMETER,
    ERR_INVALID_RESOURCE_ID,
    ERR_INVALID_SCANOUT_ID,
    ERR_OUT_OF_MEMORY,
    ERR_UNSPEC,
    MIB,
    OK,
    R8G8B8A8,
    RAM_GPA,
    RAM_SIZE,
    Device,
    open_fds,
)

RED, GREEN, BLUE = b"\0\0\xff\xff", b"\0\xff\0\xff", b"\xff\0\0\xff"  # B G R A
IDLE = lib.VG_DRAIN_IDLE
HUGE = 0xFFFFFFFF
FAR = 1 << 40


class BlobDevice(Device):
    """The device kit with the commands of blobs."""

    def blob(
        self,
        id_: int,
        size: int = 64 * 1024,
        *pieces: tuple[int, int],
        mem: int = BlobMem.GUEST,
        flags: int = BlobFlag.USE_SHAREABLE,
        backing: bool = True,
    ) -> int:
        """RESOURCE_CREATE_BLOB; its backing is the beginning of ``ram`` unless pieces are given."""
        wanted = (pieces or ((RAM_GPA, RAM_SIZE),)) if backing else ()
        data = b"".join(struct.pack("<QII", *piece, 0) for piece in wanted)
        return int(lib.vg_resource_create_blob(self.dev, id_, mem, flags, size, data, len(wanted)))

    def show(
        self,
        scanout: int,
        id_: int,
        width: int,
        height: int,
        rect: tuple[int, int, int, int] | None = None,
        *,
        format_: int = B8G8R8X8,
        stride: int | None = None,
        offset: int = 0,
    ) -> int:
        """SET_SCANOUT_BLOB, outside a drain."""
        given = width * 4 if stride is None else stride
        picture = ffi.new("vg_blob_picture *", (width, height, format_, given, offset))
        return int(lib.vg_set_scanout_blob(self.dev, scanout, id_, *(rect or (0, 0, width, height)), picture))

    def picture(self, scanout: int) -> tuple[int, ...] | None:
        out = ffi.new("vg_blob_picture *")
        if not lib.vg_scanout_blob(self.dev, scanout, out):
            return None
        return (out.width, out.height, out.format, out.stride, out.offset)

    def draw(
        self, pixel: bytes, width: int, rect: tuple[int, int, int, int], *, stride: int = 0, offset: int = 0
    ) -> None:
        """Paints into guest memory; the device is told nothing."""
        x, y, w, h = rect
        for row in range(y, y + h):
            start = offset + row * (stride or width * 4) + x * 4
            self.ram[start : start + 4 * w] = pixel * w

    def cursor(self, id_: int) -> int:
        return int(lib.vg_update_cursor(self.dev, 0, 5, 6, id_, 1, 2))

    def cursor_pixels(self) -> bytes:
        out = ffi.new("vg_cursor *")
        assert lib.vg_cursor_describe(self.dev, 0, out) == 0
        return bytes(ffi.buffer(out.pixels))


@pytest.fixture
def device() -> Iterator[BlobDevice]:
    with BlobDevice() as made:
        yield made


# ---- creating


@pytest.mark.parametrize("mem", [0, BlobMem.HOST3D, BlobMem.HOST3D_GUEST, 4, HUGE])
def test_other_kinds_of_memory_are_refused(device: BlobDevice, mem: int) -> None:
    assert device.blob(1, mem=mem) == ERR_INVALID_PARAMETER
    assert device.unref(1) == ERR_INVALID_RESOURCE_ID
    assert device.used == 0


@pytest.mark.parametrize(
    ("flags", "response"), [(0, OK), (7, OK), (8, ERR_INVALID_PARAMETER), (HUGE, ERR_INVALID_PARAMETER)]
)
def test_flags(device: BlobDevice, flags: int, response: int) -> None:
    assert device.blob(1, flags=flags) == response


def test_a_blob_has_an_id_of_its_own_and_a_size(device: BlobDevice) -> None:
    assert device.blob(0) == ERR_INVALID_RESOURCE_ID
    assert device.blob(1, 0) == ERR_INVALID_PARAMETER
    assert device.create(1, 8, 8) == OK
    assert device.blob(1) == ERR_INVALID_RESOURCE_ID
    assert device.blob(2) == OK
    assert device.create(2, 8, 8) == ERR_INVALID_RESOURCE_ID


def test_a_second_blob_of_the_id_frees_nothing(device: BlobDevice) -> None:
    """QEMU 3560b519: there the live one was freed."""
    assert device.blob(1) == OK
    assert device.show(0, 1, 8, 8) == OK
    used = device.used
    assert device.blob(1) == ERR_INVALID_RESOURCE_ID
    assert device.used == used
    device.draw(RED, 8, (0, 0, 8, 8))
    assert device.flush(1, (0, 0, 8, 8)) == OK
    assert device.shown() == RED * 64
    assert device.unref(1) == OK
    assert device.unref(1) == ERR_INVALID_RESOURCE_ID


def test_backing_outside_memory_leaves_nothing(device: BlobDevice) -> None:
    assert device.blob(1, 4096, (RAM_GPA, 4096), (FAR, 4096)) == ERR_UNSPEC
    assert device.unref(1) == ERR_INVALID_RESOURCE_ID
    assert device.used == 0


def test_any_size_costs_the_same(device: BlobDevice) -> None:
    assert device.blob(1, 1) == OK
    one = device.used
    assert device.blob(2, (1 << 64) - 1) == OK
    assert device.used == 2 * one
    assert device.show(0, 2, 8, 8) == OK
    assert device.unref(1) == device.unref(2) == OK
    assert device.used == 0


def test_the_budget_has_to_have_room() -> None:
    with BlobDevice(hostmem=8192) as device:
        assert device.blob(1) == OK
        assert device.show(0, 1, 32, 32) == ERR_OUT_OF_MEMORY
        assert device.frame().resource == 0
        assert ERR_OUT_OF_MEMORY in [device.blob(id_) for id_ in (2, 3, 4)]
        assert device.used <= 8192
        for id_ in (1, 2, 3, 4):
            device.unref(id_)
        assert device.used == 0


def test_it_is_described(device: BlobDevice) -> None:
    assert device.blob(3, 12345, (RAM_GPA, 4096)) == OK
    info = ffi.new("vg_resource_info *")
    assert lib.vg_resource_next(device.dev, 0, info) == 1
    assert (info.id, info.format, info.width, info.height, info.blob_size) == (3, 0, 0, 0, 12345)
    assert list(ffi.unpack(info.entries, 2)) == [RAM_GPA, 4096]
    assert lib.vg_resource_read(device.dev, 3, 0, 0, 1, 1, ffi.new("char[4]"), 4) == -errno.EINVAL


# ---- pictures


def test_a_flush_alone_shows_what_is_in_memory(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    device.draw(RED, 16, (0, 0, 16, 8))
    assert device.show(0, 1, 16, 8) == OK
    assert device.shown() == RED * 128
    device.draw(GREEN, 16, (0, 0, 16, 8))
    assert device.shown() == RED * 128
    assert device.flush(1, (0, 0, 16, 8)) == OK
    assert device.shown() == GREEN * 128


def test_only_what_is_flushed_is_read(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.show(0, 1, 16, 8) == OK
    device.damage()
    device.draw(RED, 16, (0, 0, 16, 8))
    assert device.flush(1, (4, 2, 3, 2)) == OK
    assert device.damage() == [(4, 2, 3, 2)]
    rows = [bytes(64)] * 2 + [bytes(16) + RED * 3 + bytes(36)] * 2 + [bytes(64)] * 4
    assert device.shown() == b"".join(rows)


def test_stride_and_offset(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    device.draw(BLUE, 0, (0, 0, 5, 3), stride=100, offset=1000)
    assert device.show(0, 1, 5, 3, format_=R8G8B8A8, stride=100, offset=1000) == OK
    assert device.shown() == BLUE * 15
    assert device.frame().format == R8G8B8A8
    assert device.picture(0) == (5, 3, R8G8B8A8, 100, 1000)


def test_a_part_of_the_picture_on_the_scanout(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    device.draw(GREEN, 32, (8, 4, 16, 8))
    assert device.show(0, 1, 32, 16, (8, 4, 16, 8)) == OK
    assert device.shown() == GREEN * 128
    device.damage()
    assert device.flush(1, (0, 0, 10, 5)) == OK
    assert device.damage() == [(0, 0, 2, 1)]


def test_backing_in_pieces_out_of_order(device: BlobDevice) -> None:
    size = 64 * 64 * 4
    pieces = [(RAM_GPA + page * 4096, 4096) for page in (3, 1, 2, 0)]
    assert device.blob(1, size, *pieces) == OK
    content = random.Random(4).randbytes(size)
    for n, (gpa, length) in enumerate(pieces):
        device.ram[gpa - RAM_GPA : gpa - RAM_GPA + length] = content[n * 4096 : (n + 1) * 4096]
    assert device.show(0, 1, 64, 64) == OK
    assert device.shown() == content


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"stride": 0}, 4096),
        ({"stride": 1}, 4096),
        ({"stride": 31}, 4096),
        ({"stride": HUGE}, 4096),
        ({"offset": HUGE}, 4096),
        ({"offset": 4096 - 8 * 32 + 1}, 4096),
        ({"width": 0}, 4096),
        ({"height": 0}, 4096),
        ({"height": HUGE}, 4096),
        ({"height": HUGE, "stride": HUGE}, (1 << 64) - 1),
        ({"width": 0x40000001}, (1 << 64) - 1),
        ({"width": 0x40000000, "stride": HUGE}, (1 << 64) - 1),
        ({"format_": 0}, 4096),
        ({"format_": 99}, 4096),
        ({"rect": (0, 0, 0, 0)}, 4096),
        ({"rect": (1, 0, 8, 8)}, 4096),
        ({"rect": (HUGE, HUGE, 2, 2)}, 4096),
        ({}, 8 * 32 - 1),
        ({}, 1),
    ],
)
def test_pictures_that_are_not_in_the_blob(device: BlobDevice, changes: dict[str, Any], size: int) -> None:
    """Coverity 1564769/70, stride < width * bpp, and all that could wrap."""
    assert device.blob(1, size) == OK
    used = device.used
    geometry = {"width": 8, "height": 8, "rect": (0, 0, 8, 8), "stride": 32} | changes
    assert device.show(0, 1, **geometry) == ERR_INVALID_PARAMETER
    assert (device.used, device.frame().resource) == (used, 0)


def test_a_picture_that_ends_where_the_blob_does(device: BlobDevice) -> None:
    """All rows but the last take a whole stride."""
    assert device.blob(1, 7 * 100 + 32 + 12) == OK
    assert device.show(0, 1, 8, 8, stride=100, offset=12) == OK
    assert device.show(0, 1, 8, 8, stride=100, offset=13) == ERR_INVALID_PARAMETER


def test_a_blob_larger_than_its_backing(device: BlobDevice) -> None:
    assert device.blob(1, MIB, (RAM_GPA, 4096)) == OK
    assert device.show(0, 1, 32, 32) == OK
    assert device.show(0, 1, 32, 33) == ERR_INVALID_PARAMETER


@given(
    size=st.integers(1, 1 << 13),
    width=st.integers(0, 40),
    height=st.integers(0, 40),
    stride=st.integers(0, 300),
    offset=st.integers(0, 9000),
)
@settings(max_examples=60, deadline=None)
def test_what_fits_is_shown_and_nothing_else(size: int, width: int, height: int, stride: int, offset: int) -> None:
    content = random.Random(size).randbytes(size)
    with BlobDevice() as device:
        device.ram[:size] = content
        assert device.blob(1, size, (RAM_GPA, size)) == OK
        fits = width > 0 and height > 0 and width * 4 <= stride and offset + (height - 1) * stride + width * 4 <= size
        assert (device.show(0, 1, width, height, stride=stride, offset=offset) == OK) is fits
        if fits:
            starts = range(offset, offset + height * stride, stride)
            assert device.shown() == b"".join(content[start : start + width * 4] for start in starts)


# ---- several scanouts, several pictures


def test_one_picture_on_two_scanouts(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.show(0, 1, 32, 16, (0, 0, 16, 16)) == device.show(1, 1, 32, 16, (16, 0, 16, 16)) == OK
    device.draw(RED, 32, (0, 0, 16, 16))
    device.draw(GREEN, 32, (16, 0, 16, 16))
    assert device.flush(1, (0, 0, 32, 16)) == OK
    assert (device.shown(0), device.shown(1)) == (RED * 256, GREEN * 256)
    assert device.frame(0).image == device.frame(1).image


def test_the_same_part_on_two_scanouts(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.show(0, 1, 8, 8) == device.show(1, 1, 8, 8) == OK
    device.draw(RED, 8, (0, 0, 8, 8))
    assert device.flush(1, (0, 0, 8, 8)) == OK
    assert device.shown(0) == device.shown(1) == RED * 64


def test_two_pictures_at_once(device: BlobDevice) -> None:
    """Each scanout may say something else of the same bytes."""
    assert device.blob(1) == OK
    assert device.show(0, 1, 16, 16) == OK
    assert device.show(1, 1, 8, 8, format_=R8G8B8A8, stride=64, offset=16 * 16 * 4) == OK
    device.draw(RED, 16, (0, 0, 16, 16))
    device.draw(BLUE, 0, (0, 0, 8, 8), stride=64, offset=16 * 16 * 4)
    assert device.flush(1, (0, 0, 16, 16)) == OK
    assert (device.shown(0), device.shown(1)) == (RED * 256, BLUE * 64)
    assert (device.frame(0).format, device.frame(1).format) == (B8G8R8X8, R8G8B8A8)
    assert device.frame(0).resource == device.frame(1).resource == 1


def test_another_format_on_the_same_scanout(device: BlobDevice) -> None:
    """The frame that sinks look at stays as it is; a new generation has new images."""
    assert device.blob(1) == OK
    device.draw(RED, 16, (0, 0, 16, 16))
    assert device.show(0, 1, 16, 16) == OK
    before = device.frame()
    assert device.hold(before.image) == 0
    assert device.show(0, 1, 8, 32, format_=B8G8R8A8) == OK
    after = device.frame()
    assert (after.generation, after.width, after.height, after.format) == (before.generation + 1, 8, 32, B8G8R8A8)
    assert device.image_bytes(before.image) == RED * 256 == device.shown()
    device.release(before.image)
    assert before.image in device.retired()


def test_another_stride_needs_no_new_images(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.show(0, 1, 16, 16) == device.show(0, 1, 16, 16, offset=4096) == OK
    used, generation = device.used, device.frame().generation
    device.retired()
    for turn in range(8):
        device.draw((RED, BLUE)[turn % 2], 16, (0, 0, 16, 16), offset=4096 * (turn % 3))
        assert device.show(0, 1, 16, 16, offset=4096 * (turn % 3)) == OK
        assert device.shown() == (RED, BLUE)[turn % 2] * 256
    assert (device.used, device.frame().generation, device.retired()) == (used, generation, [])


def test_pictures_nobody_looks_at_any_more_cost_nothing(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.show(0, 1, 16, 16) == OK
    used, fds = device.used, open_fds()
    for side in range(17, 60):
        assert device.show(0, 1, side, side, stride=240) == OK
    assert device.show(0, 1, 16, 16) == OK
    assert (device.used, open_fds()) == (used, fds)


def test_page_flips_between_two_blobs_make_nothing_new(device: BlobDevice) -> None:
    assert device.blob(1, 4096) == device.blob(2, 4096, (RAM_GPA + 4096, 4096)) == OK
    assert device.show(0, 1, 16, 16) == device.show(0, 2, 16, 16) == OK
    used, fds = device.used, open_fds()
    device.retired()
    for turn in range(10):
        colour = (RED, GREEN, BLUE)[turn % 3]
        device.draw(colour, 16, (0, 0, 16, 16), offset=4096 * (turn % 2))
        assert device.show(0, 1 + turn % 2, 16, 16) == OK
        assert device.flush(1 + turn % 2, (0, 0, 16, 16)) == OK
        assert device.shown() == colour * 256
    assert (device.used, open_fds(), device.retired()) == (used, fds, [])


def test_a_frame_that_sinks_hold_is_never_written(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.show(0, 1, 8, 8) == OK
    held = []
    for turn in range(8):
        device.draw(bytes([turn]) * 4, 8, (0, 0, 8, 8))
        assert device.flush(1, (0, 0, 8, 8)) == OK
        image = device.frame().image
        if device.shown() == bytes([turn]) * 256 and device.hold(image) == 0:
            held.append((image, turn))
    assert len(held) >= 3
    assert device.starved()
    for image, turn in held:
        assert device.image_bytes(image) == bytes([turn]) * 256
        device.release(image)
    assert device.shown() == b"\7" * 256


def test_blob_and_plain_resource_take_turns(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.create(2, 8, 8, B8G8R8X8) == device.attach(2) == OK
    device.fill(2, 8, (0, 0, 8, 8), GREEN)
    assert device.set_scanout(0, 2, (0, 0, 8, 8)) == OK
    device.draw(RED, 8, (0, 0, 8, 8))
    assert device.show(0, 1, 8, 8) == OK
    assert device.shown() == RED * 64
    assert device.set_scanout(0, 2, (0, 0, 8, 8)) == OK
    assert device.shown() == GREEN * 64
    assert device.picture(0) is None


def test_many_blobs_share_the_descriptors_there_are() -> None:
    with BlobDevice() as device:
        device.draw(RED, 8, (0, 0, 8, 8))
        for id_ in range(1, 301):
            assert device.blob(id_) == OK
            assert device.show(0, id_, 8, 8) == OK
        assert open_fds() < 300
        assert device.show(1, 1, 8, 8) == OK
        assert device.shown(1) == RED * 64


# ---- other commands


def test_scanouts_and_resources_that_are_not_there(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.create(2, 8, 8) == OK
    assert device.show(2, 1, 8, 8) == device.show(HUGE, 1, 8, 8) == ERR_INVALID_SCANOUT_ID
    assert device.show(0, 9, 8, 8) == device.show(0, 2, 8, 8) == ERR_INVALID_RESOURCE_ID


def test_resource_0_clears(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.show(0, 1, 8, 8) == OK
    assert device.show(0, 0, 0, 0) == OK
    assert device.frame().resource == 0
    assert device.flush(1, (0, 0, 8, 8)) == OK
    assert device.frame().resource == 0


def test_plain_set_scanout_has_no_picture_to_show(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    for rect in ((0, 0, 8, 8), (0, 0, 0, 0), (0, 0, HUGE, HUGE)):
        assert device.set_scanout(0, 1, rect) == ERR_INVALID_PARAMETER
    assert device.show(0, 1, 8, 8) == OK
    assert device.set_scanout(0, 1, (0, 0, 8, 8)) == ERR_INVALID_PARAMETER


def test_transfers_do_nothing(device: BlobDevice) -> None:
    """Linux sends them for its framebuffers, blobs or not."""
    assert device.blob(1) == OK
    assert device.show(0, 1, 8, 8) == OK
    device.draw(RED, 8, (0, 0, 8, 8))
    for rect in ((0, 0, 8, 8), (HUGE, HUGE, HUGE, HUGE), (0, 0, 0, 0)):
        assert device.transfer(1, rect, FAR) == OK
    assert device.shown() == bytes(256)


def test_flushes_past_the_picture(device: BlobDevice) -> None:
    assert device.blob(1) == OK
    assert device.flush(1, (0, 0, HUGE, HUGE)) == OK  # no picture yet
    assert device.show(0, 1, 8, 8) == OK
    for rect in ((0, 0, 9, 8), (HUGE, 0, 2, 2), (1, 1, HUGE, HUGE)):
        assert device.flush(1, rect) == ERR_INVALID_PARAMETER
    assert device.flush(1, (8, 8, 0, 0)) == OK
    assert device.show(1, 1, 16, 4) == OK
    assert device.flush(1, (0, 0, 16, 4)) == device.flush(1, (0, 0, 8, 8)) == OK
    assert device.flush(1, (0, 0, 16, 8)) == ERR_INVALID_PARAMETER


def test_backing_comes_and_goes(device: BlobDevice) -> None:
    assert device.blob(1, backing=False) == OK
    assert device.show(0, 1, 8, 8) == device.cursor(1) == ERR_UNSPEC
    assert device.transfer(1, (0, 0, 8, 8)) == ERR_UNSPEC
    assert device.attach(1) == OK
    assert device.attach(1) == ERR_UNSPEC
    device.draw(RED, 8, (0, 0, 8, 8))
    assert device.show(0, 1, 8, 8) == OK
    assert device.detach(1) == OK
    assert device.flush(1, (0, 0, 8, 8)) == ERR_UNSPEC
    assert device.shown() == RED * 64
    assert device.attach(1, (RAM_GPA + 4096, 255)) == OK
    assert device.flush(1, (0, 0, 8, 8)) == ERR_INVALID_PARAMETER
    assert device.detach(1) == device.attach(1, (RAM_GPA + 4096, 256)) == device.flush(1, (0, 0, 8, 8)) == OK
    assert device.shown() == bytes(256)


def test_memory_goes_away_and_comes_back(device: BlobDevice) -> None:
    gpa = 1 << 33
    memory = device.add_memory(gpa, MIB)
    assert device.blob(1, 4096, (gpa, 4096)) == OK
    memory[:4096] = RED * 1024
    assert device.show(0, 1, 32, 32) == OK
    device.remove_memory(gpa, MIB)
    memory.close()
    assert device.flush(1, (0, 0, 32, 32)) == device.show(0, 1, 32, 32) == ERR_UNSPEC
    assert device.shown() == RED * 1024
    memory = device.add_memory(gpa, MIB)
    memory[:4096] = GREEN * 1024
    assert device.flush(1, (0, 0, 32, 32)) == OK
    assert device.shown() == GREEN * 1024
    memory.close()


def test_unref_and_reset_give_everything_back(device: BlobDevice) -> None:
    fds = open_fds()
    assert device.blob(1) == device.show(0, 1, 16, 16) == device.show(1, 1, 8, 8) == OK
    assert device.unref(1) == OK
    assert (device.used, open_fds()) == (0, fds)
    assert device.frame(0).resource == device.frame(1).resource == 0
    assert device.blob(1) == device.show(0, 1, 16, 16) == OK
    held = device.frame().image
    assert device.hold(held) == 0
    lib.vg_device_reset(device.dev)
    assert device.frame().resource == 0
    assert device.used > 0  # a sink looks at it
    device.release(held)
    assert (device.used, open_fds()) == (0, fds)


# ---- cursors


def test_a_cursor_needs_no_transfer(device: BlobDevice) -> None:
    content = random.Random(1).randbytes(64 * 64 * 4)
    device.ram[: len(content)] = content
    assert device.blob(1, len(content)) == OK
    assert device.cursor(1) == OK
    assert device.cursor_pixels() == content
    device.ram[:4] = b"\1\2\3\4"
    assert device.cursor_pixels() == content
    assert device.cursor(1) == OK
    assert device.cursor_pixels()[:4] == b"\1\2\3\4"


def test_a_blob_too_small_for_a_cursor(device: BlobDevice) -> None:
    assert device.blob(1, 64 * 64 * 4 - 1) == OK
    assert device.blob(2, MIB, (RAM_GPA, 4096)) == OK
    assert device.cursor(1) == device.cursor(2) == ERR_INVALID_PARAMETER
    assert device.cursor_pixels() == bytes(64 * 64 * 4)
