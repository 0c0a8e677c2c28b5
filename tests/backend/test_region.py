"""Damage of one sink: small sets of rectangles that cover all that was added."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from backend.region import MAX_RECTS, Rect, Region

SIDE = 40


@st.composite
def rects(draw: st.DrawFn) -> Rect:
    x, y = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
    return Rect(x, y, draw(st.integers(0, SIDE - x)), draw(st.integers(0, SIDE - y)))


def region_of(added: Iterable[Rect]) -> Region:
    region = Region()
    for rect in added:
        region.add(rect)
    return region


def pixels(rect: Rect) -> set[tuple[int, int]]:
    return {(x, y) for x in range(rect.x, rect.x + rect.width) for y in range(rect.y, rect.y + rect.height)}


@given(st.lists(rects(), max_size=80))
def test_everything_added_is_covered_and_nothing_beyond_the_bounds(added: list[Rect]) -> None:
    region = region_of(added)
    taken = region.take()
    assert len(taken) <= MAX_RECTS
    wanted = set().union(*map(pixels, added))
    covered = set().union(*map(pixels, taken))
    assert wanted <= covered
    if wanted:
        xs, ys = [x for x, _ in wanted], [y for _, y in wanted]
        assert covered <= pixels(Rect(min(xs), min(ys), max(xs) - min(xs) + 1, max(ys) - min(ys) + 1))


@given(st.lists(rects(), max_size=6))
def test_taking_empties(added: list[Rect]) -> None:
    region = region_of(added)
    assert bool(region) == any(rect.area for rect in added)
    region.take()
    assert not region
    assert region.take() == []


def test_neighbours_become_one() -> None:
    region = region_of([Rect(0, 0, 10, 10), Rect(10, 0, 10, 10)])
    assert region.take() == [Rect(0, 0, 20, 10)]


def test_a_merge_may_make_another_one_worth_while() -> None:
    region = region_of([Rect(0, 0, 10, 5), Rect(0, 10, 10, 5), Rect(0, 5, 10, 5)])
    assert region.take() == [Rect(0, 0, 10, 15)]


def test_far_corners_stay_apart() -> None:
    corners = [Rect(0, 0, 2, 2), Rect(1000, 1000, 2, 2)]
    assert sorted(region_of(corners).take()) == corners


def test_of_too_many_the_nearest_become_one() -> None:
    spots = [Rect(100 * n, 100 * n, 1, 1) for n in range(MAX_RECTS)]
    taken = region_of([*spots, Rect(3, 3, 1, 1)]).take()
    assert sorted(taken) == [Rect(0, 0, 4, 4), *spots[1:]]


def test_adding_all_of_another() -> None:
    other = region_of([Rect(0, 0, 2, 2), Rect(1000, 1000, 2, 2)])
    region = region_of([Rect(500, 0, 2, 2)])
    region.update(other)
    assert sorted(region.rects()) == [Rect(0, 0, 2, 2), Rect(500, 0, 2, 2), Rect(1000, 1000, 2, 2)]
    assert len(other.take()) == 2


def test_the_whole_picture_replaces_all() -> None:
    region = Region()
    region.add(Rect(500, 500, 9, 9))
    region.set_whole(100, 50)
    assert region.take() == [Rect(0, 0, 100, 50)]
    region.add(Rect(0, 0, 9, 9))
    region.set_whole(0, 0)
    assert not region


def test_clearing() -> None:
    region = Region()
    region.add(Rect(0, 0, 9, 9))
    region.clear()
    assert not region


@given(rects(), st.integers(0, SIDE), st.integers(0, SIDE))
def test_clipping_is_the_part_inside(rect: Rect, width: int, height: int) -> None:
    clipped = rect.clip(width, height)
    inside = pixels(rect) & pixels(Rect(0, 0, width, height))
    assert (pixels(clipped) if clipped else set()) == inside
