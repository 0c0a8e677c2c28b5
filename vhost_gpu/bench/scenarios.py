"""Every measurement there is, in the order of the report."""

from __future__ import annotations

from vhost_gpu.bench import (
    commands,
    costs,
    cursors,
    endurance,
    footprint,
    frames,
    render,
    render_frames,
    sharing,
    watching,
)
from vhost_gpu.bench.model import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *commands.SCENARIOS,
    *frames.SCENARIOS,
    *watching.SCENARIOS,
    *cursors.SCENARIOS,
    *render.SCENARIOS,
    *render_frames.SCENARIOS,
    *footprint.SCENARIOS,
    *costs.SCENARIOS,
    *sharing.SCENARIOS,
    *endurance.SCENARIOS,
)
