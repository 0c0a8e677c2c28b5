"""Loads pyglet and makes sure that there is a display, so that everything after it may rely on both."""

from __future__ import annotations

import importlib
import os

from protocol.errors import ConfigError

_HINT = "vhost-gpu-screenshot needs no display"


def open_display() -> None:
    """Call before importing anything that imports pyglet. ConfigError: no display, no OpenGL, or no pyglet."""
    if not os.environ.get("DISPLAY"):
        wayland = " (Wayland alone is not enough: Xwayland is needed)" if os.environ.get("WAYLAND_DISPLAY") else ""
        raise ConfigError(f"there is no display: $DISPLAY is not set{wayland}; {_HINT}")
    try:
        pyglet = importlib.import_module("pyglet")
        pyglet.options["debug_gl"] = False  # a glGetError after every call costs more than the calls
        pyglet.options["shadow_window"] = False  # windows share nothing, so nothing has to outlive them
        importlib.import_module("pyglet.window")
        importlib.import_module("pyglet.display").get_display()
    except ImportError as error:
        raise ConfigError(f"the window library can't be loaded: {error}") from error
    except Exception as error:  # pyglet's exceptions live in modules that may be what failed
        raise ConfigError(f"the display {os.environ['DISPLAY']} can't be opened ({error}); {_HINT}") from error
