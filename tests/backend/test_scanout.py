"""SET_SCANOUT and RESOURCE_FLUSH: what is published, generations and sequences, damage."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend._core import ffi, lib
from tests.backend.devicekit import (
    B8G8R8A8,
    ERR_INVALID_PARAMETER,
    ERR_INVALID_RESOURCE_ID,
    ERR_INVALID_SCANOUT_ID,
    OK,
    Device,
    Rect,
)

SIDE = 100
WHOLE = (0, 0, SIDE, SIDE)
RED, BLUE = b"\x00\x00\xff\x00", b"\xff\x00\x00\x00"


@pytest.fixture
def device() -> Iterator[Device]:
    """Resources 1 and 2 of SIDE x SIDE with backing, nothing shown."""
    with Device() as device:
        for id_ in (1, 2):
            device.create(id_, SIDE, SIDE)
            device.attach(id_)
        yield device


def settle(device: Device, scanout: int = 0) -> None:
    device.dirty()
    device.damage(scanout)


def paint(device: Device, rect: Rect) -> None:
    device.fill(1, SIDE, rect, RED)
    device.flush(1, rect)


def covers(damage: list[Rect], rect: Rect) -> bool:
    x, y, width, height = rect
    return any(a <= x and b <= y and a + c >= x + width and b + d >= y + height for a, b, c, d in damage)


def test_nothing_is_shown_at_first(device: Device) -> None:
    assert device.frame() == (0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert device.damage() == []
    assert device.dirty() == 0


def test_set_scanout_publishes_at_once(device: Device) -> None:
    device.fill(1, SIDE, WHOLE, RED)
    assert device.set_scanout(1, 1, WHOLE) == OK
    assert device.dirty() == 2
    assert device.dirty() == 0
    frame = device.frame(1)
    assert (frame.generation, frame.sequence, frame.resource, frame.width, frame.height) == (1, 1, 1, SIDE, SIDE)
    assert device.damage(1) == [WHOLE]
    assert device.damage(1) == []
    assert device.shown(1) == RED * SIDE * SIDE
    assert device.frame(0).resource == 0


@pytest.mark.parametrize("scanout", [2, 16, 0xFFFFFFFF])
def test_scanout_ids(device: Device, scanout: int) -> None:
    assert device.set_scanout(scanout, 1, WHOLE) == ERR_INVALID_SCANOUT_ID
    assert device.set_scanout(scanout, 0) == ERR_INVALID_SCANOUT_ID
    assert lib.vg_scanout_frame(device.dev, scanout, ffi.new("vg_frame *")) < 0
    assert lib.vg_scanout_take_damage(device.dev, scanout, ffi.new("vg_rect[1]"), 1) < 0


def test_an_unknown_resource_changes_nothing(device: Device) -> None:
    device.set_scanout(0, 1, WHOLE)
    before = device.frame()
    assert device.set_scanout(0, 9, WHOLE) == ERR_INVALID_RESOURCE_ID
    assert device.frame() == before


@pytest.mark.parametrize(
    "rect",
    [
        (0, 0, 0, SIDE),
        (0, 0, SIDE, 0),
        (0, 0, SIDE + 1, 1),
        (1, 0, SIDE, 1),
        (0, SIDE, 1, 1),
        (0xFFFFFFFF, 0, 2, 1),
        (2, 2, 0xFFFFFFFF, 0xFFFFFFFF),
    ],
)
def test_rectangles_outside_the_resource(device: Device, rect: Rect) -> None:
    used = device.used
    assert device.set_scanout(0, 1, rect) == ERR_INVALID_PARAMETER
    assert device.frame().resource == 0
    assert device.used == used


def test_a_transfer_shows_nothing_before_its_flush(device: Device) -> None:
    device.set_scanout(0, 1, WHOLE)
    settle(device)
    device.fill(1, SIDE, WHOLE, RED)
    assert device.shown() == bytes(4 * SIDE * SIDE)
    assert device.dirty() == 0
    before = device.frame()
    assert device.flush(1, WHOLE) == OK
    assert device.shown() == RED * SIDE * SIDE
    assert device.dirty() == 1
    assert device.frame().sequence == before.sequence + 1
    assert device.frame().generation == before.generation


def test_damage_is_relative_to_the_scanout(device: Device) -> None:
    device.set_scanout(0, 1, (10, 20, 50, 60))
    settle(device)
    device.fill(1, SIDE, (30, 30, 5, 5), RED)
    device.flush(1, (30, 30, 5, 5))
    assert device.damage() == [(20, 10, 5, 5)]
    device.fill(1, SIDE, (0, 0, 15, 25), BLUE)
    device.flush(1, (0, 0, 15, 25))
    assert device.damage() == [(0, 0, 5, 5)]


def test_a_flush_outside_the_scanout_is_no_frame(device: Device) -> None:
    device.set_scanout(0, 1, (10, 20, 50, 60))
    settle(device)
    before = device.frame()
    assert device.flush(1, (0, 0, 10, 100)) == OK
    assert device.flush(1, (20, 30, 0, 5)) == OK
    assert device.flush(2, WHOLE) == OK
    assert device.frame() == before
    assert device.dirty() == 0


def test_two_scanouts_on_one_framebuffer(device: Device) -> None:
    device.set_scanout(0, 1, (0, 0, 50, 100))
    device.set_scanout(1, 1, (50, 0, 50, 100))
    settle(device, 0)
    settle(device, 1)
    device.fill(1, SIDE, (40, 10, 20, 10), RED)
    device.flush(1, (40, 10, 20, 10))
    assert device.dirty() == 3
    assert device.damage(0) == [(40, 10, 10, 10)]
    assert device.damage(1) == [(0, 10, 10, 10)]
    device.fill(1, SIDE, (60, 50, 5, 5), BLUE)
    device.flush(1, (60, 50, 5, 5))
    assert device.dirty() == 2
    assert device.damage(0) == []
    assert device.damage(1) == [(10, 50, 5, 5)]


def test_unflushed_pixels_stay_off_the_other_scanout(device: Device) -> None:
    device.set_scanout(0, 1, (0, 0, 50, 100))
    device.set_scanout(1, 1, (50, 0, 50, 100))
    device.fill(1, SIDE, WHOLE, RED)
    device.flush(1, (0, 0, 50, 100))
    assert device.shown(0) == RED * 5000
    assert device.shown(1) == bytes(20000)
    device.flush(1, (50, 0, 50, 100))
    assert device.shown(1) == RED * 5000


def test_damage_tells_of_unflushed_pixels_that_come_along(device: Device) -> None:
    device.set_scanout(0, 1, (10, 10, 80, 80))
    settle(device)
    device.fill(1, SIDE, (0, 20, 30, 5), RED)
    device.flush(1, (70, 70, 5, 5))
    assert device.damage() == [(0, 10, 20, 5), (60, 60, 5, 5)]


def test_a_scanout_where_nothing_changed_keeps_no_old_image(device: Device) -> None:
    device.set_scanout(0, 1, (0, 0, 50, 100))
    device.set_scanout(1, 1, (50, 0, 50, 100))
    settle(device, 1)
    before, used = device.frame(1), device.used
    for value in range(9):
        device.fill(1, SIDE, (0, 0, 50, 100), bytes((value, 0, 0, 0)))
        device.flush(1, (0, 0, 50, 100))
    assert device.frame(1).sequence == before.sequence
    assert device.damage(1) == []
    assert device.used == used
    assert device.dirty() == 1


def test_sixteen_scanouts_flushed_one_by_one() -> None:
    with Device(scanouts=16) as device:
        device.create(1, 160, 10)
        device.attach(1)
        for i in range(16):
            assert device.set_scanout(i, 1, (i * 10, 0, 10, 10)) == OK
        for turn in range(3):
            for i in range(16):
                rect = (i * 10, 0, 10, 10)
                device.fill(1, 160, (0, 0, 160, 10), bytes((turn * 16 + i, 0, 0, 0)))
                device.flush(1, rect)
                assert device.shown(i) == bytes((turn * 16 + i, 0, 0, 0)) * 100
                assert not device.starved()
        assert device.used < 5 * 160 * 10 * 4 + 5 * 4096 + 4096


def test_the_same_scanout_again_is_a_new_frame_of_the_same_generation(device: Device) -> None:
    device.set_scanout(0, 1, WHOLE)
    settle(device)
    before = device.frame()
    device.set_scanout(0, 1, WHOLE)
    assert device.frame().generation == before.generation
    assert device.frame().sequence == before.sequence + 1
    assert device.damage() == [WHOLE]


def test_page_flips_keep_the_generation(device: Device) -> None:
    device.set_scanout(0, 1, WHOLE)
    for turn in range(20):
        id_ = 2 - turn % 2
        before = device.frame()
        device.fill(id_, SIDE, WHOLE, bytes((turn, 0, 0, 0)))
        device.set_scanout(0, id_, WHOLE)
        device.flush(id_, WHOLE)
        after = device.frame()
        assert (after.generation, after.resource) == (before.generation, id_)
        assert after.sequence > before.sequence
        assert device.shown() == bytes((turn, 0, 0, 0)) * SIDE * SIDE
        assert device.damage() == [WHOLE]
    assert device.retired() == []


def test_another_mode_is_another_generation(device: Device) -> None:
    device.set_scanout(0, 1, WHOLE)
    settle(device)
    device.flush(1, (90, 90, 10, 10))
    device.set_scanout(0, 1, (0, 0, 50, 50))
    assert device.frame().generation == 2
    assert device.damage() == [(0, 0, 50, 50)]
    device.set_scanout(0, 1, (10, 10, 50, 50))
    assert (device.frame().generation, device.frame().x) == (2, 10)
    device.create(3, SIDE, SIDE, B8G8R8A8)
    device.set_scanout(0, 3, (0, 0, 50, 50))
    assert device.frame().generation == 3


@pytest.mark.parametrize("way", ["disable", "unref", "reset"])
def test_a_cleared_scanout(device: Device, way: str) -> None:
    device.set_scanout(0, 1, WHOLE)
    device.dirty()
    if way == "disable":
        assert device.set_scanout(0, 0, (5, 5, 5, 5)) == OK
    elif way == "unref":
        device.unref(1)
    else:
        lib.vg_device_reset(device.dev)
    frame = device.frame()
    assert (frame.generation, frame.sequence) == (2, 1)
    assert frame[2:] == (0,) * 7
    assert device.dirty() == 1
    assert device.damage() == []
    lib.vg_device_reset(device.dev)
    assert device.dirty() == 0
    assert device.frame().generation == 2


def test_flush_time(device: Device) -> None:
    device.set_scanout(0, 1, WHOLE)
    out = ffi.new("vg_frame *")
    lib.vg_scanout_frame(device.dev, 0, out)
    first = out.flush_ns
    device.flush(1, WHOLE)
    lib.vg_scanout_frame(device.dev, 0, out)
    assert out.flush_ns >= first > 0


def test_damage_is_merged_to_fit(device: Device) -> None:
    device.set_scanout(0, 1, WHOLE)
    settle(device)
    rects = [(x, y, 2, 2) for x in range(0, 100, 10) for y in range(0, 100, 10)]
    for rect in rects:
        paint(device, rect)
    damage = device.damage()
    assert 1 < len(damage) <= 32
    assert all(covers(damage, rect) for rect in rects)
    for rect in rects:
        paint(device, rect)
    assert device.damage(most=1) == [(0, 0, 92, 92)]


def test_neighbours_become_one(device: Device) -> None:
    device.set_scanout(0, 1, WHOLE)
    settle(device)
    for y in range(0, 100, 4):
        paint(device, (0, y, 100, 4))
    assert device.damage() == [WHOLE]
    paint(device, (0, 0, 3, 3))
    paint(device, (90, 90, 3, 3))
    assert device.damage() == [(0, 0, 3, 3), (90, 90, 3, 3)]


rect_of_side = st.tuples(st.integers(0, SIDE - 1), st.integers(0, SIDE - 1)).flatmap(
    lambda at: st.tuples(st.just(at[0]), st.just(at[1]), st.integers(1, SIDE - at[0]), st.integers(1, SIDE - at[1]))
)


@settings(max_examples=80, deadline=None)
@given(rects=st.lists(rect_of_side, max_size=80), most=st.integers(1, 32))
def test_damage_covers_every_flush(rects: list[Rect], most: int) -> None:
    with Device() as device:
        device.create(1, SIDE, SIDE)
        device.attach(1)
        device.set_scanout(0, 1, WHOLE)
        settle(device)
        for rect in rects:
            paint(device, rect)
        damage = device.damage(most=most)
        assert all(covers([WHOLE], rect) for rect in damage)
        covered = {(x, y) for a, b, w, h in damage for x in range(a, a + w) for y in range(b, b + h)}
        assert all((x, y) in covered for a, b, w, h in rects for x in (a, a + w - 1) for y in (b, b + h - 1))


def test_a_flush_that_shows_nothing_new_is_no_frame(device: Device) -> None:
    """Linux flushes after the SET_SCANOUT of a page flip."""
    for n in range(4):
        id_ = n % 2 + 1
        device.fill(id_, SIDE, WHOLE, RED)
        device.set_scanout(0, id_, WHOLE)
        sequence = device.frame().sequence
        device.flush(id_, WHOLE)
        assert (device.frame().sequence, device.frame().resource) == (sequence, id_)
        assert device.damage() == [WHOLE]
