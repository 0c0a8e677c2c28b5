"""Keeps the measured part of a page of the documents: the text between two marks, which nobody types."""

from __future__ import annotations

import os
from pathlib import Path

from protocol.errors import ConfigError

BEGIN = "<!-- vhost-gpu-bench: begin -->"
END = "<!-- vhost-gpu-bench: end -->"


def check_page(path: Path) -> None:
    """ConfigError where there is a page without the marks, or no folder for one."""
    if path.exists():
        _around(path)
    elif not path.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder for {path}")


def update_page(path: Path, text: str) -> None:
    """Puts ``text`` between the marks; makes the page where there is none. Raises ConfigError, OSError."""
    before, after = _around(path) if path.exists() else ("", "")
    path.write_text(f"{before}{BEGIN}\n{text}{END}\n{after.removeprefix(chr(10))}")


def picture_from(page: Path, picture: Path) -> str:
    """The picture's path as the page has to name it."""
    return os.path.relpath(picture.absolute(), page.absolute().parent)


def _around(path: Path) -> tuple[str, str]:
    """What stands before and after the measured part."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{path} has no part between {BEGIN} and {END}")
    return before, after
