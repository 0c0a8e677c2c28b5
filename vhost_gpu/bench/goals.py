"""What vhost-gpu asks of itself: targets beside the figures, as data. The report says which are met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """A target for the median of a figure.

    ``against``: "rival" the ratio ours by theirs, "limit" ours by the limit of the same run, "value" ours in its unit.
    """

    scenario: str
    figure: str
    against: Literal["rival", "limit", "value"]
    relation: Literal["<=", ">="]
    bound: float

    def met_by(self, value: float) -> bool:
        """Whether this median will do."""
        return value <= self.bound if self.relation == "<=" else value >= self.bound

    def text(self, unit: str) -> str:
        """As the table has it; ``unit``: the figure's."""
        after = {"rival": "", "limit": "x limit", "value": f" {unit}"}[self.against]
        return f"{self.relation} {self.bound:g}{after}".rstrip()


_NO_MORE = 1.1
"""What is called "no more": two measurements of the same thing differ too."""
_FRAMES = "frames-1920x1080-scattered"

GOALS: tuple[Goal, ...] = (
    Goal("round-trip", "p50", "rival", "<=", 0.8),
    Goal("round-trip", "p50", "limit", "<=", 2),
    Goal("depth", "time_32", "rival", "<=", 0.7),
    Goal(_FRAMES, "rate", "rival", ">=", 2),
    Goal(_FRAMES, "delivered", "rival", ">=", 1.3),
    Goal(_FRAMES, "cpu", "rival", "<=", 0.5),
    Goal("damage-64", "rate", "rival", ">=", 3),
    Goal("damage-64", "rate_8", "rival", ">=", 3),
    Goal("viewer-1920x1080", "seen", "limit", ">=", 0.7),
    Goal("viewer-stalled", "share", "value", ">=", 0.95),
    Goal("viewers-10", "share", "value", ">=", 0.95),
    Goal("cursor-busy", "move_p99", "value", "<=", 2),
    Goal("cursor-busy", "update_p99", "value", "<=", 2),
    Goal("submit-3d", "rate", "value", ">=", 20_000),
    Goal("submit-3d", "time", "limit", "<=", 2.5),
    Goal("submit-3d", "batch", "value", "<=", 1),
    Goal("depth-3d", "time_8", "limit", "<=", 1.3),
    Goal("depth-3d", "time_32", "limit", "<=", 1.3),
    Goal("depth-3d", "batch_8", "value", "<=", 1),
    Goal("depth-3d", "batch_32", "value", "<=", 1),
    Goal("balls-864x1080", "rate", "limit", ">=", 0.9),
    Goal("balls-1280x800", "rate", "limit", ">=", 0.9),
    Goal("balls-864x1080", "batch", "value", "<=", 1),
    Goal("balls-1280x800", "batch", "value", "<=", 1),
    Goal("idle-3d", "wakeups", "value", "<=", 0),
    Goal("idle-3d", "idle", "value", "<=", 0),
    Goal("cursor-3d", "move_p99", "value", "<=", 2),
    Goal("idle", "wakeups", "value", "<=", 0),
    Goal("idle", "cpu", "value", "<=", 0),
    Goal("memory-peak", "peak", "limit", "<=", 1),
    Goal("cost-screen", "growth", "value", "<=", _NO_MORE),
    Goal("cost-pieces", "growth", "value", "<=", _NO_MORE),
    Goal("cost-resources", "growth", "value", "<=", _NO_MORE),
    Goal("sessions-64", "slowest_free", "value", "<=", 2),
    Goal("endurance-commands", "growth", "value", "<=", 1),
    Goal("endurance-resources", "growth", "value", "<=", 1),
)
