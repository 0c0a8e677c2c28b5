"""Windows' titles."""

from __future__ import annotations

from frontend.titles import window_title


def test_titles() -> None:
    assert window_title("session-1", 0, (1280, 800)) == "vhost-gpu: session-1 - 1280x800"
    assert window_title("session-1", 1, (1280, 800)) == "vhost-gpu: session-1 - 1280x800 - screen 2"
    assert window_title("session-1", 0, None) == "vhost-gpu: session-1 - waiting for the guest"
    assert window_title("", 0, None) == "vhost-gpu - waiting for the guest"
    assert window_title("a\x1b\x00b", 0, None) == "vhost-gpu: ab - waiting for the guest"
