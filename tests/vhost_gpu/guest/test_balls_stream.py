"""The balls as streams: what is in a frame. That it is the right picture, the tests of pictures show."""

import struct

import pytest

from protocol.virgl_const import Command, ObjectType, Primitive
from tests.vhost_gpu.guest.streamkit import commands
from vhost_gpu.guest.balls import BALLS, Ball, Balls
from vhost_gpu.guest.balls_stream import FAN, VERTEX_SIZE, BallsStream, buffer_size, vertices

PICTURE, VERTICES = 7, 8
STREAM = BallsStream(PICTURE, VERTICES, 864, 1080)


def of(kind, stream):
    """The payloads of all commands of a kind."""
    return [payload for command, _, payload in commands(stream) if command == kind]


def test_setting_up_makes_every_object_once():
    made = [kind for command, kind, _ in commands(STREAM.setup()) if command == Command.CREATE_OBJECT]
    wanted = {ObjectType.SURFACE, ObjectType.BLEND, ObjectType.DSA, ObjectType.RASTERIZER, ObjectType.VERTEX_ELEMENTS}
    assert sorted(made) == sorted([*wanted, ObjectType.SHADER, ObjectType.SHADER])
    handles = [payload[0] for payload in of(Command.CREATE_OBJECT, STREAM.setup())]
    assert len(set(handles)) == len(handles)


def test_a_frame_states_everything_clears_once_and_draws_each_ball():
    names = [command for command, _, _ in commands(STREAM.frame(Balls(864, 1080).balls))]
    state = [
        *(Command.SET_SUB_CTX, Command.SET_FRAMEBUFFER_STATE, Command.SET_VIEWPORT_STATE),
        *[Command.BIND_OBJECT] * 4,
        *[Command.BIND_SHADER] * 2,
    ]
    rest = [Command.CLEAR, Command.RESOURCE_INLINE_WRITE, Command.SET_VERTEX_BUFFERS]
    assert names == state + rest + [Command.DRAW_VBO] * BALLS


def test_each_ball_is_a_triangle_fan_of_its_own():
    draws = of(Command.DRAW_VBO, STREAM.frame(Balls(864, 1080).balls))
    assert [draw[:3] for draw in draws] == [(i * FAN, FAN, Primitive.TRIANGLE_FAN) for i in range(BALLS)]


def test_the_vertex_buffer_has_no_start_slot_and_holds_all_balls():
    stream = STREAM.frame(Balls(864, 1080).balls)
    assert of(Command.SET_VERTEX_BUFFERS, stream) == [(VERTEX_SIZE, 0, VERTICES)]
    (write,) = of(Command.RESOURCE_INLINE_WRITE, stream)
    assert write[0] == VERTICES
    assert len(write) - 11 == buffer_size() // 4


def test_only_the_vertices_differ_from_frame_to_frame():
    balls = Balls(864, 1080)
    first = STREAM.frame(balls.balls)
    balls.step()
    second = STREAM.frame(balls.balls)
    assert first != second
    assert [name for name, _, _ in commands(first)] == [name for name, _, _ in commands(second)]
    assert len(first) == len(second)


@pytest.mark.parametrize("size", [(864, 1080), (100, 50)])
def test_pixels_become_clip_coordinates_with_y_up(size):
    width, height = size
    ball = Ball(width / 4, height / 4, 0, 0, 10, (0.5, 0.5, 0.5))
    fan = list(struct.iter_unpack("<6f", vertices([ball], width, height)))
    assert len(fan) == FAN
    assert fan[1] == fan[-1], "the rim is closed"
    rim = [((x + 1) / 2 * width, (1 - y) / 2 * height) for x, y, *_ in fan[1:]]
    for x, y in rim:
        assert (x - ball.x) ** 2 + (y - ball.y) ** 2 == pytest.approx(100, rel=1e-3)
    spot_x, spot_y, *spot = fan[0]
    assert spot_x < -0.5 < spot_y
    assert spot[:3] > list(fan[1][2:5])
    assert spot[3] == fan[1][5] == 1
