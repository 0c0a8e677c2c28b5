"""Medians, ratios of pairs, limits and verdicts."""

import math

import pytest

from tests.vhost_gpu.bench.reportkit import FRAMES, TRIP, empty_results, measured, results
from vhost_gpu.bench.goals import Goal
from vhost_gpu.bench.model import Figure
from vhost_gpu.bench.summary import Summary, ratios, sections, summarize, verdicts

FASTER = Goal("round-trip", "p50", "rival", "<=", 0.8)


def row(found, name="p50", goals=()):
    content = sections(found, goals)
    return next(row for section in content for row in section.rows if row.figure.name == name)


def test_the_median_and_the_middle_half():
    assert summarize([5, 1, 2, 3, 4]) == Summary(3, 2, 4, 5)
    assert summarize([7]) == Summary(7, 7, 7, 1)
    assert summarize([]) is None
    assert summarize([math.inf, math.nan, 2]) == Summary(2, 2, 2, 1)


def test_the_ratio_is_the_median_of_the_pairs_ratios():
    # The machine got ten times slower on the way: the ratio of the medians would be 1.
    pairs = [(1, 2), (2, 4), (20, 2.5), (10, 20), (20, 40)]
    assert ratios(pairs).median == 0.5


def test_a_pair_with_zero_has_no_ratio():
    assert ratios([(0, 0), (1, 0)]) is None
    assert ratios([(0, 4), (1, 0)]).median == 0


def test_a_row_has_both_sides_and_the_limit():
    found = row(results())
    assert (found.ours.median, found.theirs.median) == (11, 20)
    assert found.ratio.median == pytest.approx(0.55)
    assert (found.limit.median, found.limit_unit) == (5, "us")
    assert found.share.median == pytest.approx(2.2)


def test_a_limit_has_no_row_of_its_own():
    names = [[row.figure.name for row in section.rows] for section in sections(results())]
    assert names == [["p50"], ["rate", "cpu"]]


def test_a_limit_in_another_unit_is_shown_and_not_divided_by():
    found = empty_results()
    figures = (Figure("time", "Time", "ms", "lower", "speed"), Figure("speed", "memcpy", "GiB/s", "higher"))
    found.scenarios = [measured("x", figures, [(1.0, 2.0)])]
    assert row(found, "time").limit.median == 2
    assert row(found, "time").share is None


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("round-trip", "p50", "rival", "<=", 0.6), True),
        (Goal("round-trip", "p50", "rival", "<=", 0.5), False),
        (Goal("round-trip", "p50", "limit", "<=", 3), True),
        (Goal("round-trip", "p50", "limit", "<=", 2), False),
        (Goal("round-trip", "p50", "value", "<=", 11), True),
        (Goal("round-trip", "p50", "value", ">=", 12), False),
    ],
)
def test_targets_are_judged(goal, met):
    assert [verdict.met for verdict in row(results(), goals=[goal]).verdicts] == [met]


def test_a_target_without_samples_is_not_judged():
    found = empty_results()
    found.scenarios = [measured("round-trip", TRIP, [(1.0, 1.0)], failures={"theirs": "it died"})]
    assert [verdict.met for verdict in verdicts(sections(found, [FASTER]))] == [None]


def test_without_a_rival_there_are_no_targets_against_it():
    assert verdicts(sections(results(versus=False), [FASTER])) == []


def test_a_figure_that_a_run_does_not_have():
    found = empty_results()
    found.scenarios = [measured("x", FRAMES, [(1.0, 2.0, 3.0)])]
    found.scenarios[0].runs[0].values.pop("rate")
    assert row(found, "rate").ours is None
