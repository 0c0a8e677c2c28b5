"""How cost grows, measured."""

import pytest

from tests.vhost_gpu.bench.benchkit import OURS, THEIRS, figures


@pytest.mark.parametrize("name", ["cost-damage", "cost-screen", "cost-pieces", "cost-resources"])
def test_figures_are_there(name):
    assert min(figures(name, OURS).values()) > 0


def test_the_rival_can_be_measured_too():
    assert min(figures("cost-resources", THEIRS).values()) > 0
