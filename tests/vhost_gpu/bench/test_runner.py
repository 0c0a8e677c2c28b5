"""Alternation, failures and interruption."""

import io
import math

import pytest

from tests.vhost_gpu.bench.reportkit import DIED, OURS, THEIRS, Measurements, empty_results, scenario
from vhost_gpu.bench.model import Settings
from vhost_gpu.bench.progress import Progress
from vhost_gpu.bench.runner import Runner, count_runs

BOTH = {"ours": OURS, "theirs": THEIRS}


class Bench:
    """A runner with all that it needs."""

    def __init__(self, measure, pairs=3, programs=BOTH):
        self.results = empty_results(versus="theirs" in programs)
        self.results.complete = False
        self.output = io.StringIO()
        progress = Progress(self.output, 6, False)
        self.runner = Runner(self.results, programs, Settings(), pairs, measure, progress)

    def run(self, *scenarios):
        self.runner.run(scenarios or [scenario()])
        return self.results.scenarios


def test_the_two_take_turns_at_being_first():
    measure = Measurements()
    Bench(measure, pairs=4).run()
    order = "".join("A" if name == OURS.name else "B" for _, name in measure.order)
    assert order == "ABBAABBA"


def test_every_run_is_kept():
    bench = Bench(Measurements(), pairs=2)
    (found,) = bench.run()
    assert [(run.side, run.pair, run.values["p50"]) for run in found.runs] == [
        ("ours", 0, 1.0),
        ("theirs", 0, 2.0),
        ("theirs", 1, 3.0),
        ("ours", 1, 4.0),
    ]
    assert bench.results.complete


def test_alone_there_is_nobody_to_take_turns_with():
    measure = Measurements()
    Bench(measure, pairs=2, programs={"ours": OURS}).run()
    assert measure.order == [("round-trip", OURS.name)] * 2


def test_a_rival_is_left_out_where_it_can_not_take_part():
    measure = Measurements()
    Bench(measure, pairs=2).run(scenario(rival=False))
    assert {name for _, name in measure.order} == {OURS.name}


def test_a_rival_that_fails_is_not_asked_again_there():
    measure = Measurements(vhost_user_gpu=DIED)
    first, second = Bench(measure).run(scenario("a"), scenario("b"))
    assert first.failures == second.failures == {"theirs": "it died (in run 1)"}
    assert [name for _, name in measure.order].count(THEIRS.name) == 2
    assert len(first.runs) == 3


def test_ours_that_fails_ends_the_scenario_and_not_the_measurement():
    measure = Measurements(vhost_gpu=DIED)
    bench = Bench(measure)
    bench.run(scenario("a"), scenario("b"))
    assert measure.order == [("a", OURS.name), ("b", OURS.name)]
    assert bench.results.failed
    assert bench.results.complete


def test_an_unforeseen_error_is_shown_with_its_origin(capsys):
    (found,) = Bench(Measurements(vhost_user_gpu=ZeroDivisionError("oops"))).run()
    assert found.failures == {"theirs": "ZeroDivisionError: oops (in run 1)"}
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_leaves_what_there_is():
    class Interrupted(Measurements):
        def __call__(self, *arguments):
            if len(self.order) == 3:
                raise KeyboardInterrupt
            return super().__call__(*arguments)

    bench = Bench(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert len(bench.results.scenarios[0].runs) == 3
    assert not bench.results.complete


def test_a_value_that_is_no_number_is_not_kept():
    (found,) = Bench(lambda *_: {"p50": math.nan, "ping": 1.0}, pairs=1).run()
    assert found.runs[0].values == {"ping": 1.0}


def test_each_run_has_a_line():
    bench = Bench(Measurements(vhost_user_gpu=DIED), pairs=2)
    bench.run()
    assert bench.output.getvalue().splitlines() == [
        "[1/6] round-trip  vhost-gpu  Round trip, p50 1.00 us",
        "[2/6] round-trip  vhost-user-gpu  failed: it died",
        "[3/5] round-trip  vhost-gpu  Round trip, p50 3.00 us",
    ]


def test_how_many_runs_it_will_be():
    scenarios = [scenario(), scenario(rival=False)]
    assert count_runs(scenarios, True, 3) == 9
    assert count_runs(scenarios, False, 3) == 6
