"""Targets are of figures that exist, and say what they ask for."""

import pytest

from vhost_gpu.bench.goals import GOALS, Goal
from vhost_gpu.bench.scenarios import SCENARIOS

FIGURES = {(scenario.name, figure.name): (scenario, figure) for scenario in SCENARIOS for figure in scenario.figures}


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.scenario}-{goal.figure}-{goal.against}")
def test_a_target_is_of_a_figure_that_can_meet_it(goal):
    scenario, figure = FIGURES[goal.scenario, goal.figure]
    units = {other.name: other.unit for other in scenario.figures}
    assert goal.relation == {"lower": "<=", "higher": ">="}[figure.better]
    assert goal.against != "rival" or scenario.rival
    assert goal.against != "limit" or units[figure.limit] == figure.unit


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (Goal("a", "b", "rival", "<=", 0.8), "<= 0.8"),
        (Goal("a", "b", "limit", ">=", 0.7), ">= 0.7x limit"),
        (Goal("a", "b", "value", "<=", 2), "<= 2 ms"),
    ],
)
def test_text(goal, text):
    assert goal.text("ms") == text


def test_a_bound_is_met_when_it_is_reached():
    assert Goal("a", "b", "rival", "<=", 1).met_by(1)
    assert Goal("a", "b", "rival", ">=", 1).met_by(1)
    assert not Goal("a", "b", "rival", ">=", 1).met_by(0.9)
