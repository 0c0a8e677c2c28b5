"""The moving scene: what it says is damaged is all that changed, and what it draws follows from the frame alone."""

import pytest

from vhost_gpu.guest.rects import area
from vhost_gpu.guest.scene import Scene

SIZES = [(16, 16), (64, 40), (320, 240), (641, 355), (1600, 64)]


def repair(picture, scene, other, damage):
    """Copies the damaged rectangles from one picture to the other."""
    for rect in damage:
        for y in range(rect.y, rect.y + rect.height):
            at = 4 * (y * scene.width + rect.x)
            picture[at : at + 4 * rect.width] = other[at : at + 4 * rect.width]


@pytest.mark.parametrize("size", SIZES)
def test_damage_covers_every_change(size):
    scene = Scene(*size)
    pixels = bytearray(scene.size)
    assert scene.start(memoryview(pixels)) == [scene.whole()]
    shown = bytearray(pixels)
    for _ in range(40):
        damage = scene.step(memoryview(pixels))
        for rect in damage:
            assert rect.x >= 0
            assert rect.y >= 0
            assert rect.x + rect.width <= scene.width
            assert rect.y + rect.height <= scene.height
        repair(shown, scene, pixels, damage)
        assert shown == pixels


def test_frames_follow_from_their_number():
    first, second = Scene(320, 240), Scene(320, 240)
    a, b = bytearray(first.size), bytearray(second.size)
    first.start(memoryview(a))
    for _ in range(25):
        first.step(memoryview(a))
    second.frame = 25
    second.start(memoryview(b))
    assert a == b
    assert first.cursor() == second.cursor()


def test_something_moves_and_most_stays():
    scene = Scene(1280, 800)
    pixels = memoryview(bytearray(scene.size))
    scene.start(pixels)
    before = bytes(pixels)
    damage = scene.step(pixels)
    assert bytes(pixels) != before
    assert len(damage) <= 13
    assert sum(map(area, damage)) < 1280 * 800 / 3


@pytest.mark.parametrize("size", SIZES)
def test_the_cursor_stays_on_the_screen(size):
    scene = Scene(*size)
    for frame in range(0, 1200, 7):
        scene.frame = frame
        x, y = scene.cursor()
        assert 0 <= x < size[0]
        assert 0 <= y < size[1]
