"""What was measured, as it is kept and as JSON has it: every sample, where it comes from, and why one is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from protocol.errors import ConfigError
from vhost_gpu.bench.model import Figure

Side = Literal["ours", "theirs"]
"""The program that is measured, and the one of ``--versus``."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a scenario: ``pair`` from 0, ``at`` seconds since the first run began, ``seconds`` that it took."""

    side: Side
    pair: int
    at: float
    seconds: float
    values: Mapping[str, float]


@dataclass(slots=True)
class Measured:
    """A scenario's runs. ``failures``: why a side has no more of them."""

    name: str
    title: str
    figures: tuple[Figure, ...]
    runs: list[Run] = field(default_factory=list)
    failures: dict[Side, str] = field(default_factory=dict)

    def values(self, side: Side, figure: str) -> list[float]:
        """What this side's runs gave for the figure, in the order of the pairs."""
        return [run.values[figure] for run in self.runs if run.side == side and figure in run.values]

    def pairs(self, figure: str) -> Iterator[tuple[float, float]]:
        """The figure of ours and of theirs in each pair that has both."""
        theirs = {run.pair: run.values for run in self.runs if run.side == "theirs"}
        for run in self.runs:
            if run.side == "ours" and figure in run.values and figure in theirs.get(run.pair, {}):
                yield run.values[figure], theirs[run.pair][figure]

    def beside(self, figure: str, limit: str) -> Iterator[tuple[float, float]]:
        """The figure and its limit in each run of ours that has both."""
        for run in self.runs:
            if run.side == "ours" and figure in run.values and limit in run.values:
                yield run.values[figure], run.values[limit]


@dataclass(slots=True)
class Results:
    """A whole measurement. ``programs``: what is known of each side, at least ``name``; ``complete``: not cut short."""

    date: str
    machine: dict[str, Any]
    programs: dict[Side, dict[str, Any]]
    settings: dict[str, Any]
    scenarios: list[Measured] = field(default_factory=list)
    complete: bool = False

    def name(self, side: Side) -> str:
        """How this side is called in tables."""
        return str(self.programs[side]["name"])

    @property
    def versus(self) -> bool:
        """Whether there is a rival."""
        return "theirs" in self.programs

    @property
    def failed(self) -> bool:
        """Whether ours failed in a scenario."""
        return any("ours" in measured.failures for measured in self.scenarios)


def to_json(results: Results) -> dict[str, Any]:
    """The samples and all about them, as JSON has it; ``from_json`` reads it back."""
    return {"format": FORMAT, **asdict(results)}


def from_json(data: object) -> Results:
    """Reads ``to_json``'s back, whatever else stands beside it. Raises ConfigError."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConfigError(f"not a file of vhost-gpu-bench --json, format {FORMAT}")
    try:
        scenarios = [_measured(item) for item in data["scenarios"]]
        known = {key: data[key] for key in ("date", "machine", "programs", "settings", "complete")}
        return Results(**known, scenarios=scenarios)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"damaged file of vhost-gpu-bench --json: {error!r}") from error


def _measured(item: Any) -> Measured:
    keys = ("name", "title", "unit", "better", "limit")
    figures = tuple(Figure(**{key: figure[key] for key in keys}) for figure in item["figures"])
    runs = [Run(**run) for run in item["runs"]]
    return Measured(item["name"], item["title"], figures, runs, item["failures"])
