"""Which parts of a window differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.geometry import Box, Scale, place
from frontend.look import JOIN, MAX_PARTS, Layer, Look, changed_parts, cover, on_window, simplified
from protocol.virtio_gpu import Rect

WINDOW = Rect(0, 0, 100, 80)
CURSOR = Layer("cursor", 1, Box(10, 10, 8, 8), WINDOW)
LOOK = Look((100, 80), Box(0, 0, 100, 80), False, (CURSOR,))
PICTURE = (100, 80)


def test_nothing_changed() -> None:
    assert changed_parts(LOOK, LOOK, PICTURE, []) == []


def test_damage_alone() -> None:
    assert changed_parts(LOOK, LOOK, PICTURE, [Rect(3, 4, 5, 6)]) == [Rect(3, 4, 5, 6)]


@pytest.mark.parametrize(
    "old",
    [
        None,
        replace(LOOK, window=(101, 80)),
        replace(LOOK, picture=None),
        replace(LOOK, picture=Box(0, 0, 50, 40)),
        replace(LOOK, linear=True),
    ],
)
def test_another_arrangement_is_painted_whole(old: Look | None) -> None:
    assert changed_parts(old, LOOK, PICTURE, []) == [WINDOW]


def test_a_layer_that_moves_uncovers_what_was_below() -> None:
    moved = replace(LOOK, layers=(replace(CURSOR, box=Box(11, 10, 8, 8)),))
    assert changed_parts(LOOK, moved, PICTURE, []) == [Rect(10, 10, 9, 8)]
    hidden = replace(LOOK, layers=())
    assert changed_parts(LOOK, hidden, PICTURE, []) == [Rect(10, 10, 8, 8)]


def test_a_layer_with_new_pixels() -> None:
    newer = replace(LOOK, layers=(replace(CURSOR, version=2),))
    assert changed_parts(LOOK, newer, PICTURE, []) == [Rect(10, 10, 8, 8)]


def test_a_layer_outside_changes_nothing() -> None:
    outside = replace(LOOK, layers=(CURSOR, replace(CURSOR, name="far", box=Box(-20, 5, 8, 8))))
    assert changed_parts(LOOK, outside, PICTURE, []) == []


def test_damage_without_a_picture_changes_nothing() -> None:
    empty = replace(LOOK, picture=None)
    assert changed_parts(empty, empty, (0, 0), [Rect(0, 0, 5, 5)]) == []


def test_cover_reaches_out_to_whole_pixels() -> None:
    assert cover(Box(-0.5, 1.0, 2.0, 2.5)) == Rect(-1, 1, 3, 3)


@given(
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(1, 60),
    st.integers(0, 59),
    st.integers(0, 59),
)
def test_a_scaled_part_covers_every_sample_it_may_reach(
    wide: int, high: int, across: int, down: int, x: int, y: int
) -> None:
    part = Rect(x % wide, y % high, 1, 1)
    box = place((wide, high), (across, down), Scale.FIT)
    place_of_part = on_window(part, (wide, high), box)
    for axis, (size, start, length) in enumerate([(wide, box.x, box.width), (high, box.y, box.height)]):
        first, count = (place_of_part.x, place_of_part.width) if axis == 0 else (place_of_part.y, place_of_part.height)
        pixels = np.arange(int(length))
        texels = (pixels + 0.5) * size / length - 0.5  # linear sampling mixes floor and ceil of this
        at = part.x if axis == 0 else part.y
        reached = pixels[(np.floor(texels) <= at) & (np.ceil(texels) >= at)] + int(start)
        assert all(first <= pixel < first + count for pixel in reached)


SIDE = st.integers(1, 2000)
PARTS = st.lists(st.builds(Rect, SIDE, SIDE, SIDE, SIDE), max_size=MAX_PARTS + 3)


def inside(part: Rect, other: Rect) -> bool:
    right, bottom = other.x + other.width, other.y + other.height
    return other.x <= part.x and other.y <= part.y and part.x + part.width <= right and part.y + part.height <= bottom


@given(PARTS)
def test_simplified_parts_hold_all_of_them(parts: list[Rect]) -> None:
    fewer = simplified(parts)
    assert len(fewer) <= max(1, len(parts))
    assert all(any(inside(part, other) for other in fewer) for part in parts)


def test_near_parts_are_joined_and_far_ones_are_not() -> None:
    one, near, far = Rect(0, 0, 10, 10), Rect(20, 0, 10, 10), Rect(0, JOIN, 10, 10)
    assert simplified([one, near]) == [Rect(0, 0, 30, 10)]
    assert sorted(simplified([one, far, near]), key=lambda part: part.y) == [Rect(0, 0, 30, 10), far]
    assert len(simplified([Rect(number * 2 * JOIN, 0, 1, 1) for number in range(MAX_PARTS)])) == MAX_PARTS
    assert len(simplified([Rect(number * 2 * JOIN, 0, 1, 1) for number in range(MAX_PARTS + 1)])) == 1
