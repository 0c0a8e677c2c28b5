"""Programs to measure, and scenarios run in a moment: for every test of the measurements."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tests.vhost_gpu.guestkit import QEMU_BACKEND
from vhost_gpu.bench.model import Program, Scenario, Settings
from vhost_gpu.bench.scenarios import SCENARIOS
from vhost_gpu.bench.target import Target

OURS = Program("ours", (sys.executable, "-m", "vhost_gpu", "--log-level", "warning"))
THEIRS = Program("theirs", (QEMU_BACKEND,))
QUICK = Settings(0.05, quick=True)


def scenario(name: str) -> Scenario:
    """The scenario of this name."""
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def figures(name: str, program: Program = OURS) -> dict[str, float]:
    """What a scenario gives, every figure of it and no other."""
    wanted = scenario(name)
    with Target.start(program, wanted.options) as target:
        values = wanted.run(target, QUICK)
    assert set(values) == {figure.name for figure in wanted.figures}
    return values


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Returns when it holds; AssertionError when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
