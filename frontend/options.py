"""What a person can ask the viewer for."""

from __future__ import annotations

from dataclasses import dataclass

from frontend.geometry import Scale

FIRST_SIZE = (960, 600)
"""A window's size before its scanout has a mode, where the screen has room."""


@dataclass(frozen=True, slots=True)
class Options:
    """How windows begin."""

    fullscreen: bool = False
    """Cover the screen."""
    scale: Scale = Scale.FIT
    """How the picture fills the window."""
    linear: bool = True
    """Scale linearly, else to the nearest pixel."""
    scanout: int | None = None
    """Show only this scanout; None: all."""
    statistics: bool = False
    """Show the statistics overlay."""
    whole_frames: bool = False
    """Upload and paint every frame whole, whatever its damage: the benchmark compares with it."""
