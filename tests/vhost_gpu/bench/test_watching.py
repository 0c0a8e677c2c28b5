"""What viewers get and cost."""

import pytest

from tests.vhost_gpu.bench.benchkit import QUICK, THEIRS, figures, scenario
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.target import Target


@pytest.mark.parametrize("name", ["viewer-1920x1080", "viewer-stalled", "viewers-10"])
def test_figures_are_there(name):
    assert min(figures(name).values()) > 0


def test_a_back_end_without_viewers_is_reported(monkeypatch):
    monkeypatch.setattr("vhost_gpu.bench.target._START_SECONDS", 0.5)
    with Target.start(THEIRS) as target, pytest.raises(BenchError, match="does not listen"):
        scenario("viewer-1920x1080").run(target, QUICK)
