"""Rectangles, places and sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.geometry import Box, Scale, clip, clip_all, overlap, place, place_on, place_panel, signed, window_size
from protocol.virtio_gpu import Rect

SIDES = st.integers(1, 20000)
SIZES = st.tuples(SIDES, SIDES)
U32 = st.integers(0, 2**32 - 1)


@given(st.integers(-(2**31), 2**31 - 1))
def test_signed_undoes_the_wrap(value: int) -> None:
    assert signed(value % 2**32) == value


@given(st.builds(Rect, U32, U32, U32, U32), SIZES)
def test_a_clipped_rectangle_is_inside_both(rect: Rect, size: tuple[int, int]) -> None:
    part = clip(rect, size)
    if part is None:
        assert rect.x >= size[0] or rect.y >= size[1] or not rect.width or not rect.height
        return
    assert rect.x == part.x
    assert rect.y == part.y
    assert 0 < part.width <= min(rect.width, size[0] - part.x)
    assert 0 < part.height <= min(rect.height, size[1] - part.y)


def test_clip_all_leaves_empty_parts_out() -> None:
    assert clip_all([Rect(0, 0, 5, 5), Rect(10, 0, 5, 5), Rect(8, 8, 5, 5)], (10, 10)) == [
        Rect(0, 0, 5, 5),
        Rect(8, 8, 2, 2),
    ]


@given(SIZES, SIZES)
def test_fit_stays_inside_touches_an_edge_and_keeps_the_aspect(
    picture: tuple[int, int], window: tuple[int, int]
) -> None:
    box = place(picture, window, Scale.FIT)
    assert box.width <= window[0]
    assert box.height <= window[1]
    assert box.width == window[0] or box.height == window[1]
    factor = min(window[0] / picture[0], window[1] / picture[1])
    assert box.width == pytest.approx(max(1, picture[0] * factor), abs=0.51)
    assert box.height == pytest.approx(max(1, picture[1] * factor), abs=0.51)
    assert box.x == int(box.x) == (window[0] - box.width) // 2


@pytest.mark.parametrize(
    ("picture", "window", "expected"),
    [
        ((100, 50), (200, 200), Box(50, 75, 100, 50)),
        ((300, 50), (200, 200), Box(0, 75, 300, 50)),
        ((300, 300), (200, 200), Box(0, 0, 300, 300)),
    ],
)
def test_one_to_one(picture: tuple[int, int], window: tuple[int, int], expected: Box) -> None:
    assert place(picture, window, Scale.ONE_TO_ONE) == expected


def test_a_part_scales_with_its_picture() -> None:
    assert place_on(Rect(-4, 10, 64, 64), (100, 100), Box(20, 0, 50, 200)) == Box(18, 20, 32, 128)


@given(SIZES, SIZES)
def test_a_window_is_not_larger_than_the_screen(picture: tuple[int, int], screen: tuple[int, int]) -> None:
    size = window_size(picture, screen)
    assert size[0] <= screen[0]
    assert size[1] <= screen[1]
    if picture[0] <= screen[0] and picture[1] <= screen[1]:
        assert size == picture


def test_overlap_with_corners_outside() -> None:
    assert overlap(Rect(-5, -5, 10, 10), Rect(0, 2, 3, 100)) == Rect(0, 2, 3, 3)
    assert overlap(Rect(-5, 0, 5, 5), Rect(0, 0, 5, 5)) is None


@pytest.mark.parametrize(
    ("window", "at", "corner"),
    [((200, 100), (0, 0), (12, 12)), ((200, 100), (1, 1), (138, 58)), ((30, 20), (1, 1), (12, 12))],
)
def test_a_panel_keeps_from_the_edges(
    window: tuple[int, int], at: tuple[float, float], corner: tuple[int, int]
) -> None:
    assert place_panel((50, 30), window, at) == Box(*corner, 50, 30)
