"""The real viewer's textures: each order of bytes drawn scaled, and read back for a screenshot."""

from __future__ import annotations

import numpy as np
import pytest

from protocol.virtio_gpu import Format
from tests.frontend.fakedaemon import FakeDaemon, SharedImage
from tests.frontend.test_renderer import noise
from tests.frontend.test_window import check_saved
from tests.frontend.xscreen import SCREEN, ViewerProcess, XScreen, wait_until


@pytest.mark.parametrize("viewer", [["--fullscreen", "--filter", "nearest"]], indirect=True)
def test_all_formats_scaled_and_saved(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    folder = daemon.path.parent
    for number, fmt in enumerate(Format):
        image = SharedImage(number, SCREEN[0] // 4, SCREEN[1] // 4, fmt, pad=number)
        expected = noise(image, number)
        daemon.show(image)
        xscreen.wait_for_pixels(expected.repeat(4, 0).repeat(4, 1)[:400])  # a message lies below
        xscreen.key("F12")
        wait_until(lambda: len(list(folder.glob("*.png"))) == 1, "saved file")
        saved = next(folder.glob("*.png"))
        check_saved(saved, expected)
        saved.unlink()
    assert viewer.process.poll() is None


@pytest.mark.parametrize("viewer", [["--fullscreen", "--filter", "linear"]], indirect=True)
@pytest.mark.usefixtures("viewer")
def test_parts_of_a_scaled_picture_look_like_the_whole_painted_at_once(daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    first, second = SharedImage(1, 433, 307), SharedImage(2, 433, 307)
    noise(first)
    daemon.show(first)
    damage = [(7, 9, 31, 20), (200, 150, 1, 1), (400, 300, 33, 7)]
    noise(second, 2)
    for x, y, width, height in damage:
        part = np.s_[y : y + height, x : x + width]
        first.pixels[part] = second.pixels[part]
    daemon.expect_done(daemon.frame(first, damage))
    daemon.expect_done(daemon.frame(first, damage[:1]))  # taken when the one before is on the screen
    in_parts = xscreen.grab()[:400].astype(int)  # a message will lie below
    xscreen.key("ctrl+alt+n")
    wait_until(lambda: np.abs(xscreen.grab()[:400] - in_parts).max() > 50, "nearest")
    xscreen.key("ctrl+alt+n")
    # Mesa's quick path counts in steps from a part's edge, in fixed point: noise shows that.
    wait_until(lambda: np.abs(xscreen.grab()[:400] - in_parts).max() <= 4, "the same picture painted whole")
