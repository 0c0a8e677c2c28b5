"""Formats and the cursor's blending, against a pixel at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.pixels import BYTE_ORDER, CURSOR_BYTES, Picture, Pixels, blend_cursor, cursor_rgba, to_rgba
from protocol.virtio_gpu import Format

SEEDS = st.integers(0, 2**32 - 1)


def noise(seed: int, height: int, width: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)


@pytest.mark.parametrize("fmt", list(Format))
def test_a_format_is_its_name(fmt: Format) -> None:
    letters = fmt.name.removesuffix("_UNORM")[::2]  # B8G8R8A8 -> BGRA, in memory order
    pixels = np.array([[[1, 2, 3, 4]]], np.uint8)
    red, green, blue, alpha = to_rgba(pixels, fmt)[0, 0]
    assert [red, green, blue] == [letters.index(letter) + 1 for letter in "RGB"]
    assert alpha == 255


def test_an_unknown_format() -> None:
    assert set(BYTE_ORDER) == set(Format)
    with pytest.raises(KeyError):
        to_rgba(noise(1, 1, 1), 5)


def test_a_picture_knows_its_size() -> None:
    assert Picture(noise(1, 3, 5), 1, (), 1, 0).size == (5, 3)


def test_a_premultiplied_cursor_stays_as_it_is() -> None:
    data = bytes([10, 20, 30, 40]) * (CURSOR_BYTES // 4)
    assert cursor_rgba(data)[0, 0].tolist() == [30, 20, 10, 40]


def test_a_straight_cursor_is_premultiplied() -> None:
    data = bytes([0, 100, 200, 128]) * (CURSOR_BYTES // 4)
    assert cursor_rgba(data)[5, 7].tolist() == [100, 50, 0, 128]


@given(SEEDS)
def test_a_cursor_is_premultiplied_whatever_came(seed: int) -> None:
    rgba = cursor_rgba(noise(seed, 64, 64).tobytes())
    assert (rgba[..., :3] <= rgba[..., 3:]).all()


@given(SEEDS, st.integers(-80, 40), st.integers(-80, 40))
def test_blending_pixel_by_pixel(seed: int, x: int, y: int) -> None:
    picture, cursor = noise(seed, 12, 17), cursor_rgba(noise(seed + 1, 64, 64).tobytes())
    picture[..., 3] = 255
    expected = picture.copy()
    for row in range(12):
        for column in range(17):
            at = (row - y, column - x)
            if 0 <= at[0] < 64 and 0 <= at[1] < 64:
                source = cursor[at].astype(int)
                under = (expected[row, column, :3].astype(int) * (255 - source[3]) + 127) // 255
                expected[row, column, :3] = np.minimum(source[:3] + under, 255)
    blend_cursor(picture, cursor, x, y)
    assert np.array_equal(picture, expected)
