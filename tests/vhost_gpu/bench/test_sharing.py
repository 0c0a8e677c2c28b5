"""Many sessions at once, measured."""

from types import SimpleNamespace

import pytest

from tests.vhost_gpu.bench.benchkit import figures
from vhost_gpu.bench import sharing
from vhost_gpu.bench.model import BenchError


def test_every_session_has_a_share():
    values = figures("sessions-64")
    assert values["slowest"] >= 1
    assert values["fastest"] >= 1
    assert values["slowest_free"] >= 1
    assert values["limit_free"] >= 1
    assert values["slowest_together"] >= 1
    assert values["total"] > 0
    assert values["pss"] > 0


@pytest.mark.parametrize(("operations", "message"), [(0, "begun"), (5, "stands still")])
def test_what_does_not_go_on_is_an_error(monkeypatch, operations, message):
    monkeypatch.setattr(sharing, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(sharing, "_WARM_SECONDS", 0.0)
    with pytest.raises(BenchError, match=message):
        sharing._rates([SimpleNamespace(operations=operations)], 0.001)
