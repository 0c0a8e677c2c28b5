"""Programs people run: DirectFB, X11 with glxgears, kmscube and glmark2 on the guest's software renderer.

A picture that stands still is compared pixel by pixel with the in-process device's. A moving one is held still
(SIGSTOP) and must then be the same on QEMU's display and in the viewer protocol; against the in-process device its
size, its ground and how much it covers are compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from .harness.kms import pattern
from .harness.moving import covered, ground, held_still, wait_moving, wait_same_on_both
from .harness.pair import Pair
from .harness.picture import difference
from .harness.x11 import ROOT, check_cursor_shape, x11

GUEST = {"kernel": "drm.edid_firmware=edid/1024x768.bin"}
DIRECTFB = "--dfb:system=fbdev,no-vt,no-cursor,no-sighandler,no-banner"


def check_moving_program(pair: Pair, name: str, least: float, ground_tolerance: int = 0) -> None:
    """The program that runs in both guests shows ours what it shows the reference."""
    reference, ours = (wait_moving(guest, least) for guest in pair)
    assert ours.shape == reference.shape
    assert np.abs(np.subtract(ground(ours), ground(reference))).max() <= ground_tolerance
    assert 1 / 2 < covered(ours) / covered(reference) < 2
    with held_still(pair.ours, name):
        wait_same_on_both(pair.ours, pair.daemon)


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
def desktops(pair: Pair) -> Iterator[Pair]:
    """X in both guests."""
    with x11(pair.reference), x11(pair.ours):
        yield pair


def test_an_x11_desktop(desktops: Pair) -> None:
    text = "cal 1 2020; sleep 1000"
    with desktops.program("xterm", f"env DISPLAY=:0 xterm -geometry 40x10+500+100 +sb -e sh -c '{text}'"):
        shown = desktops.wait_same(lambda picture: covered(picture) > 0.02)
        assert ground(shown) == ROOT
        assert not difference(desktops.daemon.screenshot(), shown)


def test_glxgears(desktops: Pair) -> None:
    with desktops.program("gears", "env DISPLAY=:0 glxgears -geometry 300x300+100+100"):
        check_moving_program(desktops, "gears", 0.02)


@pytest.mark.parametrize("shape", ["gumby", "watch", "xterm", "X_cursor"])
def test_cursor_shapes_of_x11(desktops: Pair, shape: str) -> None:
    check_cursor_shape(desktops.ours, desktops.daemon, shape)
