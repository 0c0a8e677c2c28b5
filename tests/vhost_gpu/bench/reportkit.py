"""Scenarios that measure nothing, and results that were never measured."""

from vhost_gpu.bench.model import BenchError, Figure, Program, Scenario
from vhost_gpu.bench.results import Measured, Results, Run

OURS = Program("vhost-gpu", ("/bin/ours",))
THEIRS = Program("vhost-user-gpu", ("/bin/theirs",))
TRIP = (
    Figure("p50", "Round trip, p50", "us", "lower", "ping"),
    Figure("ping", "Ping-pong", "us", "lower"),
)
FRAMES = (
    Figure("rate", "Frames a second", "/s", "higher", "copies"),
    Figure("cpu", "CPU a frame", "ms", "lower"),
    Figure("copies", "memcpy", "/s", "higher"),
)
MACHINE = {
    "cpu": "Some CPU",
    "cores": 2,
    "memory": 4 << 30,
    "system": "Some Linux",
    "kernel": "Linux 6.1 x86_64",
    "load": [0.1, 0.2, 0.3],
    "versions": {"vhost-gpu": "0.1.0"},
}


def nothing(_target, _settings):
    """A scenario that must not be run."""
    raise AssertionError


def scenario(name="round-trip", figures=TRIP, run=nothing, **more):
    return Scenario(name, f"Title of {name}", figures, run, **more)


def empty_results(versus=True, pairs=2):
    programs = {
        side: {"name": program.name, "argv": list(program.argv), "socket_path": None, "version": None}
        for side, program in (("ours", OURS), ("theirs", THEIRS))[: 1 + versus]
    }
    settings = {"pairs": pairs, "seconds": 1.0, "quick": False, "commands": 1, "resources": 1}
    return Results("2026-01-02 03:04 UTC", MACHINE, programs, settings, complete=True)


def measured(name, figures, ours, theirs=(), failures=None):
    """``ours`` and ``theirs``: for each pair the figures' values, in the figures' order."""
    result = Measured(name, f"Title of {name}", figures, failures=failures or {})
    for side, samples in (("ours", ours), ("theirs", theirs)):
        for pair, values in enumerate(samples):
            names = [figure.name for figure in figures]
            result.runs.append(Run(side, pair, 0.5, 1.5, dict(zip(names, values, strict=True))))
    return result


def results(versus=True):
    """Two scenarios; ours has half the round trip and twice the frames, and a third of the CPU."""
    found = empty_results(versus)
    theirs = [(20.0, 5.0), (20.0, 5.0)] if versus else ()
    frames = [(100.0, 3.0, 400.0), (100.0, 6.0, 400.0)] if versus else ()
    found.scenarios = [
        measured("round-trip", TRIP, [(10.0, 5.0), (12.0, 5.0)], theirs),
        measured("frames-1920x1080-scattered", FRAMES, [(200.0, 1.0, 400.0), (220.0, 2.0, 400.0)], frames),
    ]
    return found


class Measurements:
    """Stands in for real runs: counts up, and fails where it is told to."""

    def __init__(self, **fails):
        self.fails = fails
        self.order = []

    def __call__(self, scenario, program, _settings):
        self.order.append((scenario.name, program.name))
        error = self.fails.get(program.name.replace("-", "_"))
        if error is not None:
            raise error
        return {figure.name: float(len(self.order)) for figure in scenario.figures}


DIED = BenchError("it died")
