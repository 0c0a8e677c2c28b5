"""The real viewer's pixels: formats, damage, rectangles of larger images."""

from __future__ import annotations

import numpy as np
import pytest

from frontend.pixels import BYTE_ORDER, Pixels, to_rgba
from protocol.virtio_gpu import Format
from tests.frontend.fakedaemon import FakeDaemon, SharedImage
from tests.frontend.xscreen import ViewerProcess, XScreen


def noise(image: SharedImage, seed: int = 1) -> Pixels:
    """Fills an image with random bytes; returns what they are as RGBA."""
    image.pixels[:] = np.random.default_rng(seed).integers(0, 256, image.pixels.shape, np.uint8)
    return to_rgba(image.pixels, image.format)


def test_all_formats_exactly(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    for number, fmt in enumerate(Format):
        image = SharedImage(number, 200 + number, 150, fmt)
        expected = noise(image, number)
        daemon.show(image)
        xscreen.wait_for_pixels(expected)
    assert set(Format) == set(BYTE_ORDER)
    assert viewer.process.poll() is None


@pytest.mark.usefixtures("viewer")
def test_only_damage_is_uploaded(daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    first, second = SharedImage(1, 200, 150, pad=7), SharedImage(2, 200, 150)
    expected = noise(first)
    daemon.show(first)
    xscreen.wait_for_pixels(expected)
    newer = noise(second, 2)
    daemon.image(second)
    damage = [(10, 20, 30, 40), (100, 100, 100, 50)]
    daemon.expect_done(daemon.frame(second, damage))
    for x, y, width, height in damage:
        expected[y : y + height, x : x + width] = newer[y : y + height, x : x + width]
    xscreen.wait_for_pixels(expected)


@pytest.mark.usefixtures("viewer")
def test_a_scanout_of_a_part_of_a_larger_image(daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    image = SharedImage(1, 300, 200)
    expected = noise(image)
    daemon.image(image)
    daemon.mode(100, 80)
    daemon.expect_done(daemon.frame(image, [(0, 0, 100, 80)], at=(150, 60)))
    xscreen.wait_for_pixels(expected[60:140, 150:250])


@pytest.mark.usefixtures("viewer")
def test_a_new_mode_replaces_the_whole_picture(daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    for number, size in enumerate([(200, 150), (320, 200), (64, 48)]):
        image = SharedImage(number, *size)
        expected = noise(image, number)
        daemon.show(image)
        xscreen.wait_for_pixels(expected)
        xscreen.wait_for_window(f"session-1 - {size[0]}x{size[1]}$")
