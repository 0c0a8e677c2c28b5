"""Panels of text."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.overlay import help_panel, message_panel, panel, statistics_panel, waiting_panel


def test_panels_have_text_on_a_dark_ground() -> None:
    for pixels in (help_panel(), message_panel("saved"), statistics_panel(["shown    1 frames", "rate     -"])):
        assert (pixels[..., :3].max(axis=2) > 200).sum() > 20
        assert 150 < np.median(pixels[..., 3]) < 255


def test_the_waiting_text_has_no_ground() -> None:
    assert np.median(waiting_panel("no daemon")[..., 3]) == 0
    assert waiting_panel("no daemon").shape[0] > waiting_panel("").shape[0]


@settings(max_examples=40)
@given(st.text(max_size=300), st.lists(st.tuples(st.text(max_size=40), st.text(max_size=300)), max_size=3))
def test_any_text_can_be_drawn(title: str, rows: list[tuple[str, str]]) -> None:
    pixels = panel(title, rows)
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 4
    assert (pixels[..., :3] <= pixels[..., 3:]).all()
    assert max(pixels.shape) < 8192
