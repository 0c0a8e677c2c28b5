"""What the viewer does unless told otherwise."""

from __future__ import annotations

from frontend.geometry import Scale
from frontend.options import Options


def test_defaults() -> None:
    assert Options() == Options(fullscreen=False, scale=Scale.FIT, linear=True, scanout=None, statistics=False)
