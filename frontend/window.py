"""One scanout's window. It draws when its owner says that there is news, and after its own events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyglet
from pyglet.window import key

from frontend import overlay
from frontend.client import Client
from frontend.geometry import Box, Scale, Size, place, place_on, place_panel, window_size
from frontend.keys import Action, action_for
from frontend.look import Layer, Look, changed_parts, cover
from frontend.options import FIRST_SIZE, Options
from frontend.pixels import Pixels
from frontend.presenter import Presenter
from frontend.renderer import Renderer
from frontend.saving import save_screenshot
from frontend.screens import Screen
from frontend.statistics import Statistics
from frontend.titles import window_title
from protocol.errors import ConfigError
from protocol.virtio_gpu import Rect

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
        self._scale, self._linear, self._whole_frames = options.scale, options.linear, options.whole_frames
        self._help, self._show_statistics, self._message = False, False, ""
        self._statistics = Statistics()
        self._statistics_rows: tuple[str, ...] = ()
        self._refreshing = False
        self._contents: dict[str, tuple[object, int]] = {}
        self._look: Look | None = None
        self._damage: list[Rect] = []
        screen = pyglet.display.get_display().get_default_screen()
        self._own_size = window_size(FIRST_SIZE, (screen.width, screen.height))
        self._mode: Size | None = None
        self._window = _make_window(self._own_size, options.fullscreen)
        self._title = window_title("", index, None)
        self._window.set_caption(self._title)
        self._renderer = Renderer(has_alpha=bool(self._window.config.alpha_size))
        self._renderer.set_linear(self._linear)
        self._presenter = Presenter(self._window)
        self._window.push_handlers(
            on_expose=self._redraw, on_resize=self._on_resize, on_key_press=self._on_key, on_close=self.close
        )
        if options.statistics:
            self._toggle_statistics()

    def news(self) -> None:
        """The scanout, or the connection, has changed."""
        screen = self._screen()
        mode = screen.size if screen is not None and screen.enabled else None
        if mode is None:
            self._renderer.forget()
        if mode != self._mode:
            self._mode = mode
            self._follow_mode()
        title = window_title(self._client.screens.session, self.index, mode)
        if title != self._title:
            self._title = title
            self._window.set_caption(title)
        self.draw()

    def draw(self) -> None:
        """Takes the newest frame, if there is one, and paints what differs from what the window shows."""
        self._activate()
        self._take()
        look = self._make_look()
        parts = changed_parts(self._look, look, self._renderer.size or (0, 0), self._damage)
        self._damage = []
        if not parts:
            return
        if not self._presenter.keeps:
            parts = [look.whole()]
        self._look = look
        self._renderer.paint(look, parts)
        self._presenter.show(parts)

    def _redraw(self) -> None:
        """Paints everything anew: the window's content, or the back buffer, is gone."""
        self._activate()
        self._take()
        look = self._make_look()
        self._renderer.paint(look, [look.whole()])
        self._presenter.swap()
        self._look, self._damage = None, []

    def _activate(self) -> None:
        if pyglet.gl.current_context is not self._window.context:  # asking OpenGL for what is so costs a flush
            self._window.switch_to()

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

    def _take(self) -> None:
        """Uploads the newest frame's damage, if there is a new frame."""
        picture = self._client.screens.take(self.index)
        if picture is None:
            return
        if self._whole_frames:
            picture = replace(picture, damage=(Rect(0, 0, *picture.size),))
        try:
            self._renderer.upload(picture)
        except MemoryError as error:
            self._renderer.forget()
            self._say(f"can't show {picture.size[0]}x{picture.size[1]}: {error}")
            self._client.screens.drop(self.index)
            return
        self._statistics.add(picture.flush_ns, time.monotonic_ns())
        self._client.screens.give_back(self.index, picture)
        self._damage += picture.damage
        self._refresh_soon()

    def _make_look(self) -> Look:
        screen, size = self._screen(), self._renderer.size
        window = self._window.get_framebuffer_size()
        layers: list[Layer | None] = []
        box: Box | None = None
        if screen is not None and size is not None:
            box = place(size, window, self._scale)
            layers.append(self._cursor(screen, size, box))
        else:
            layers.append(self._panel("waiting", overlay.waiting_panel, self._client.reason, (0.5, 0.5)))
        layers += self._overlays()
        return Look(window, box, self._linear, tuple(layer for layer in layers if layer is not None))

    def _cursor(self, screen: Screen, size: Size, box: Box) -> Layer | None:
        at = screen.cursor_rect()
        if screen.cursor is None or at is None:
            return None
        cursor = screen.cursor
        version = self._version("cursor", cursor, lambda: cursor.pixels)
        return Layer("cursor", version, place_on(at, size, box), cover(box))

    def _overlays(self) -> list[Layer]:
        layers = []
        if self._show_statistics:
            layers.append(self._panel("statistics", overlay.statistics_panel, self._statistics_rows, (0, 0)))
        if self._help:
            layers.append(self._panel("help", lambda _: overlay.help_panel(), "", (0.5, 0.5)))
        if self._message:
            layers.append(self._panel("message", overlay.message_panel, self._message, (0.5, 1)))
        return layers

    def _panel(self, name: str, make: Callable[[Any], Pixels], content: object, at: tuple[float, float]) -> Layer:
        """A text panel. at: across and down, from 0 (left, top) to 1 (right, bottom)."""
        version = self._version(name, content, lambda: make(content))
        window = self._window.get_framebuffer_size()
        box = place_panel(self._renderer.layer_size(name), window, at)
        return Layer(name, version, box, Rect(0, 0, *window))

    def _version(self, name: str, content: object, make: Callable[[], Pixels]) -> int:
        """A number that changes with a layer's content; its texture is made anew when it does."""
        known, version = self._contents.get(name, ("", 0))
        if not version or known != content:
            version += 1
            self._contents[name] = (content, version)
            self._renderer.set_layer(name, make())
        return version

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
        self._redraw()

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
            self._activate()
            self._renderer.set_linear(self._linear)
            self._say("scaling linear" if self._linear else "scaling to the nearest pixel")
        else:
            self._scale = Scale.FIT if action is Action.FIT else Scale.ONE_TO_ONE
            self._say("picture fits the window" if self._scale is Scale.FIT else "one guest pixel = one screen pixel")

    def _toggle_fullscreen(self) -> None:
        self._window.set_fullscreen(not self._window.fullscreen)
        self._look = None
        self._follow_mode()

    def _toggle_statistics(self) -> None:
        self._show_statistics = not self._show_statistics
        self._statistics_rows = self._statistics_lines()
        self._refresh_soon()

    def _refresh_soon(self) -> None:
        """Brings the overlay up to date within a moment: not with every frame, and never while nothing changes."""
        if self._show_statistics and not self._refreshing:
            self._refreshing = True
            pyglet.clock.schedule_once(self._refresh_statistics, STATISTICS_SECONDS)

    def _refresh_statistics(self, dt: float) -> None:  # noqa: ARG002
        self._refreshing = False
        self._statistics_rows = self._statistics_lines()
        if self._statistics.active(time.monotonic_ns()):
            self._refresh_soon()
        self.draw()

    def _save(self) -> None:
        if self._renderer.size is None:
            self._say("there is no picture to save")
            return
        self._activate()
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
    # Without a depth buffer software OpenGL keeps to its quick path for flat pictures.
    make_config: Any = pyglet.gl.Config  # pyglet declares what makes the right one abstract
    config = make_config(double_buffer=True, depth_size=0, alpha_size=0, major_version=3, minor_version=3)
    options = {"config": config, "resizable": True, "fullscreen": fullscreen, "vsync": True}
    try:
        return pyglet.window.Window(caption=WINDOW_CLASS, **options, **sizes)
    except Exception as error:  # pyglet has no common class for "no OpenGL 3.3" and "no such display"
        raise ConfigError(f"no OpenGL 3.3 window can be made: {error or type(error).__name__}") from error
