"""Resources in the C core: the table, errors of misuse, backing, and what is left behind (nothing)."""

from collections.abc import Callable, Iterator

import pytest

from backend._core import ffi, lib
from tests.backend.devicekit import (
    B8G8R8X8,
    ERR_INVALID_PARAMETER,
    ERR_INVALID_RESOURCE_ID,
    ERR_OUT_OF_MEMORY,
    ERR_UNSPEC,
    MIB,
    OK,
    RAM_GPA,
    RAM_SIZE,
    Device,
    resident_kib,
    resident_slack_kib,
)


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as device:
        yield device


def test_a_new_resource_is_zero(device: Device) -> None:
    for id_, (width, height) in enumerate([(3, 5), (300, 200)], 1):
        assert device.create(id_, width, height) == OK
        assert device.read(id_, (0, 0, width, height)) == bytes(width * height * 4)


def test_ids_must_be_new_and_not_zero(device: Device) -> None:
    assert device.create(0, 8, 8) == ERR_INVALID_RESOURCE_ID
    assert device.create(7, 8, 8) == OK
    assert device.create(7, 8, 8) == ERR_INVALID_RESOURCE_ID
    assert device.unref(7) == OK
    assert device.create(7, 16, 16) == OK


@pytest.mark.parametrize("format_", [0, 5, 66, 69, 120, 133, 135, 0xFFFFFFFF])
def test_unknown_formats_are_refused(device: Device, format_: int) -> None:
    assert device.create(1, 8, 8, format_) == ERR_INVALID_PARAMETER


@pytest.mark.parametrize(("width", "height"), [(0, 8), (8, 0), (0, 0)])
def test_empty_resources_are_refused(device: Device, width: int, height: int) -> None:
    assert device.create(1, width, height) == ERR_INVALID_PARAMETER


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (0x40000001, 4),  # CVE-2026-3886: the stride wraps in 32 bits
        (0x40000000, 1),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x80000000, 0x80000000),  # times four: zero in 64 bits
        (65535, 65535),
        (1, 0xFFFFFFFF),
    ],
)
def test_sizes_past_the_budget_are_refused(device: Device, width: int, height: int) -> None:
    assert device.create(1, width, height) == ERR_OUT_OF_MEMORY
    assert device.used == 0
    assert device.attach(1) == ERR_INVALID_RESOURCE_ID


def test_unknown_ids(device: Device) -> None:
    assert device.unref(9) == ERR_INVALID_RESOURCE_ID
    assert device.attach(9) == ERR_INVALID_RESOURCE_ID
    assert device.detach(9) == ERR_INVALID_RESOURCE_ID
    assert device.transfer(9, (0, 0, 1, 1)) == ERR_INVALID_RESOURCE_ID
    assert device.flush(9, (0, 0, 1, 1)) == ERR_INVALID_RESOURCE_ID
    assert device.set_scanout(0, 9, (0, 0, 1, 1)) == ERR_INVALID_RESOURCE_ID


def test_a_second_unref_is_refused(device: Device) -> None:
    assert device.create(1, 8, 8) == OK
    assert device.unref(1) == OK
    assert device.unref(1) == ERR_INVALID_RESOURCE_ID


def test_backing_is_attached_once(device: Device) -> None:
    device.create(1, 8, 8)
    before = device.used
    assert device.attach(1) == OK
    charged = device.used
    assert charged > before
    assert device.attach(1) == ERR_UNSPEC
    assert device.used == charged
    assert device.detach(1) == OK
    assert device.used == before
    assert device.detach(1) == ERR_UNSPEC


def test_backing_of_no_pieces_is_refused(device: Device) -> None:
    device.create(1, 8, 8)
    assert lib.vg_resource_attach_backing(device.dev, 1, b"", 0) == ERR_INVALID_PARAMETER


@pytest.mark.parametrize(
    "piece",
    [
        (0, 4096),
        (RAM_GPA - 1, 2),
        (RAM_GPA + RAM_SIZE - 4, 5),
        (0xFFFF_FFFF_FFFF_F000, 0x2000),
        (0xFFFF_FFFF_FFFF_FFFF, 0xFFFFFFFF),
        (RAM_GPA, 0xFFFFFFFF),
    ],
)
def test_pieces_outside_memory_are_refused(device: Device, piece: tuple[int, int]) -> None:
    device.create(1, 8, 8)
    before = device.used
    assert device.attach(1, (RAM_GPA, 4096), piece) == ERR_UNSPEC
    assert device.used == before
    assert device.attach(1) == OK


def test_tiny_resources_are_charged_for_more_than_pixels(device: Device) -> None:
    device.create(1, 1, 1)
    assert device.used >= 1024


def test_backing_is_charged_by_the_piece() -> None:
    with Device(hostmem=MIB) as device:
        device.create(1, 8, 8)
        assert device.attach(1, *[(RAM_GPA, 4)] * 40000) == ERR_OUT_OF_MEMORY
        assert device.attach(1, *[(RAM_GPA, 4)] * 20000) == OK


def test_tens_of_thousands_of_resources() -> None:
    with Device(hostmem=256 * MIB) as device:
        count = 30000
        ids = [(i * 2654435761) % 0xFFFFFFFF + 1 for i in range(count)]
        assert all(device.create(id_, 1, 1) == OK for id_ in ids)
        assert list(walk(device)) == sorted(ids)
        assert all(device.unref(id_) == OK for id_ in ids)
        assert device.used == 0
        assert list(walk(device)) == []


def walk(device: Device) -> Iterator[int]:
    out = ffi.new("vg_resource_info *")
    while lib.vg_resource_next(device.dev, out.id, out) == 1:
        yield out.id


def test_walk_describes_each_resource(device: Device) -> None:
    device.create(5, 30, 20)
    device.attach(5, (RAM_GPA, 4096), (RAM_GPA + 8192, 100))
    device.create(2, 8, 9, 67)
    out = ffi.new("vg_resource_info *")
    assert lib.vg_resource_next(device.dev, 0, out) == 1
    assert (out.id, out.format, out.width, out.height, out.stride, out.nr_entries) == (2, 67, 8, 9, 32, 0)
    assert lib.vg_resource_next(device.dev, 2, out) == 1
    assert (out.id, out.format, out.width, out.height, out.stride) == (5, B8G8R8X8, 30, 20, 120)
    assert ffi.unpack(out.entries, 2 * out.nr_entries) == [RAM_GPA, 4096, RAM_GPA + 8192, 100]
    assert lib.vg_resource_next(device.dev, 5, out) == 0


def test_reading_checks_the_rectangle(device: Device) -> None:
    device.create(1, 8, 8)
    out = ffi.new("uint8_t[]", 4096)
    assert lib.vg_resource_read(device.dev, 2, 0, 0, 1, 1, out, 64) < 0
    for rect in [(8, 0, 1, 1), (0, 0, 9, 1), (0, 7, 1, 2), (0xFFFFFFFF, 0, 2, 1)]:
        assert lib.vg_resource_read(device.dev, 1, *rect, out, 64) < 0


def test_a_reset_ends_every_resource(device: Device) -> None:
    for id_ in range(1, 20):
        device.create(id_, 64, 64)
        device.attach(id_)
    device.set_scanout(0, 3, (0, 0, 64, 64))
    lib.vg_device_reset(device.dev)
    assert device.used == 0
    assert list(walk(device)) == []
    assert device.create(3, 8, 8) == OK


def create_errors(device: Device) -> None:
    device.create(0, 8, 8)
    device.create(1, 8, 8, 99)
    device.create(1, 0, 8)
    device.create(1, 0x40000001, 4)


def attach_twice(device: Device) -> None:
    device.create(1, 64, 64)
    device.attach(1)
    device.attach(1)
    device.unref(1)


def unmapped_entry(device: Device) -> None:
    device.create(1, 64, 64)
    device.attach(1, (RAM_GPA, 4096), (0, 4096))
    device.unref(1)


def unref_with_backing(device: Device) -> None:
    device.create(1, 256, 256)
    device.attach(1)
    device.transfer(1, (0, 0, 256, 256))
    device.unref(1)


def scanout_of_two(device: Device) -> None:
    for id_ in (1, 2):
        device.create(id_, 64, 64)
        device.set_scanout(0, id_, (0, 0, 64, 64))
    device.unref(1)
    device.unref(2)


def cursors_of_all_sizes(device: Device) -> None:
    for id_, side in enumerate((1, 63, 64, 65, 128), 1):
        device.create(id_, side, side)
        lib.vg_update_cursor(device.dev, 0, 0, 0, id_, 0, 0)
        device.unref(id_)


@pytest.mark.parametrize(
    ("loop", "times"),
    [
        (create_errors, 100_000),  # CVE-2016-7994
        (attach_twice, 100_000),  # CVE-2021-3544, CVE-2017-5552
        (unmapped_entry, 100_000),  # CVE-2017-5578
        (unref_with_backing, 3000),  # CVE-2016-9912, CVE-2017-5857
        (scanout_of_two, 3000),  # CVE-2017-9060
        (cursors_of_all_sizes, 5000),  # CVE-2016-9846
    ],
)
def test_nothing_leaks(device: Device, loop: Callable[[Device], None], times: int) -> None:
    for _ in range(100):
        loop(device)
    device.retired()
    before = resident_kib()
    for _ in range(times):
        loop(device)
    device.retired()
    assert device.used == 0
    assert resident_kib() - before < resident_slack_kib()
