"""Viewers in C, against a daemon's end in Python."""

import socket

import pytest

from protocol.viewer import Error, ErrorCode, Frame, FrameDone, Hello, decode_from_viewer, encode
from protocol.virtio_gpu import Rect
from tests.vhost_gpu.bench.benchkit import OURS
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.target import Target
from vhost_gpu.bench.viewers import Mode, Viewer


def frame(sequence, skipped=0):
    return encode(Frame(0, 2, 1, sequence, 1, 7, 0, 0, skipped, (Rect(0, 0, 10, 10), Rect(20, 0, 5, 2))))


@pytest.fixture
def pair():
    """The daemon's end and the viewer's, to be taken over."""
    daemon, viewer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon.settimeout(10)
    with daemon:
        yield daemon, viewer


@pytest.mark.parametrize("mode", [Mode.PROMPT, Mode.PACED])
def test_frames_are_counted_and_answered(pair, mode):
    daemon, connection = pair
    viewer = Viewer(connection, mode, 1000)
    assert decode_from_viewer(daemon.recv(1024)) == Hello()
    for sequence in (1, 2):
        daemon.send(frame(sequence, skipped=3))
        assert decode_from_viewer(daemon.recv(1024)) == FrameDone(0, sequence)
    seen = viewer.seen()
    viewer.close()
    assert (seen.frames, seen.damage_pixels, seen.skipped, seen.errors) == (2, 220, 6, 0)
    assert seen.latency > 0


def test_a_stalled_viewer_reads_and_does_not_answer(pair):
    daemon, connection = pair
    viewer = Viewer(connection, Mode.STALLED, 60)
    daemon.recv(1024)
    daemon.send(frame(1))
    viewer.wait_frame()
    viewer.close()
    assert viewer.seen().frames == 1
    assert daemon.recv(1024) == b""


def test_a_daemon_that_refuses_is_reported(pair):
    daemon, connection = pair
    viewer = Viewer(connection, Mode.PROMPT, 60)
    daemon.send(encode(Error(ErrorCode.NO_SESSION, "no")))
    with pytest.raises(BenchError, match="no frame"):
        viewer.wait_frame()
    viewer.close()


def test_our_daemon_sends_frames():
    with Target.start(OURS) as target, BenchGuest.open(target) as guest:
        surface = guest.surface(64, 64)
        guest.show(surface)
        with Viewer.watch(target) as viewer:
            viewer.wait_frame()
            assert viewer.seen().damage_pixels == 64 * 64
