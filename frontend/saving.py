"""Screenshots as PNG files."""

from __future__ import annotations

import re
import time
from pathlib import Path

from PIL import Image

from frontend.pixels import Pixels


def save_png(pixels: Pixels, path: Path) -> None:
    """Writes R G B A pixels as an opaque PNG, whole or not at all. OSError: it can't be written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        Image.fromarray(pixels).convert("RGB").save(partial, "PNG")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_screenshot(pixels: Pixels, session: str, index: int, folder: Path | None = None) -> Path:
    """Writes a screenshot to a new file, by default in ~/Pictures, or where that is missing in the current folder."""
    if folder is None:
        pictures = Path.home() / "Pictures"
        folder = pictures if pictures.is_dir() else Path.cwd()
    path = _free_path(folder, session, index)
    save_png(pixels, path)
    return path


def _free_path(folder: Path, session: str, index: int) -> Path:
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", session).strip("-") or "session"
    screen = f"-screen{index + 1}" if index else ""
    stem = f"vhost-gpu-{name}{screen}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.png"
    return path
