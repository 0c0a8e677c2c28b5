"""The real viewer's window: cursor, scaling, waiting text, keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frontend.geometry import window_size
from frontend.options import FIRST_SIZE
from frontend.overlay import waiting_panel
from frontend.pixels import Pixels, blend_cursor, cursor_rgba
from tests.frontend.fakedaemon import FakeDaemon, SharedImage
from tests.frontend.test_renderer import noise
from tests.frontend.xscreen import SCREEN, ViewerProcess, XScreen, wait_until


def arrow() -> bytes:
    """A cursor with opaque, half transparent and clear pixels."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:20, :10] = (10, 200, 30, 255)
    pixels[20:40] = (100, 0, 50, 128)
    return pixels.tobytes()


def with_cursor(picture: Pixels, x: int, y: int) -> Pixels:
    result = picture.copy()
    blend_cursor(result, cursor_rgba(arrow()), x, y)
    return result


def grab_close(screen: XScreen, expected: Pixels) -> bool:
    """Blending may round the other way by one."""
    seen = screen.grab()[: expected.shape[0], : expected.shape[1]]
    return bool((np.abs(seen.astype(int) - expected[..., :3]) <= 1).all())


@pytest.mark.usefixtures("viewer")
def test_the_cursor_is_blended_where_the_guest_put_it(daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    image = SharedImage(1, 200, 150)
    picture = noise(image)
    daemon.show(image)
    daemon.cursor(arrow(), hot=(3, 4))
    for x, y in [(50, 40), (-5, -7), (180, 130)]:
        daemon.move_cursor(x, y)
        wait_until(lambda at=(x, y): grab_close(xscreen, with_cursor(picture, *at)), f"cursor at {x},{y}")
    daemon.hide_cursor()
    xscreen.wait_for_pixels(picture)


@pytest.mark.parametrize("viewer", [["--fullscreen", "--filter", "nearest"]], indirect=True)
@pytest.mark.usefixtures("viewer")
def test_fit_keeps_the_aspect_with_black_borders(daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    image = SharedImage(1, 80, 80)
    picture = noise(image)
    daemon.show(image)
    expected = np.zeros((SCREEN[1], SCREEN[0], 3), np.uint8)
    border = (SCREEN[0] - SCREEN[1]) // 2
    expected[:, border:-border] = picture[..., :3].repeat(6, 0).repeat(6, 1)
    xscreen.wait_for_pixels(expected)
    daemon.cursor(bytes([255, 255, 255, 255]) * 4096)
    daemon.move_cursor(10, 70)
    expected[70 * 6 :, border + 10 * 6 : border + 74 * 6] = 255
    xscreen.wait_for_pixels(expected)


def test_waiting_text_and_clear(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    xscreen.wait_for_window("session-1 - waiting for the guest")
    width, height = window_size(FIRST_SIZE, SCREEN)
    wait_until(lambda: shows(xscreen.grab()[:height, :width], waiting_panel("")), "waiting text")
    image = SharedImage(1, 300, 200)
    picture = noise(image)
    daemon.show(image)
    xscreen.wait_for_pixels(picture)
    daemon.clear()
    xscreen.wait_for_window("session-1 - waiting for the guest")
    wait_until(lambda: shows(xscreen.grab()[:200, :300], waiting_panel("")), "waiting text after a clear")
    assert viewer.process.poll() is None


def shows(screen: Pixels, panel: Pixels) -> bool:
    """Whether bright text pixels of a centred panel are where they belong."""
    y, x = (12 + round((have - need - 24) * 0.5) for have, need in zip(screen.shape, panel.shape[:2], strict=False))
    part = screen[y : y + panel.shape[0], x : x + panel.shape[1]]
    bright = panel[..., 3] > 250
    return part.shape[:2] == bright.shape and bool((part[bright] > 200).all() and (part[~bright] < 252).all())


def test_keys_change_the_look_and_save(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    image = SharedImage(1, 320, 240)
    picture = noise(image)
    daemon.show(image)
    xscreen.wait_for_pixels(picture)
    xscreen.key("F1")
    wait_until(lambda: not np.array_equal(xscreen.grab()[:240, :320], picture[..., :3]), "help")
    xscreen.key("ctrl+alt+h")
    xscreen.wait_for_pixels(picture)
    xscreen.key("F11")
    wait_until(lambda: bool(xscreen.grab()[240:, 320:].any()) or is_centred(xscreen.grab(), picture), "fullscreen")
    xscreen.key("F11")
    xscreen.wait_for_pixels(picture)
    xscreen.key("ctrl+alt+p")
    folder = daemon.path.parent
    wait_until(lambda: len(list(folder.glob("vhost-gpu-session-1-*.png"))) == 1, "saved file")
    check_saved(next(folder.glob("vhost-gpu-session-1-*.png")), picture)
    xscreen.key("Escape")
    xscreen.key("ctrl+alt+q")
    assert viewer.wait() == 0


def is_centred(screen: Pixels, picture: Pixels) -> bool:
    y, x = (SCREEN[1] - picture.shape[0]) // 2, (SCREEN[0] - picture.shape[1]) // 2
    return np.array_equal(screen[y : y + picture.shape[0], x : x + picture.shape[1]], picture[..., :3])


def check_saved(path: Path, picture: Pixels) -> None:
    with Image.open(path) as saved:
        assert np.array_equal(np.asarray(saved), picture[..., :3])


@pytest.mark.parametrize("viewer", [["--stats", "--scale", "1:1", "--filter", "nearest"]], indirect=True)
@pytest.mark.usefixtures("viewer")
def test_statistics_lie_over_the_picture(daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    image = SharedImage(1, 320, 240)
    image.pixels[:] = 255
    daemon.show(image)

    def shown() -> bool:
        dark = (xscreen.grab()[:240, :320] != 255).any(axis=2)
        return bool(dark[:150, :300].sum() > 5000 and not dark[180:].any() and not dark[:, 300:].any())

    wait_until(shown, "statistics at the upper left, the picture around them")
