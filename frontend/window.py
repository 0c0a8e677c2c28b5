"""One scanout's window. It draws when its owner says that there is news, and after its own events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pyglet
from pyglet.window import key

from frontend import overlay
from frontend.client import Client
from frontend.geometry import Scale, Size, place, place_on, window_size
from frontend.keys import Action, action_for
from frontend.options import FIRST_SIZE, Options
from frontend.pixels import Pixels
from frontend.renderer import Renderer
from frontend.saving import save_screenshot
from frontend.screens import Screen
from frontend.statistics import Statistics
from frontend.titles import window_title
from protocol.errors import ConfigError

WINDOW_CLASS = "vhost-gpu"
"""WM_CLASS, by which desktops group windows: pyglet takes it from a window's first caption."""
MESSAGE_SECONDS = 4.0
STATISTICS_SECONDS = 0.5
"""How often the statistics are brought up to date without frames."""


class ScreenWindow:
    """A window that shows one scanout of a client's session."""

    def __init__(self, client: Client, index: int, options: Options, closed: Callable[[int], None]) -> None:
        """closed: told the index when the window is gone. ConfigError: no window can be made."""
        self._client, self.index, self._closed = client, index, closed
        self._scale, self._linear = options.scale, options.linear
        self._help, self._show_statistics, self._message = False, False, ""
        self._statistics = Statistics()
        self._cursor: object = None
        self._panels: dict[str, object] = {}
        screen = pyglet.display.get_display().get_default_screen()
        self._own_size = window_size(FIRST_SIZE, (screen.width, screen.height))
        self._mode: Size | None = None
        self._window = _make_window(self._own_size, options.fullscreen)
        self._window.set_caption(window_title("", index, None))
        self._renderer = Renderer()
        self._renderer.set_linear(self._linear)
        self._window.push_handlers(
            on_expose=self.draw, on_resize=self._on_resize, on_key_press=self._on_key, on_close=self.close
        )
        if options.statistics:
            self._toggle_statistics()

    def news(self) -> None:
        """The scanout, or the connection, has changed."""
        screen = self._screen()
        mode = screen.size if screen is not None and screen.enabled else None
        if mode is None:
            self._window.switch_to()
            self._renderer.forget()
        if mode != self._mode:
            self._mode = mode
            self._follow_mode()
        self._window.set_caption(window_title(self._client.screens.session, self.index, mode))
        self.draw()

    def draw(self) -> None:
        """Takes the newest frame, if there is one, and draws everything."""
        self._window.switch_to()
        flush_ns = self._take()
        self._paint()
        self._window.flip()
        if flush_ns is not None:
            self._statistics.add(flush_ns, time.monotonic_ns())

    def close(self) -> bool:
        """Closes the window; the scanout's frames are no longer looked at."""
        pyglet.clock.unschedule(self._refresh_statistics)
        pyglet.clock.unschedule(self._end_message)
        self._window.close()
        self._closed(self.index)
        return True

    def _screen(self) -> Screen | None:
        screens = self._client.screens.screens
        return screens[self.index] if self.index < len(screens) else None

    def _take(self) -> int | None:
        """Uploads the newest frame. Returns when it was flushed; None without a new frame."""
        picture = self._client.screens.take(self.index)
        if picture is None:
            return None
        try:
            self._renderer.upload(picture)
        except MemoryError as error:
            self._renderer.forget()
            self._say(f"can't show {picture.size[0]}x{picture.size[1]}: {error}")
            self._client.screens.drop(self.index)
            return None
        self._client.screens.give_back(self.index, picture)
        return picture.flush_ns

    def _paint(self) -> None:
        screen, size = self._screen(), self._renderer.size
        window = self._window.get_framebuffer_size()
        self._renderer.begin(window, empty=size is None)
        if screen is not None and size is not None:
            self._paint_picture(screen, size, window)
        else:
            self._panel("waiting", overlay.waiting_panel, self._client.reason)
            self._renderer.draw_panel("waiting", 0.5, 0.5)
        self._paint_overlays()

    def _paint_picture(self, screen: Screen, size: Size, window: Size) -> None:
        box = place(size, window, self._scale)
        self._renderer.draw_picture(box)
        place_of_cursor = screen.cursor_rect()
        if screen.cursor is None or place_of_cursor is None:
            return
        if screen.cursor is not self._cursor:
            self._cursor = screen.cursor
            self._renderer.set_cursor(screen.cursor.pixels)
        self._renderer.draw_cursor(place_on(place_of_cursor, size, box), box)

    def _paint_overlays(self) -> None:
        if self._show_statistics:
            self._panel("statistics", overlay.statistics_panel, self._statistics_lines())
            self._renderer.draw_panel("statistics", 0, 0)
        if self._help:
            self._panel("help", lambda _: overlay.help_panel(), "")
            self._renderer.draw_panel("help", 0.5, 0.5)
        if self._message:
            self._panel("message", overlay.message_panel, self._message)
            self._renderer.draw_panel("message", 0.5, 1)

    def _panel(self, name: str, make: Callable[[Any], Pixels], content: object) -> None:
        """Makes a panel's texture anew when its content changed."""
        if self._panels.get(name) != content:
            self._panels[name] = content
            self._renderer.set_panel(name, make(content))

    def _statistics_lines(self) -> tuple[str, ...]:
        screen = self._screen()
        skipped = screen.counters.skipped if screen is not None else 0
        return tuple(self._statistics.lines(skipped, time.monotonic_ns()))

    def _follow_mode(self) -> None:
        """Gives the window its mode's size, unless the person chose another."""
        if self._mode is None or self._window.fullscreen or self._window.get_size() != self._own_size:
            return
        screen = self._window.screen
        self._own_size = window_size(self._mode, (screen.width, screen.height))
        if self._window.get_size() != self._own_size:
            self._window.set_size(*self._own_size)

    def _on_resize(self, width: int, height: int) -> None:  # noqa: ARG002
        self.draw()

    def _on_key(self, symbol: int, modifiers: int) -> bool:
        ctrl, alt, shift = (bool(modifiers & mask) for mask in (key.MOD_CTRL, key.MOD_ALT, key.MOD_SHIFT))
        action = action_for(key.symbol_string(symbol).removeprefix("_"), ctrl, alt, shift)
        if action is not None:
            self.act(action)
        return True  # pyglet would close the window on Escape

    def act(self, action: Action) -> None:
        """Does what a key asks for."""
        if action is Action.QUIT:
            pyglet.app.exit()
        elif action is Action.FULLSCREEN:
            self._toggle_fullscreen()
        elif action is Action.SCREENSHOT:
            self._save()
        elif action is Action.STATISTICS:
            self._toggle_statistics()
        else:
            self._change_look(action)
        self.draw()

    def _change_look(self, action: Action) -> None:
        if action is Action.HELP:
            self._help = not self._help
        elif action is Action.FILTER:
            self._linear = not self._linear
            self._window.switch_to()
            self._renderer.set_linear(self._linear)
            self._say("scaling linear" if self._linear else "scaling to the nearest pixel")
        else:
            self._scale = Scale.FIT if action is Action.FIT else Scale.ONE_TO_ONE
            self._say("picture fits the window" if self._scale is Scale.FIT else "one guest pixel = one screen pixel")

    def _toggle_fullscreen(self) -> None:
        self._window.set_fullscreen(not self._window.fullscreen)
        self._follow_mode()

    def _toggle_statistics(self) -> None:
        self._show_statistics = not self._show_statistics
        pyglet.clock.unschedule(self._refresh_statistics)
        if self._show_statistics:
            pyglet.clock.schedule_interval(self._refresh_statistics, STATISTICS_SECONDS)

    def _refresh_statistics(self, dt: float) -> None:  # noqa: ARG002
        if self._panels.get("statistics") != self._statistics_lines():
            self.draw()

    def _save(self) -> None:
        if self._renderer.size is None:
            self._say("there is no picture to save")
            return
        self._window.switch_to()
        try:
            self._say(f"saved {save_screenshot(self._renderer.read(), self._client.screens.session, self.index)}")
        except OSError as error:
            self._say(f"can't save a screenshot: {error.strerror or error}")

    def _say(self, text: str) -> None:
        """Shows a message for a few seconds."""
        self._message = text
        pyglet.clock.unschedule(self._end_message)
        pyglet.clock.schedule_once(self._end_message, MESSAGE_SECONDS)

    def _end_message(self, dt: float) -> None:  # noqa: ARG002
        self._message = ""
        self.draw()


def _make_window(size: Size, fullscreen: bool) -> Any:
    sizes = {} if fullscreen else {"width": size[0], "height": size[1]}
    try:
        return pyglet.window.Window(caption=WINDOW_CLASS, resizable=True, fullscreen=fullscreen, vsync=True, **sizes)
    except Exception as error:  # pyglet has no common class for "no OpenGL 3.3" and "no such display"
        raise ConfigError(f"no OpenGL 3.3 window can be made: {error or type(error).__name__}") from error
