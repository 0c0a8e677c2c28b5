"""The viewer: a client, one window per scanout, and pyglet's event loop, which sleeps until one of them has news."""

from __future__ import annotations

from typing import Any

import pyglet
from pyglet.app.xlib import XlibSelectDevice

from frontend.client import Client
from frontend.options import Options
from frontend.window import ScreenWindow


class Connection(XlibSelectDevice):
    """The client's socket as pyglet's event loop watches it, beside the X server's."""

    def __init__(self, viewer: Viewer, fd: int) -> None:
        self._viewer, self._fd = viewer, fd

    def fileno(self) -> int:
        return self._fd

    def select(self) -> None:
        self._viewer.receive()


class Viewer:
    """Shows a session until its last window is closed."""

    def __init__(self, client: Client, options: Options) -> None:
        """Makes the first window. ConfigError: that is not possible, or the client's path can't be right."""
        self._client, self._options = client, options
        self._windows: dict[int, ScreenWindow] = {}
        self._closed: set[int] = set()
        self._device: Connection | None = None
        self._reason = ""
        self._open(options.scanout or 0)

    def run(self) -> None:
        """Returns when the last window is closed."""
        self._connect()
        try:
            pyglet.app.run(interval=None)
        finally:
            self._watch(False)
            self._client.close()

    def receive(self) -> None:
        """Reads the client's socket, and draws what changed."""
        if not self._client.receive():
            self._watch(False)
            self._retry_later()
        self._show_news()

    def _connect(self, dt: float = 0) -> None:  # noqa: ARG002
        if self._client.connect():
            self._watch(True)
        else:
            self._retry_later()
        self._show_reason()

    def _retry_later(self) -> None:
        pyglet.clock.schedule_once(self._connect, self._client.retry_in)

    def _watch(self, on: bool) -> None:
        loop: Any = pyglet.app.platform_event_loop  # pyglet declares the base class, X11's has select_devices
        devices = loop.select_devices
        devices.discard(self._device)
        self._device = Connection(self, self._client.fileno()) if on else None
        if self._device is not None:
            devices.add(self._device)

    def _show_news(self) -> None:
        screens = self._client.screens
        changed, screens.changed = screens.changed, set()
        if not screens.screens:
            self._show_reason()
        else:
            self._reason = ""
        for screen in screens.screens:
            if screen.index in changed:
                self._show(screen.index, screen.enabled)

    def _show(self, index: int, enabled: bool) -> None:
        if index not in self._windows and enabled and self._wanted(index):
            self._open(index)
        if index in self._windows:
            self._windows[index].news()
        else:
            self._client.screens.drop(index)

    def _wanted(self, index: int) -> bool:
        return index not in self._closed and self._options.scanout in (None, index)

    def _show_reason(self) -> None:
        """Tells windows without a session why, when that changed."""
        if self._reason == self._client.reason:
            return
        self._reason = self._client.reason
        for window in list(self._windows.values()):
            window.news()

    def _open(self, index: int) -> None:
        self._windows[index] = ScreenWindow(self._client, index, self._options, self._on_closed)

    def _on_closed(self, index: int) -> None:
        self._closed.add(index)
        del self._windows[index]
