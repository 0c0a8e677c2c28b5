"""The benchmark's guest on both back-ends."""

import pytest

from protocol.virtio_gpu import Rect
from tests.vhost_gpu.bench.benchkit import OURS, THEIRS
from vhost_gpu.bench.guest import BenchGuest, settle
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.memory import MIB, PAGE

PROGRAMS = pytest.mark.parametrize("program", [OURS, THEIRS], ids=lambda program: program.name)


@PROGRAMS
def test_what_is_flushed_reaches_the_display_once(program):
    with Target.start(program) as target, BenchGuest.open(target) as guest:
        surface = guest.surface(64, 64, scattered=True)
        guest.show(surface)
        settle(guest)
        before = guest.display.drawn().pixel_bytes
        guest.control.run([surface.update(Rect(8, 8, 16, 16))], count=1)
        settle(guest)
        drawn = guest.display.drawn()
    assert drawn.pixel_bytes - before == 16 * 16 * 4
    assert drawn.violations == 0


def test_scattered_backing_has_every_page_once_in_another_order():
    with Target.start(OURS) as target, BenchGuest.open(target) as guest:
        linear = guest.surface(100, 100)
        scattered = guest.surface_over(linear, scattered=True)
    (whole,) = linear.pieces
    gpas = [piece.gpa for piece in scattered.pieces]
    assert sorted(gpas) == list(range(whole.gpa, whole.gpa + whole.length, PAGE))
    assert gpas != sorted(gpas)


def test_a_scanout_changes_after_the_loop_has_taken_over():
    with Target.start(OURS) as target, BenchGuest.open(target) as guest:
        first, second = guest.surface(64, 64), guest.surface(32, 32)
        guest.show(first)
        guest.control.run([first.update()], count=1)
        guest.show(second)
        run = guest.control.run([second.update()], count=3)
    assert run.operations == 3


def test_a_guest_without_a_display():
    with Target.start(OURS) as target, BenchGuest.open(target, modes=None) as guest:
        surface = guest.surface(64, 64)
        guest.show(surface)
        assert guest.control.run([surface.update()], count=2).commands == 4
        assert guest.display.opened == 0


def test_a_command_that_fails_in_the_set_up_is_reported():
    with (
        Target.start(OURS) as target,
        BenchGuest.open(target) as guest,
        pytest.raises(BenchError, match=r"ours: .*ERR_INVALID_RESOURCE_ID"),
    ):
        guest.do(guest.gpu.unref(77))


def test_a_back_end_that_is_gone_is_reported():
    with Target.start(OURS) as target:
        connection = target.connect
        target.connect = lambda: _closed(connection())
        with pytest.raises(BenchError), BenchGuest(target, memory=2 * MIB):
            pass


def _closed(sock):
    sock.shutdown(2)
    return sock
