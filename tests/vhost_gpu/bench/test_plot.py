"""The picture: what is in it, and that it can be read back."""

import pytest
from PIL import Image

from tests.vhost_gpu.bench.reportkit import FRAMES, TRIP, empty_results, measured, results
from vhost_gpu.bench.plot import advantage, bounds, chosen, draw, has_ratio, has_share
from vhost_gpu.bench.summary import sections


def drawn(found, path):
    draw(found, sections(found), path)
    with Image.open(path) as image:
        image.load()
        return image.convert("RGB")


def test_better_is_to_the_right_whichever_way_a_figure_counts():
    assert advantage(TRIP[0], 0.5) == 2
    assert advantage(FRAMES[0], 2.0) == 2
    assert advantage(TRIP[0], 0) == 1e6


def test_what_is_drawn():
    content = sections(results())
    assert [row.figure.name for _, row in chosen(content, has_ratio, "rival")] == ["p50", "rate", "cpu"]
    assert [row.figure.name for _, row in chosen(content, has_share, "limit")] == ["rate"]
    assert bounds(content[0].rows[0], "rival") == [0.8]


def test_two_panels_with_a_rival_and_one_without(tmp_path):
    both = drawn(results(), tmp_path / "a.png")
    alone = drawn(results(versus=False), tmp_path / "b.png")
    assert both.width == alone.width
    assert both.height > 1.5 * alone.height
    assert len(both.getcolors(1 << 20)) > 10


@pytest.mark.parametrize("ours", [(1e-9, 1.0), (0.0, 1.0), (1e9, 1.0)])
def test_extremes_are_drawn_too(tmp_path, ours):
    found = empty_results()
    found.scenarios = [measured("x", TRIP, [ours], [(1.0, 1.0)])]
    assert drawn(found, tmp_path / "a.png").height < 1000


def test_nothing_to_draw(tmp_path):
    assert drawn(empty_results(), tmp_path / "a.png").width > 0


@pytest.mark.parametrize(("name", "start"), [("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_other_formats(tmp_path, name, start):
    draw(results(), sections(results()), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)
