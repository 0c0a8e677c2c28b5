"""Start, idleness and memory, measured."""

import math
from dataclasses import replace

import pytest

from tests.vhost_gpu.bench.benchkit import OURS, QUICK, THEIRS, figures, scenario
from vhost_gpu.bench.target import Target


@pytest.mark.parametrize("program", [OURS, THEIRS], ids=lambda program: program.name)
def test_the_first_answer_comes_after_the_start(program):
    assert figures("start", program)["answer"] > 0


def test_no_start_is_measured_of_a_program_that_runs_already():
    with Target.start(OURS) as target:
        target.connect().close()
        running = replace(OURS, argv=(), socket_path=str(target.socket_path))
        with Target.start(running) as same:
            assert math.isnan(scenario("start").run(same, QUICK)["answer"])


def test_an_idle_back_end_has_memory():
    values = figures("idle")
    assert values["pss"] > 0
    assert values["wakeups"] >= 0
    assert values["cpu"] >= 0


def test_the_peak_is_measured_beside_what_is_allowed():
    values = figures("memory-peak")
    assert values["peak"] > 0
    assert values["allowed"] > 45
