"""Runs scenarios on one program, or on two in alternation.

Pairs are run as A B, B A, A B, ...: whatever drifts (clock, heat, other work) meets both alike, and each ratio is of
two runs beside each other.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from vhost_gpu.bench.model import BenchError, Program, Scenario, Settings
from vhost_gpu.bench.progress import Progress
from vhost_gpu.bench.report import quantity
from vhost_gpu.bench.results import Measured, Results, Run, Side

Measure = Callable[[Scenario, Program, Settings], Mapping[str, float]]
"""Runs a scenario once on a program and gives its figures; raises ``BenchError``."""


def count_runs(scenarios: Sequence[Scenario], versus: bool, pairs: int) -> int:
    """How many runs these are."""
    return sum(pairs * len(_sides(scenario, versus)) for scenario in scenarios)


def _sides(scenario: Scenario, versus: bool) -> tuple[Side, ...]:
    return ("ours", "theirs") if versus and scenario.rival else ("ours",)


class Runner:
    """Fills ``results`` run by run, so that it is of use whenever the measurement is cut short."""

    def __init__(
        self,
        results: Results,
        programs: Mapping[Side, Program],
        settings: Settings,
        pairs: int,
        measure: Measure,
        progress: Progress,
    ) -> None:
        self._results = results
        self._programs = programs
        self._settings = settings
        self._pairs = pairs
        self._measure = measure
        self._progress = progress
        self._began = time.monotonic()

    def run(self, scenarios: Sequence[Scenario]) -> None:
        """All of them. A side that fails at a scenario is not tried again there."""
        for scenario in scenarios:
            self._scenario(scenario)
        self._results.complete = True

    def _scenario(self, scenario: Scenario) -> None:
        measured = Measured(scenario.name, scenario.title, scenario.figures)
        self._results.scenarios.append(measured)
        sides = _sides(scenario, "theirs" in self._programs)
        for pair in range(self._pairs):
            for side in sides if pair % 2 == 0 else reversed(sides):
                if not measured.failures.keys() & {side, "ours"}:
                    self._run(scenario, measured, side, pair)
                else:
                    self._progress.skips(1)

    def _run(self, scenario: Scenario, measured: Measured, side: Side, pair: int) -> None:
        program = self._programs[side]
        what = f"{scenario.name}  {program.name}"
        self._progress.starts(what)
        at = time.monotonic()
        try:
            values = self._measure(scenario, program, self._settings)
        except BenchError as error:
            self._failed(measured, side, what, str(error))
        except Exception as error:
            traceback.print_exc()
            self._failed(measured, side, what, f"{type(error).__name__}: {error}")
        else:
            took = time.monotonic() - at
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            measured.runs.append(Run(side, pair, at - self._began, took, finite))
            self._progress.ends(f"{what}  {_brief(scenario, finite)}".rstrip())

    def _failed(self, measured: Measured, side: Side, what: str, reason: str) -> None:
        runs = len([run for run in measured.runs if run.side == side])
        measured.failures[side] = f"{reason} (in run {runs + 1})"
        self._progress.ends(f"{what}  failed: {reason}")


def _brief(scenario: Scenario, values: Mapping[str, float]) -> str:
    """The first figure of a run, for the line that says that it is done."""
    first = scenario.figures[0]
    return f"{first.title} {quantity(values[first.name], first.unit)}" if first.name in values else ""
