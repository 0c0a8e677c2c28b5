"""Many sessions at once, measured."""

from tests.vhost_gpu.bench.benchkit import figures


def test_every_session_has_a_share():
    values = figures("sessions-64")
    assert values["slowest"] >= 1
    assert values["fastest"] >= 1
    assert values["slowest_free"] >= 1
    assert values["limit_free"] >= 1
    assert values["total"] > 0
    assert values["pss"] > 0
