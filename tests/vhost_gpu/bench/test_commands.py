"""Small commands, measured on both back-ends."""

import pytest

from tests.vhost_gpu.bench.benchkit import OURS, THEIRS, figures
from vhost_gpu.bench.commands import DEPTHS, RINGS

PROGRAMS = pytest.mark.parametrize("program", [OURS, THEIRS], ids=lambda program: program.name)


@PROGRAMS
@pytest.mark.parametrize("name", ["round-trip", "round-trip-one-cpu", "round-trip-two-cpus", "edid", "create"])
def test_round_trips_take_time(program, name):
    values = figures(name, program)
    assert min(values.values()) > 0
    assert values["p50"] <= values["p99"]


@PROGRAMS
def test_one_command_in_flight_takes_one_interrupt_each(program):
    values = figures("depth", program)
    assert values["interrupts_1"] == 1
    assert all(0 < values[f"interrupts_{depth}"] <= 1 for depth in DEPTHS)
    assert min(values.values()) > 0


def test_every_kind_of_ring_is_measured():
    values = figures("rings-one-cpu")
    assert len(values) == len(RINGS) * len(DEPTHS)
    assert min(values.values()) > 0
