"""Memory after many commands, measured."""

import pytest

from tests.vhost_gpu.bench.benchkit import figures


@pytest.mark.parametrize(("name", "commands"), [("endurance-commands", 20_000), ("endurance-resources", 6_000)])
def test_all_commands_are_sent(name, commands):
    values = figures(name)
    assert values["commands"] == commands
    assert values["time"] > 0
