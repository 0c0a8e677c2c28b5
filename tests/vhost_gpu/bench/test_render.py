"""3D commands, measured on ours; QEMU's back-end wants a render node."""

import pytest

from protocol.virtio_gpu import ControlHeader, HeaderFlag
from tests.vhost_gpu.bench.benchkit import OURS, figures, scenario
from vhost_gpu.bench import direct
from vhost_gpu.bench.direct import Job, Outcome
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.render import VIRGL, around, gpu3d_of, submission
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, Context
from vhost_gpu.guest.ring import Segment


@pytest.mark.parametrize("name", ["submit-3d", "depth-3d"])
def test_streams_are_counted_beside_the_renderer_itself(name):
    values = figures(name)
    assert min(value for figure, value in values.items() if "cpu" not in figure) > 0
    assert all(value <= 1 for figure, value in values.items() if figure.startswith(("interrupts", "batch")))


def test_the_scenarios_start_back_ends_with_3d():
    assert all(scenario(name).options == VIRGL for name in ("submit-3d", "depth-3d"))


def test_a_back_end_without_3d_cannot_be_measured():
    with (
        Target.start(OURS) as target,
        BenchGuest.open(target, features=VIRGL_FEATURES) as guest,
        pytest.raises(BenchError, match="ours: the device has no 3D"),
    ):
        gpu3d_of(guest)


def test_a_submission_has_a_fence_and_its_stream_elsewhere():
    command = submission(Context(None, 3), b"abcdefgh", Segment(0x1000, 8))
    header = ControlHeader.decode(command.request)
    assert (header.flags, header.ctx_id) == (HeaderFlag.FENCE, 3)
    assert command.request[24:] == (8).to_bytes(8, "little")
    assert command.payload == Segment(0x1000, 8)


def test_what_drifts_meets_device_and_limit_alike(monkeypatch):
    monkeypatch.setattr(direct, "measure", lambda _: Outcome(100, 3, 5, 7))
    both = around(Job([b""], 1), Outcome(50, 1, 1, 1))
    assert both == {"rate": 75, "p50": 2, "p99": 3, "cpu": 4, "mean_us": 15_000}
