"""The precomputed pictures."""

import pytest

from vhost_gpu.guest.picture import (
    CURSOR_SIDE,
    GLYPH_HEIGHT,
    GLYPH_WIDTH,
    ball,
    cursor_picture,
    gradient,
    interleave,
    pixel,
    ramp,
    text_rows,
)


def test_pixels_are_blue_first():
    assert pixel((1, 2, 3)) == bytes((3, 2, 1, 255))
    assert interleave(b"\1\2", b"\3\4", b"\5\6") == bytes((1, 3, 5, 255, 2, 4, 6, 255))


def test_a_ramp_reaches_both_ends():
    assert ramp(10, 20, 5) == bytes((10, 12, 15, 17, 20))
    assert ramp(7, 9, 1) == b"\7"


@pytest.mark.parametrize("scale", [1, 3])
def test_text_is_as_large_as_it_says(scale):
    rows = text_rows("Frame 1", (255, 255, 255), (0, 0, 0), scale)
    assert len(rows) == GLYPH_HEIGHT * scale
    assert {len(row) for row in rows} == {4 * 7 * GLYPH_WIDTH * scale}


def test_glyphs_are_drawn_as_designed():
    rows = text_rows("l", (255, 255, 255), (0, 0, 0), 1)
    shape = ["".join("#" if row[4 * x] else "." for x in range(GLYPH_WIDTH)) for row in rows]
    assert shape == ["#.....", "#.....", "#.....", "#.....", "#.....", "#.....", "#####."]


def test_unknown_characters_are_dashes():
    assert text_rows("\u00e4", (9, 9, 9), (0, 0, 0), 1) == text_rows("-", (9, 9, 9), (0, 0, 0), 1)


def test_a_gradient_goes_from_top_to_bottom():
    picture = gradient(4, 3, (255, 0, 0), (0, 0, 255))
    assert len(picture) == 4 * 4 * 3
    assert picture[12:16] == bytes((0, 0, 255, 255))
    assert picture[-4:] == bytes((255, 0, 0, 255))


def test_a_ball_is_round_and_symmetric():
    sprite = ball(10, (200, 100, 50))
    assert len(sprite.rows) == len(sprite.insets) == 20
    for inset, row in zip(sprite.insets, sprite.rows, strict=True):
        assert len(row) // 4 + 2 * inset == 20
    assert list(sprite.insets) == list(reversed(sprite.insets))
    assert min(sprite.insets) == 0


def test_the_cursor_is_an_arrow_with_its_tip_in_the_corner():
    picture = cursor_picture()
    assert len(picture) == 4 * CURSOR_SIDE * CURSOR_SIDE
    assert picture[3] == 255
    assert picture[-4:] == bytes(4)
