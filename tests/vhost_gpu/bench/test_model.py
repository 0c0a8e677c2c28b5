"""What the report half builds on."""

import pytest

from vhost_gpu.bench.model import Figure, Program, Scenario, Settings


@pytest.mark.parametrize("thing", [Program("a"), Settings(), Figure("f", "F", "us", "lower")])
def test_what_was_measured_does_not_change(thing):
    name = next(iter(type(thing).__slots__))
    with pytest.raises(AttributeError):
        setattr(thing, name, None)


def test_a_scenario_is_for_everyone_and_by_default_unless_it_says_otherwise():
    scenario = Scenario("s", "S", (), lambda *_: {})
    assert scenario.rival
    assert scenario.standard
