"""The table of scenarios."""

from collections import Counter

import pytest

from vhost_gpu.bench.scenarios import SCENARIOS


def test_names_are_unique():
    assert [name for name, count in Counter(s.name for s in SCENARIOS).items() if count > 1] == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_figures_have_unique_names_and_limits_that_are_measured_in_the_same_unit(scenario):
    units = {figure.name: figure.unit for figure in scenario.figures}
    assert len(units) == len(scenario.figures)
    assert all(units[figure.limit] == figure.unit for figure in scenario.figures if figure.limit)


def test_memory_growth_is_measured_on_request_only():
    assert [s.name for s in SCENARIOS if not s.standard] == ["endurance-commands", "endurance-resources"]
