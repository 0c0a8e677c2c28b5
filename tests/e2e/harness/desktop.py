"""A virtual X display, and viewer windows on it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import ImageGrab

from .daemon import REPO, environment
from .picture import Picture
from .waiting import wait_until


class _ClientMessage(ctypes.Structure):
    """XClientMessageEvent of Xlib.h, padded to the size of an XEvent."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("pad", ctypes.c_long * 24),
    )


def _send_delete(display_name: str, window: int) -> None:
    """Sends WM_PROTOCOLS with WM_DELETE_WINDOW, which no version of xdotool in Debian 12 does."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(display_name.encode()))
    protocols, delete = (x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    client_message = 33  # X.h
    event = _ClientMessage(type=client_message, window=window, message_type=protocols, format=32, data=(delete,))
    x11.XSendEvent(display, ctypes.c_ulong(window), 0, 0, ctypes.byref(event))
    x11.XCloseDisplay(display)


class Desktop:
    """An Xvfb of the given size."""

    def __init__(self, width: int = 1600, height: int = 1200) -> None:
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp", "-noreset"],
            pass_fds=[writer],
            stderr=subprocess.DEVNULL,
        )
        os.close(writer)
        with os.fdopen(reader) as answer:
            self.display = f":{answer.readline().strip()}"

    def environment(self) -> dict[str, str]:
        return {**environment(), "DISPLAY": self.display, "LIBGL_ALWAYS_SOFTWARE": "1"}

    def picture(self) -> Picture:
        """The whole screen."""
        return np.asarray(ImageGrab.grab(xdisplay=self.display).convert("RGB"), dtype=np.uint8)

    def window(self, name: str, timeout: float = 30) -> tuple[int, int, int, int]:
        """x, y, width, height of the visible window whose title holds name."""
        done = subprocess.run(
            ["xdotool", "search", "--sync", "--onlyvisible", "--name", name, "getwindowgeometry", "--shell"],
            env=self.environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=timeout,
        )
        values = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        return int(values["X"]), int(values["Y"]), int(values["WIDTH"]), int(values["HEIGHT"])

    def close_window(self, name: str) -> None:
        """Asks the window whose title holds name to close, as a window manager's close button does (ICCCM 4.2.8.1)."""
        found = subprocess.run(
            ["xdotool", "search", "--onlyvisible", "--name", name],
            env=self.environment(),
            stdout=subprocess.PIPE,
            check=True,
        )
        _send_delete(self.display, int(found.stdout.split()[0]))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()

    def __enter__(self) -> Desktop:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ViewerWindow:
    """A vhost-gpu-viewer on a desktop."""

    def __init__(self, desktop: Desktop, socket: Path, *options: str) -> None:
        self._desktop = desktop
        command = [sys.executable, "-m", "frontend.cli", str(socket), *options]
        self.process = subprocess.Popen(command, env=desktop.environment(), cwd=REPO, stdin=subprocess.DEVNULL)

    def picture(self) -> Picture:
        """What is inside the window now."""
        x, y, width, height = self._desktop.window("vhost-gpu")
        return self._desktop.picture()[y : y + height, x : x + width]

    def wait_picture(self, expected: Picture, timeout: float = 60) -> None:
        """Returns when the window shows exactly this, at 1:1 and unscaled, anywhere on it."""
        height, width, _ = expected.shape

        def shown() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the viewer ended with status {self.process.returncode}")
            picture = self._desktop.picture()
            rows, columns = np.nonzero(np.all(picture == expected[0, 0], axis=2))
            return any(
                np.array_equal(picture[y : y + height, x : x + width], expected)
                for y, x in zip(rows[:64].tolist(), columns[:64].tolist(), strict=True)
            )

        wait_until(shown, timeout, "the picture in the viewer's window")

    def close(self) -> int:
        """Ends it; returns its exit status."""
        self.process.terminate()
        return self.process.wait(20)

    def __enter__(self) -> ViewerWindow:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
