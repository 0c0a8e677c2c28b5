"""Where both sides run."""

import os

import pytest

from vhost_gpu.bench.placement import Placement, placed


@pytest.mark.parametrize(
    ("placement", "front", "back"),
    [
        (Placement.FREE, {3, 5, 9}, {3, 5, 9}),
        (Placement.TOGETHER, {3}, {3}),
        (Placement.APART, {3}, {9}),
    ],
)
def test_cpus_are_chosen_from_those_that_we_may_use(placement, front, back):
    assert placement.cpus([9, 3, 5]) == (front, back)


def test_one_cpu_is_shared():
    assert Placement.APART.cpus([4]) == ({4}, {4})


def test_everything_is_as_before_afterwards():
    before = os.sched_getaffinity(0)
    with placed(Placement.TOGETHER, []) as back:
        assert os.sched_getaffinity(0) == back == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_processes_that_are_gone_do_no_harm():
    with placed(Placement.APART, [1 << 22]):
        pass
