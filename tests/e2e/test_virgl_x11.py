"""X11 with glamor on the device's renderer: what it draws is what X draws without a renderer; glxgears, the cursor."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from .harness.moving import covered, ground
from .harness.picture import Picture, difference
from .harness.served import Served
from .harness.waiting import wait_until
from .harness.x11 import ROOT, check_cursor_shape, x11

UNACCELERATED = 'Section "Device"\nIdentifier "0"\nDriver "modesetting"\nOption "AccelMethod" "none"\nEndSection\n'
XTERM = "env DISPLAY=:0 xterm -geometry 60x16+40+30 +sb -e sh -c 'cal 2020; sleep 1000'"


def desktop_picture(virgl: Served) -> Picture:
    """An xterm with text that was moved once, on X's root window; both displays show it.

    Drawn anew after the move: glamor shows a moved window in part until then, on QEMU's device too.
    """
    with virgl.guest.program("xterm", XTERM):
        find = "DISPLAY=:0 xdotool search --onlyvisible --class xterm || true"
        wait_until(lambda: virgl.guest.run(find), 30, "xterm's window")
        wait_until(lambda: covered(virgl.guest.screendump()) > 0.05, 30, "xterm's picture")
        virgl.guest.run("DISPLAY=:0 xdotool search --onlyvisible --class xterm windowmove 400 300; DISPLAY=:0 xrefresh")
        seen: list[Picture] = []

        def still() -> bool:
            seen.append(virgl.guest.screendump())
            moved = not np.any(np.any(seen[-1][:250] != ROOT, axis=2)) and covered(seen[-1]) > 0.05
            return moved and len(seen) > 3 and not any(difference(seen[-1], earlier) for earlier in seen[-4:-1])

        wait_until(still, 30, "a desktop that stands still", 0.3)
        picture = seen[-1]
        assert not difference(virgl.daemon.screenshot(), picture)
        return picture


def test_glamor_draws_what_x_draws_without_it(virgl: Served) -> None:
    virgl.guest.run(f"cat >/tmp/plain.conf <<'END'\n{UNACCELERATED}END\n")
    pictures = []
    for options, accelerated in (("", True), ("-config /tmp/plain.conf", False)):
        with x11(virgl.guest, options):
            log = virgl.guest.run("cat /tmp/xorg.log")
            assert ("glamor X acceleration enabled on virgl" in log) == accelerated
            pictures.append(desktop_picture(virgl))
    assert ground(pictures[0]) == ROOT
    assert covered(pictures[0]) > 0.05
    assert not difference(*pictures)


@pytest.fixture(scope="module")
def desktop3d(virgl: Served) -> Iterator[Served]:
    with x11(virgl.guest):
        yield virgl


def test_glxinfo_says_virgl(desktop3d: Served) -> None:
    said = desktop3d.guest.run("DISPLAY=:0 glxinfo -B")
    assert re.search(r"OpenGL renderer string: virgl", said)
    assert "direct rendering: Yes" in said
    assert "Accelerated: yes" in said


def centre(mask: np.ndarray) -> tuple[float, float]:  # type: ignore[type-arg]
    """Mean x and y of what a mask names."""
    y, x = np.nonzero(mask)
    return float(x.mean()), float(y.mean())


def check_gears(picture: Picture) -> None:
    """The big red gear is lower left, the small green one right of it, the blue one above (glxgears.c)."""
    red, green, blue = (picture[:, :, channel].astype(np.int16) for channel in range(3))
    window = np.s_[100:400, 100:400]
    (red_x, red_y), (green_x, green_y), (blue_x, blue_y) = (
        centre(mask[window]) for mask in (red > green + blue + 40, green > red + blue + 40, blue > red + green + 40)
    )
    assert 50 < blue_y < red_y - 50
    assert red_x + 50 < green_x < 250
    assert abs(blue_x - red_x) < 40
    assert abs(green_y - red_y) < 60
    outside = picture.copy()
    outside[window] = ROOT
    assert np.all(outside == ROOT)


def test_glxgears(desktop3d: Served) -> None:
    with desktop3d.guest.program("gears", "env DISPLAY=:0 glxgears -geometry 300x300+100+100"):
        check_gears(desktop3d.check_moves("gears", 0.02))
        desktop3d.guest.qmp.command("stop")
        desktop3d.guest.qmp.command("cont")
        check_gears(desktop3d.check_moves("gears", 0.02))


@pytest.mark.parametrize("shape", ["gumby", "X_cursor"])
def test_cursor_shapes(desktop3d: Served, shape: str) -> None:
    check_cursor_shape(desktop3d.guest, desktop3d.daemon, shape)


def test_nothing_went_wrong_on_the_way(virgl: Served) -> None:
    """Last of this module."""
    virgl.check_no_error()
