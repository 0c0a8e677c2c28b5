"""From samples to the rows of the report: medians, the ratios of pairs, their spread, the limits, the targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vhost_gpu.bench.goals import GOALS, Goal
from vhost_gpu.bench.model import Figure
from vhost_gpu.bench.results import Measured, Results, Side


@dataclass(frozen=True, slots=True)
class Summary:
    """Samples in short: the median, the quartiles (``low`` and ``high``: half of the samples lie between), how many."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and how it was met; ``met`` None: it could not be judged."""

    goal: Goal
    met: bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of the report. ``ratio``: ours by theirs, of pairs; ``limit`` in ``limit_unit``; ``share``: ours by the
    limit, of runs."""

    figure: Figure
    ours: Summary | None
    theirs: Summary | None
    ratio: Summary | None
    limit: Summary | None
    limit_unit: str
    share: Summary | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A scenario of the report."""

    measured: Measured
    rows: tuple[Row, ...]


def summarize(samples: Iterable[float]) -> Summary | None:
    """The median and the quartiles; None when there are no samples."""
    values = [value for value in samples if math.isfinite(value)]
    if not values:
        return None
    if len(values) == 1:
        return Summary(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Summary(median, low, high, len(values))


def ratios(pairs: Iterable[tuple[float, float]]) -> Summary | None:
    """The median of each pair's first by its second. A pair whose second is 0 has no ratio."""
    return summarize(first / second for first, second in pairs if second)


def sections(results: Results, goals: Sequence[Goal] = GOALS) -> list[Section]:
    """The report's content. A figure that is only another one's limit has no row of its own."""
    wanted = [goal for goal in goals if results.versus or goal.against != "rival"]
    return [Section(measured, _rows(measured, wanted)) for measured in results.scenarios]


def verdicts(content: Iterable[Section]) -> list[Verdict]:
    """Every target's."""
    return [verdict for section in content for row in section.rows for verdict in row.verdicts]


def _rows(measured: Measured, goals: Sequence[Goal]) -> tuple[Row, ...]:
    limits = {figure.limit for figure in measured.figures}
    return tuple(_row(measured, figure, goals) for figure in measured.figures if figure.name not in limits)


def _row(measured: Measured, figure: Figure, goals: Sequence[Goal]) -> Row:
    def of(side: Side) -> Summary | None:
        return summarize(measured.values(side, figure.name))

    ratio = ratios(measured.pairs(figure.name))
    limit, unit, share = _limit(measured, figure)
    mine = of("ours")
    known = {"rival": ratio, "limit": share, "value": mine}
    wanted = [goal for goal in goals if (goal.scenario, goal.figure) == (measured.name, figure.name)]
    judged = tuple(Verdict(goal, _met(goal, known[goal.against])) for goal in wanted)
    return Row(figure, mine, of("theirs"), ratio, limit, unit, share, judged)


def _limit(measured: Measured, figure: Figure) -> tuple[Summary | None, str, Summary | None]:
    """What the machine allows, over all runs, its unit, and ours by it where both have the same unit."""
    units = {other.name: other.unit for other in measured.figures}
    if figure.limit is None or figure.limit not in units:
        return None, "", None
    limit = summarize([*measured.values("ours", figure.limit), *measured.values("theirs", figure.limit)])
    unit = units[figure.limit]
    return limit, unit, ratios(measured.beside(figure.name, figure.limit)) if unit == figure.unit else None


def _met(goal: Goal, summary: Summary | None) -> bool | None:
    return None if summary is None else goal.met_by(summary.median)
