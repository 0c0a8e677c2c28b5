"""UPDATE_CURSOR and MOVE_CURSOR."""

from collections.abc import Iterator
from typing import Any

import pytest

from backend._core import ffi, lib
from tests.backend.devicekit import (
    B8G8R8A8,
    ERR_INVALID_PARAMETER,
    ERR_INVALID_RESOURCE_ID,
    ERR_INVALID_SCANOUT_ID,
    OK,
    Device,
)

CURSOR_0 = 1 << 16
CURSOR_1 = 1 << 17


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as device:
        device.create(1, 64, 64, B8G8R8A8)
        device.attach(1)
        device.fill(1, 64, (0, 0, 64, 64), b"\x01\x02\x03\x04")
        yield device


def update(device: Device, id_: int, x: int = 0, y: int = 0, hot: tuple[int, int] = (0, 0), scanout: int = 0) -> int:
    return int(lib.vg_update_cursor(device.dev, scanout, x, y, id_, *hot))


def move(device: Device, id_: int, x: int, y: int, scanout: int = 0) -> int:
    return int(lib.vg_move_cursor(device.dev, scanout, x, y, id_))


def cursor(device: Device, scanout: int = 0) -> Any:
    out = ffi.new("vg_cursor *")
    assert lib.vg_cursor_describe(device.dev, scanout, out) == 0
    return out


def picture(device: Device) -> bytes:
    shown = cursor(device)
    return bytes(ffi.buffer(shown.pixels))


def test_show_move_hide(device: Device) -> None:
    assert update(device, 1, 10, 20, (3, 4)) == OK
    assert device.dirty() == CURSOR_0
    shown = cursor(device)
    assert (shown.x, shown.y, shown.hot_x, shown.hot_y, shown.visible, shown.resource_id) == (10, 20, 3, 4, 1, 1)
    assert picture(device) == b"\x01\x02\x03\x04" * 4096
    assert move(device, 1, 11, 21) == OK
    assert device.dirty() == CURSOR_0
    moved = cursor(device)
    assert (moved.x, moved.y, moved.visible, moved.generation) == (11, 21, 1, shown.generation)
    assert update(device, 0) == OK
    hidden = cursor(device)
    assert not hidden.visible
    assert hidden.generation > moved.generation


def test_move_with_no_resource_hides_and_with_one_shows_again(device: Device) -> None:
    update(device, 1)
    move(device, 0, 5, 6)
    assert (cursor(device).visible, cursor(device).x) == (0, 5)
    move(device, 77, 7, 8)
    assert (cursor(device).visible, cursor(device).x) == (1, 7)


def test_move_before_any_picture_shows_nothing(device: Device) -> None:
    assert move(device, 1, 5, 6) == OK
    assert not cursor(device).visible


def test_the_picture_is_the_one_of_its_update(device: Device) -> None:
    update(device, 1)
    device.fill(1, 64, (0, 0, 64, 64), b"\x09\x09\x09\x09")
    assert picture(device)[:4] == b"\x01\x02\x03\x04"
    device.unref(1)
    assert picture(device)[:4] == b"\x01\x02\x03\x04"
    assert cursor(device).visible


def test_every_update_is_a_new_generation(device: Device) -> None:
    update(device, 1)
    before = cursor(device).generation
    update(device, 1)
    assert cursor(device).generation == before + 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (63, 64), (64, 63), (65, 64), (128, 128), (32, 128)])
def test_other_sizes_change_nothing(device: Device, width: int, height: int) -> None:
    update(device, 1, 1, 2)
    device.dirty()
    before = bytes(ffi.buffer(cursor(device)))
    device.create(2, width, height)
    assert update(device, 2, 50, 60) == ERR_INVALID_PARAMETER
    assert bytes(ffi.buffer(cursor(device))) == before
    assert device.dirty() == 0


def test_misuse(device: Device) -> None:
    assert update(device, 99) == ERR_INVALID_RESOURCE_ID
    for scanout in (2, 16, 0xFFFFFFFF):
        assert update(device, 1, scanout=scanout) == ERR_INVALID_SCANOUT_ID
        assert move(device, 1, 0, 0, scanout) == ERR_INVALID_SCANOUT_ID
        assert lib.vg_cursor_describe(device.dev, scanout, ffi.new("vg_cursor *")) < 0
    assert device.dirty() == 0


def test_numbers_are_kept_as_they_are(device: Device) -> None:
    update(device, 1, 0xFFFFFFFF, 0xFFFFFFF0, (0xFFFFFFFF, 64))
    shown = cursor(device)
    assert (shown.x, shown.y, shown.hot_x, shown.hot_y) == (0xFFFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF, 64)


def test_one_cursor_for_each_scanout(device: Device) -> None:
    update(device, 1, 1, 1, scanout=1)
    assert device.dirty() == CURSOR_1
    assert not cursor(device, 0).visible
    assert cursor(device, 1).visible


def test_reset_hides(device: Device) -> None:
    update(device, 1)
    before = cursor(device).generation
    device.dirty()
    lib.vg_device_reset(device.dev)
    assert not cursor(device).visible
    assert cursor(device).generation == before + 1
    assert picture(device) == bytes(16384)
    assert device.dirty() == CURSOR_0


def test_a_cursor_that_is_also_on_a_scanout(device: Device) -> None:
    device.set_scanout(0, 1, (0, 0, 64, 64))
    device.fill(1, 64, (0, 0, 64, 64), b"\x05\x06\x07\x08")
    update(device, 1)
    assert picture(device) == b"\x05\x06\x07\x08" * 4096
    assert device.shown() == b"\x01\x02\x03\x04" * 4096
