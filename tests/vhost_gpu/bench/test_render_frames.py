"""3D frames, measured on ours."""

import pytest

from protocol.virgl_const import Command
from protocol.virtio_gpu import CommandType, ControlHeader
from tests.vhost_gpu.bench.benchkit import OURS, figures
from tests.vhost_gpu.guest.streamkit import commands
from vhost_gpu.bench import direct
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.render import VIRGL
from vhost_gpu.bench.render_frames import SIZES, Stage, balls_streams, job, resources, slow_stream
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.balls import BALLS
from vhost_gpu.guest.driver3d import VIRGL_FEATURES

ZERO_WHEN_IDLE = {"wakeups", "idle"}


@pytest.mark.parametrize("name", ["balls-864x1080", "balls-1280x800", "idle-3d", "cursor-3d"])
def test_frames_are_drawn_and_timed(name):
    values = figures(name)
    assert min(value for figure, value in values.items() if figure not in {"delivered", *ZERO_WHEN_IDLE}) > 0


def test_device_and_renderer_get_the_same_streams():
    size = SIZES[0]
    streams = balls_streams(size, 3)
    with Target.start(OURS, VIRGL) as target, BenchGuest.open(target, features=VIRGL_FEATURES) as guest:
        stage = Stage.build(guest, size)
        operations = stage.frames(streams)
        sent = [guest.memory.read(submit.payload.gpa, submit.payload.length) for submit, _ in operations]
        assert sent == streams == list(job(size, streams, 1).streams)
        assert job(size, streams, 1).setup == stage.stream.setup()
        types = {tuple(ControlHeader.decode(command.request).type for command in each) for each in operations}
        assert types == {(CommandType.SUBMIT_3D, CommandType.RESOURCE_FLUSH)}
        assert [operations[0][0].request[24:28], len(streams[0])] == [
            len(streams[0]).to_bytes(4, "little"),
            len(sent[0]),
        ]


def test_frames_move():
    streams = balls_streams((100, 80), 3)
    assert len(set(streams)) == 3


def test_a_slow_frame_paints_everything_again_and_again():
    names = [name for name, _, _ in commands(slow_stream((100, 80), 7))]
    assert names.count(Command.DRAW_VBO) == 7
    assert BALLS > names.count(Command.CLEAR) == 1


def test_a_slow_stream_is_one_that_the_renderer_takes():
    size = (100, 80)
    assert direct.measure(job(size, [slow_stream(size, 3)], 0.02, read=resources(size)[0].id)).rate > 0
