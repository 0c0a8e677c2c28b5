"""Names of windows."""

from __future__ import annotations

from frontend.geometry import Size


def window_title(session: str, index: int, mode: Size | None) -> str:
    """A window's title. session: its name or empty; index: the scanout; mode: None when nothing is scanned out."""
    name = "".join(letter for letter in session if letter.isprintable())
    parts = [f"vhost-gpu: {name}" if name else "vhost-gpu"]
    parts.append("waiting for the guest" if mode is None else f"{mode[0]}x{mode[1]}")
    if index:
        parts.append(f"screen {index + 1}")
    return " - ".join(parts)
