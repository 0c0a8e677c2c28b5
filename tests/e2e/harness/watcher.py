"""A viewer without a window: what the daemon tells viewers, for tests to look at."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from frontend.client import Client
from frontend.pixels import to_rgba
from frontend.screens import Screen

from .picture import Picture


class Watcher:
    """A connection of the viewer protocol that takes every frame at once."""

    def __init__(self, display: Path) -> None:
        self._client = Client(str(display))
        if not self._client.connect():
            raise ConnectionError(self._client.reason)
        self._pictures: dict[int, Picture] = {}

    def screen(self, scanout: int = 0) -> Screen:
        """Mode and cursor of a scanout, as last heard."""
        return self._client.screens.screens[scanout]

    def picture(self, scanout: int = 0) -> Picture | None:
        """The last frame of a scanout; None: nothing is scanned out."""
        return self._pictures.get(scanout)

    def wait(self, predicate: Callable[[Watcher], object], what: str, timeout: float = 20) -> None:
        """Reads on until predicate holds."""
        deadline = time.monotonic() + timeout
        while True:
            self._take_all()
            if self._client.screens.screens and predicate(self):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"the viewer protocol did not show {what} within {timeout} s")
            if select.select([self._client], [], [], left)[0] and not self._client.receive():
                raise ConnectionError(self._client.reason)

    def wait_picture(self, expected: Picture, scanout: int = 0, timeout: float = 20) -> None:
        """Reads on until a scanout shows exactly this."""

        def shown(_: Watcher) -> bool:
            picture = self.picture(scanout)
            return picture is not None and np.array_equal(picture, expected)

        self.wait(shown, f"the expected picture on scanout {scanout}", timeout)

    def _take_all(self) -> None:
        screens = self._client.screens
        for screen in screens.screens:
            frame = screens.take(screen.index)
            if frame is not None:
                self._pictures[screen.index] = to_rgba(frame.pixels, frame.format)[:, :, :3].copy()
                screens.give_back(screen.index, frame)
            elif not screen.enabled:
                self._pictures.pop(screen.index, None)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
