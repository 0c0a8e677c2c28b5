"""Without a display the commands end with a message, before any window library is loaded."""

from __future__ import annotations

import pytest

from frontend.display import open_display
from protocol.errors import ConfigError


def test_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ConfigError, match=r"\$DISPLAY is not set; vhost-gpu-screenshot needs no display"):
        open_display()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    with pytest.raises(ConfigError, match="Xwayland is needed"):
        open_display()
