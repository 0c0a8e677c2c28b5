"""Damage arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.virtio_gpu import Rect
from vhost_gpu.guest.rects import area, bounding, merge

RECTS = st.builds(Rect, st.integers(0, 30), st.integers(0, 30), st.integers(1, 12), st.integers(1, 12))


def pixels(rects):
    return {(r.x + i, r.y + j) for r in rects for i in range(r.width) for j in range(r.height)}


def test_bounding_holds_both_and_no_more():
    assert bounding(Rect(2, 3, 4, 1), Rect(5, 1, 2, 2)) == Rect(2, 1, 5, 3)


def test_far_rectangles_stay_apart():
    rects = [Rect(0, 0, 2, 2), Rect(10, 10, 2, 2)]
    assert merge(rects) == rects


def test_neighbours_become_one():
    assert merge([Rect(0, 0, 4, 4), Rect(4, 0, 4, 4), Rect(0, 4, 8, 4)]) == [Rect(0, 0, 8, 8)]


@given(st.lists(RECTS, max_size=8))
def test_merging_covers_everything_at_no_cost(rects):
    merged = merge(rects)
    assert pixels(rects) <= pixels(merged)
    assert len(merged) <= len(rects)
    assert sum(map(area, merged)) <= sum(map(area, rects))
