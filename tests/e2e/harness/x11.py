"""X in a guest: starting it, and its cursor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .daemon import Daemon
from .guest import Guest
from .waiting import wait_until
from .watcher import Watcher

ROOT = (0x33, 0x66, 0x99)
_UP = "DISPLAY=:0 xset q >/dev/null 2>&1 && echo up || true"


@contextmanager
def x11(guest: Guest, options: str = "") -> Iterator[None]:
    """X with its modesetting driver, a root window of the colour ROOT, DISPLAY=:0; its log is /tmp/xorg.log."""
    with guest.program("xorg", f"Xorg :0 -nolisten tcp -noreset -logfile /tmp/xorg.log {options}"):
        wait_until(lambda: guest.run(_UP), 60, "X")
        assert "modeset(0)" in guest.run("cat /tmp/xorg.log")
        guest.run(f"export DISPLAY=:0; xset s off -dpms; xsetroot -solid '#{bytes(ROOT).hex()}'")
        yield


def check_cursor_shape(guest: Guest, daemon: Daemon, shape: str) -> None:
    """A cursor of X's cursor font is the picture that viewers get, and it is where they are told."""
    guest.run(f"export DISPLAY=:0; xsetroot -cursor_name {shape}; xdotool mousemove 300 200 mousemove 310 220")
    head, *words = guest.run("DISPLAY=:0 xcursor").split("\n", 1)
    width, height, hot_x, hot_y, *at = map(int, head.split())
    pixels = np.array([int(word, 16) for word in words[0].split()], dtype="<u4").view(np.uint8)
    expected = np.zeros((64, 64, 4), np.uint8)
    expected[:height, :width] = pixels.reshape(height, width, 4)[:, :, [2, 1, 0, 3]]
    assert at == [310, 220]
    with Watcher(daemon.display) as watcher:

        def shown(watcher: Watcher) -> bool:
            cursor = watcher.screen().cursor
            return cursor is not None and np.array_equal(cursor.pixels, expected)

        watcher.wait(shown, f"the {shape} cursor")
        watcher.wait(lambda w: w.screen().cursor_at == (310 - hot_x, 220 - hot_y), "the cursor's place")
