"""The cursor queue, measured."""

from concurrent.futures import wait

import pytest

from tests.vhost_gpu.bench.benchkit import OURS, THEIRS, figures
from vhost_gpu.bench.cursors import full_frames
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.queueloop import Prepared
from vhost_gpu.bench.target import Target

FLUSH_OF_NOTHING = (Prepared((0x104).to_bytes(4, "little") + bytes(44)),)


@pytest.mark.parametrize("program", [OURS, THEIRS], ids=lambda program: program.name)
@pytest.mark.parametrize("name", ["cursor", "cursor-busy"])
def test_latencies_are_there(program, name):
    values = figures(name, program)
    assert 0 < values["move_p50"] <= values["move_p99"]
    assert 0 < values["update_p50"] <= values["update_p99"]


def test_frames_in_the_background_that_fail_are_reported():
    with (
        Target.start(OURS) as target,
        BenchGuest.open(target) as guest,
        pytest.raises(BenchError, match="ERR_INVALID_RESOURCE_ID"),
        full_frames(guest, FLUSH_OF_NOTHING, seconds=0.01) as running,
    ):
        wait([running])
