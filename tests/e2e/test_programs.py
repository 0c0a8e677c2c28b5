"""Programs people run: DirectFB, X11 with glxgears, kmscube and glmark2 on the guest's software renderer.

A picture that stands still is compared pixel by pixel with the in-process device's. A moving one is held still
(SIGSTOP) and must then be the same on QEMU's display and in the viewer protocol; against the in-process device its
size, its ground and how much it covers are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from .harness.kms import pattern
from .harness.pair import Pair
from .harness.picture import Picture, difference
from .harness.waiting import wait_until
from .harness.watcher import Watcher

GUEST = {"kernel": "drm.edid_firmware=edid/1024x768.bin"}
DIRECTFB = "--dfb:system=fbdev,no-vt,no-cursor,no-sighandler,no-banner"


def ground(picture: Picture) -> tuple[int, ...]:
    """The colour that most pixels have."""
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    return tuple(colours[counts.argmax()].tolist())


def covered(picture: Picture) -> float:
    """Share of the pixels that are not of the ground's colour."""
    return float(np.any(picture != np.array(ground(picture), np.uint8), axis=2).mean())


def wait_moving(pair: Pair, least: float) -> list[Picture]:
    """Returns a picture of each guest once a share of its pixels, at least least, is no ground, and it moves."""
    found = []
    for guest in pair:
        seen: list[Picture] = []

        def moving(guest=guest, seen=seen) -> bool:  # type: ignore[no-untyped-def]
            seen.append(guest.screendump())
            drawn = [picture for picture in seen[-5:] if covered(picture) > least and picture.shape == seen[-1].shape]
            return len(drawn) > 1 and any(difference(drawn[-1], picture) for picture in drawn[:-1])

        wait_until(moving, 60, "a moving picture", 0.3)
        found.append(seen[-1])
    return found


def check_moving_program(pair: Pair, name: str, least: float, ground_tolerance: int = 0) -> None:
    """The program that runs in both guests shows ours what it shows the reference."""
    reference, ours = wait_moving(pair, least)
    assert ours.shape == reference.shape
    assert np.abs(np.subtract(ground(ours), ground(reference))).max() <= ground_tolerance
    assert 1 / 2 < covered(ours) / covered(reference) < 2
    pair.ours.run(f"kill -STOP $(cat /run/bg/{name}.pid)")
    try:
        wait_until(
            lambda: not difference(pair.ours.screendump(), pair.daemon.screenshot()),
            20,
            "the same picture on both displays",
        )
    finally:
        pair.ours.run(f"kill -CONT $(cat /run/bg/{name}.pid)")


def test_directfb_on_fbdev(pair: Pair) -> None:
    """Debian's DirectFB 1.7.7 has no drmkms module; its fbdev one draws on the driver's fbdev emulation."""
    pair.run("kms pnm 1024 768 9 >/tmp/picture.ppm")
    with pair.program("dfbshow", f"dfbshow {DIRECTFB} /tmp/picture.ppm"):
        shown = pair.wait_same(lambda picture: not difference(picture, pattern(1024, 768, 9)))
        assert not difference(pair.daemon.screenshot(), shown)


def test_kmscube(pair: Pair) -> None:
    with pair.program("kmscube", "kmscube"):
        check_moving_program(pair, "kmscube", 0.05)


def test_kmscube_with_atomic_modesetting_shows_nothing_on_either(pair: Pair) -> None:
    """It needs native fences, which the software renderer lacks: it ends at once, with the same words."""
    said = pair.run("mkfifo /tmp/silence; timeout 20 kmscube --atomic <>/tmp/silence 2>&1 | tail -n 1")
    assert said[0] == said[1] != ""


@pytest.mark.parametrize("program", ["glmark2-drm", "glmark2-es2-drm"])
def test_glmark2(pair: Pair, program: str) -> None:
    """With alpha=0: the primary plane has no visual with alpha."""
    with pair.program("glmark2", f"{program} --visual-config alpha=0 -b build:duration=120:use-vbo=true"):
        check_moving_program(pair, "glmark2", 0.02)


@pytest.fixture(scope="module")
def x11(pair: Pair) -> Iterator[Pair]:
    """X with its modesetting driver in both guests, a plain root window and DISPLAY=:0."""
    with pair.program("xorg", "Xorg :0 -nolisten tcp -noreset -logfile /tmp/xorg.log"):
        for guest in pair:
            wait_until(partial(guest.run, "DISPLAY=:0 xset q >/dev/null 2>&1 && echo up || true"), 60, "X")
            assert "modeset(0)" in guest.run("cat /tmp/xorg.log")
            guest.run("export DISPLAY=:0; xset s off -dpms; xsetroot -solid '#336699'")
        yield pair


def test_an_x11_desktop(x11: Pair) -> None:
    text = "cal 1 2020; sleep 1000"
    with x11.program("xterm", f"env DISPLAY=:0 xterm -geometry 40x10+500+100 +sb -e sh -c '{text}'"):
        shown = x11.wait_same(lambda picture: covered(picture) > 0.02)
        assert ground(shown) == (0x33, 0x66, 0x99)
        assert not difference(x11.daemon.screenshot(), shown)


def test_glxgears(x11: Pair) -> None:
    with x11.program("gears", "env DISPLAY=:0 glxgears -geometry 300x300+100+100"):
        check_moving_program(x11, "gears", 0.02)


@pytest.mark.parametrize("shape", ["gumby", "watch", "xterm", "X_cursor"])
def test_cursor_shapes_of_x11(x11: Pair, shape: str) -> None:
    guest = x11.ours
    guest.run(f"export DISPLAY=:0; xsetroot -cursor_name {shape}; xdotool mousemove 300 200 mousemove 310 220")
    head, *words = guest.run("DISPLAY=:0 xcursor").split("\n", 1)
    width, height, hot_x, hot_y, *at = map(int, head.split())
    pixels = np.array([int(word, 16) for word in words[0].split()], dtype="<u4").view(np.uint8)
    expected = np.zeros((64, 64, 4), np.uint8)
    expected[:height, :width] = pixels.reshape(height, width, 4)[:, :, [2, 1, 0, 3]]
    assert at == [310, 220]
    with Watcher(x11.daemon.display) as watcher:

        def shown(watcher: Watcher) -> bool:
            cursor = watcher.screen().cursor
            return cursor is not None and np.array_equal(cursor.pixels, expected)

        watcher.wait(shown, f"the {shape} cursor")
        watcher.wait(lambda w: w.screen().cursor_at == (310 - hot_x, 220 - hot_y), "the cursor's place")
