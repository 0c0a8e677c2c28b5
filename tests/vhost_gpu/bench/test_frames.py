"""Frames and damage, measured on both back-ends."""

import pytest

from protocol.virtio_gpu import CommandType
from tests.vhost_gpu.bench.benchkit import OURS, THEIRS, figures
from vhost_gpu.bench.frames import flip, squares
from vhost_gpu.bench.guest import Surface
from vhost_gpu.guest.ring import Segment

SURFACE = Surface(7, 200, 100, (Segment(0, 80000),))


@pytest.mark.parametrize("program", [OURS, THEIRS], ids=lambda program: program.name)
@pytest.mark.parametrize("name", ["frames-1280x800-linear", "flips-1920x1080-scattered", "damage-64"])
def test_frames_are_counted_and_reach_the_display_socket(program, name):
    assert min(figures(name, program).values()) > 0


def test_the_largest_screen_is_measured_too():
    assert figures("frames-3840x2160-scattered")["rate"] > 0


def test_a_flip_is_what_linux_sends():
    types = [int.from_bytes(command.request[:4], "little") for command in flip(SURFACE)]
    assert types == [CommandType.TRANSFER_TO_HOST_2D, CommandType.SET_SCANOUT, CommandType.RESOURCE_FLUSH]


@pytest.mark.parametrize(("within", "width", "height"), [(None, 200, 100), ((80, 70), 80, 70)])
def test_squares_lie_inside_and_are_the_same_each_time(within, width, height):
    found = squares(SURFACE, 64, within)
    assert found == squares(SURFACE, 64, within)
    for transfer, _ in found:
        x, y, *size = (int.from_bytes(transfer.request[at : at + 4], "little") for at in range(24, 40, 4))
        assert size == [64, 64]
        assert x + 64 <= width
        assert y + 64 <= height
