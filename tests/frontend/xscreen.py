"""Looks at an X server's screen and presses its keys, for tests of windows. Nothing sleeps a fixed time."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ImageGrab

from frontend.pixels import Pixels

SCREEN = (640, 480)
DEADLINE = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Looks again and again until the condition holds; fails at the deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.02)


@contextmanager
def x_server() -> Iterator[XScreen]:
    """An X server of its own, without a screen to look at."""
    reader, writer = os.pipe()
    size = f"{SCREEN[0]}x{SCREEN[1]}x24"
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", size, "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    with open(reader) as numbers:
        number = numbers.readline().strip()
    yield XScreen(f":{number}")
    server.terminate()
    server.wait()


class XScreen:
    """One X server."""

    def __init__(self, display: str) -> None:
        self.environment = {"DISPLAY": display, "LIBGL_ALWAYS_SOFTWARE": "1"}

    def run(self, *command: str) -> bytes:
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, check=True, capture_output=True, timeout=DEADLINE).stdout

    def grab(self) -> Pixels:
        """R G B of the screen, (height, width, 3)."""
        return np.asarray(ImageGrab.grab(xdisplay=self.environment["DISPLAY"]))

    def windows(self, title: str) -> list[str]:
        """Numbers of the visible windows whose title contains this."""
        command = ["xdotool", "search", "--onlyvisible", "--name", title]
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE).stdout.split()

    def wait_for_window(self, title: str) -> str:
        wait_until(lambda: len(self.windows(title)) == 1, f"one window {title!r}")
        return self.windows(title)[0]

    def wait_for_pixels(self, expected: Pixels, x: int = 0, y: int = 0) -> None:
        """Waits until this part of the screen is exactly as expected (its first three channels)."""
        height, width = expected.shape[:2]
        wanted = expected[..., :3]
        seen: list[Pixels] = []

        def same() -> bool:
            seen[:] = [self.grab()[y : y + height, x : x + width]]
            return np.array_equal(seen[0], wanted)

        try:
            wait_until(same, "the expected pixels")
        except AssertionError:
            np.testing.assert_array_equal(seen[0], wanted)
            raise

    def key(self, name: str) -> None:
        """Presses a key over the window at the upper left."""
        self.run("xdotool", "mousemove", "5", "5", "key", name)


@dataclass
class ViewerProcess:
    """A running viewer."""

    process: subprocess.Popen[str]
    screen: XScreen

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def told_until(self, what: str) -> list[list[Any]]:
        """What a recorded viewer does, [what, rectangles], up to the next of this."""
        told: list[list[Any]] = []
        assert self.process.stdout is not None
        while not told or told[-1][0] != what:
            line = self.process.stdout.readline()
            assert line, f"the viewer ended after {told}"
            told.append(json.loads(line))
        return told
