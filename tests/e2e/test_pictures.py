"""What a guest draws: on QEMU's display, in the viewer protocol and in the viewer's window.

Against the in-process device, or against what the drawing program is known to draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import pytest

from .harness.desktop import Desktop, ViewerWindow
from .harness.guest import Guest
from .harness.kms import Kms, cursor_pixels, pattern
from .harness.pair import Pair
from .harness.picture import Picture, coverage, difference
from .harness.waiting import wait_until
from .harness.watcher import Watcher

GUEST = {"outputs": 2}


@pytest.fixture
def kms(pair: Pair) -> Iterator[Kms]:
    with Kms(pair.ours) as running:
        yield running


@pytest.fixture
def watcher(pair: Pair) -> Iterator[Watcher]:
    with Watcher(pair.daemon.display) as watching:
        yield watching


def modes(guest: Guest) -> list[tuple[int, int]]:
    """Sizes of the first output's modes, as the driver took them from the EDID."""
    names = dict.fromkeys(guest.run("cat /sys/class/drm/card0-Virtual-1/modes").split())
    return [(int(width), int(height)) for width, height in (name.split("x") for name in names)]


def test_the_driver_and_its_edid_are_those_of_the_in_process_device(pair: Pair) -> None:
    reference, ours = pair.run(
        "ls /sys/bus/virtio/drivers/virtio_gpu | grep -c '^virtio'; test -c /dev/dri/card0 && echo card; cat /proc/fb;"
        "cat /sys/class/drm/card0-Virtual-*/status /sys/class/drm/card0-Virtual-1/modes"
    )
    assert ours.startswith("1\ncard\n0 virtio_gpu")
    assert ours == reference
    edids = pair.run("base64 /sys/class/drm/card0-Virtual-1/edid")
    assert edids[0] == edids[1] != ""


def test_the_console_is_the_same(pair: Pair) -> None:
    pair.run(
        "echo 1 >/proc/sys/kernel/printk;"
        "printf '\\033c\\033[32mgreen\\033[0m on black\\n' >/dev/tty1; cat /proc/fb >/dev/tty1"
    )
    shown = pair.wait_same()
    assert not difference(pair.daemon.screenshot(), shown)


@pytest.mark.parametrize("mode", ["1024x768", "1280x800"])
def test_modetest_shows_the_same_everywhere(pair: Pair, desktop: Desktop, mode: str) -> None:
    with pair.program("modetest", f"modetest -M virtio_gpu -s Virtual-1:{mode}"):
        shown = pair.wait_same(lambda picture: coverage(picture) > 0.5)
        assert f"{shown.shape[1]}x{shown.shape[0]}" == mode
        assert not difference(pair.daemon.screenshot(), shown)
        with Watcher(pair.daemon.display) as watcher:
            watcher.wait_picture(shown)
        with ViewerWindow(desktop, pair.daemon.display, "--scanout", "0", "--filter", "nearest") as window:
            window.wait_picture(shown)


def test_every_mode_of_the_edid(pair: Pair, watcher: Watcher) -> None:
    sizes = modes(pair.ours)
    assert len(sizes) >= 20
    for seed, (width, height) in enumerate(sizes):
        with Kms(pair.ours) as kms:
            kms.do(f"show 0 {width} {height} {seed}")
            expected = pattern(width, height, seed)
            pair.ours.wait_picture(expected)
            watcher.wait_picture(expected)
            assert watcher.screen().size == (width, height)


def test_flips_and_damage(pair: Pair, kms: Kms, watcher: Watcher) -> None:
    kms.do("show 0 1024 768 1")
    for seed in range(2, 12):
        kms.do(f"flip 0 {seed}")
        expected = pattern(1024, 768, seed)
        pair.ours.wait_picture(expected)
    watcher.wait_picture(expected)
    for x, y, width, height, colour in [
        (10, 20, 30, 40, 0xFF8000),
        (1000, 700, 24, 68, 0x00FF00),
        (0, 0, 1, 1, 0xFFFFFF),
    ]:
        kms.do(f"paint 0 {x} {y} {width} {height} {colour}")
        expected[y : y + height, x : x + width] = [colour >> 16, colour >> 8 & 255, colour & 255]
        watcher.wait_picture(expected)
        pair.ours.wait_picture(expected)


def test_nobody_sees_half_a_frame_on_qemus_display(pair: Pair) -> None:
    """Flips as fast as they go: whenever QEMU looks at its screen, that is one of the two pictures."""
    seen: dict[bytes, Picture] = {}

    def look() -> bool:
        shown = pair.ours.screendump()
        if shown.shape == (1080, 1920, 3) and coverage(shown) > 0:
            seen[sha256(shown).digest()] = shown
        return len(seen) >= 2

    with pair.ours.program("flips", "modetest -M virtio_gpu -v -s Virtual-1:1920x1080"):
        wait_until(look, 30, "both pictures")
        for _ in range(40):
            look()
    first, *others = seen.values()
    assert len(others) == 1, [difference(first, other) for other in others]


def test_the_cursor_plane(kms: Kms, watcher: Watcher) -> None:
    kms.do("show 0 1024 768 1")
    for seed, hot in [(1, (3, 4)), (2, (0, 63))]:
        kms.do(f"cursor 0 {seed} {hot[0]} {hot[1]}")
        for x, y in [(0, 0), (100, 120), (1000, 760), (-20, -30)]:
            kms.do(f"move 0 {x} {y}")
            watcher.wait(
                lambda w, at=(x, y): w.screen().cursor_at == at and w.screen().cursor, f"the cursor at {x}, {y}"
            )
            cursor = watcher.screen().cursor
            assert cursor is not None
            assert (cursor.hot_x, cursor.hot_y) == hot
            assert np.array_equal(cursor.pixels, cursor_pixels(seed)[:, :, [2, 1, 0, 3]])
    kms.do("hide 0")
    watcher.wait(lambda w: w.screen().cursor is None, "that the cursor is gone")


def test_the_cursor_is_drawn_where_the_plane_is(pair: Pair, desktop: Desktop, kms: Kms) -> None:
    kms.do("show 0 1024 768 1")
    kms.do("cursor 0 1 3 4")
    kms.do("move 0 200 300")
    expected = pattern(1024, 768, 1)
    pixels = cursor_pixels(1)
    opaque = pixels[:, :, 3] == 255
    expected[300:364, 200:264][opaque] = pixels[opaque][:, [2, 1, 0]]
    assert not difference(pair.daemon.screenshot(0, "--cursor"), expected)
    with ViewerWindow(desktop, pair.daemon.display, "--scanout", "0", "--filter", "nearest") as window:
        window.wait_picture(expected)


@pytest.fixture
def second_output(pair: Pair) -> Iterator[None]:
    """Nothing is plugged into the second output until we say so."""
    status = "/sys/class/drm/card0-Virtual-2/status"
    pair.run(f"echo on >{status}")
    yield
    pair.run(f"echo off >{status}")


@pytest.mark.usefixtures("second_output")
def test_two_outputs(pair: Pair, kms: Kms, watcher: Watcher) -> None:
    kms.do("show 0 1024 768 3")
    kms.do("show 1 800 600 4")
    for scanout, expected in enumerate([pattern(1024, 768, 3), pattern(800, 600, 4)]):
        pair.ours.wait_picture(expected, scanout)
        assert not difference(pair.daemon.screenshot(scanout), expected)
        watcher.wait_picture(expected, scanout)
    kms.do("cursor 1 5 1 1")
    kms.do("move 1 30 40")
    watcher.wait(lambda w: w.screen(1).cursor and w.screen(1).cursor_at == (30, 40), "a cursor on the second output")
    kms.do("off 1")
    watcher.wait(lambda w: not w.screen(1).enabled and w.screen(0).enabled, "the second output alone switched off")


@pytest.mark.usefixtures("second_output")
def test_two_outputs_on_one_framebuffer(pair: Pair, kms: Kms, watcher: Watcher) -> None:
    kms.do("span 640 480 6")
    whole = pattern(1280, 480, 6)
    halves = [whole[:, :640].copy(), whole[:, 640:].copy()]
    kms.do("paint 1 5 6 70 80 0x123456")
    halves[1][6:86, 5:75] = [0x12, 0x34, 0x56]
    for scanout, expected in enumerate(halves):
        watcher.wait_picture(expected, scanout)
        pair.ours.wait_picture(expected, scanout)
