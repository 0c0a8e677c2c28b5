"""The balls: they stay in the box, keep their energy, and follow from the size alone."""

import math
from itertools import combinations

import pytest

from vhost_gpu.guest.balls import BALLS, Ball, Balls, _collide

SIZES = [(864, 1080), (1280, 800), (64, 48), (16, 16)]


def energy(balls):
    return sum(ball.radius**2 * (ball.dx**2 + ball.dy**2) for ball in balls.balls)


@pytest.mark.parametrize("size", SIZES)
def test_no_ball_leaves_the_box(size):
    balls = Balls(*size)
    for _ in range(2000):
        balls.step()
        for ball in balls.balls:
            assert ball.radius <= ball.x <= size[0] - ball.radius
            assert ball.radius <= ball.y <= size[1] - ball.radius


@pytest.mark.parametrize("size", SIZES)
def test_the_first_frame_shows_twelve_balls_apart_from_each_other(size):
    balls = Balls(*size).balls
    assert len(balls) == BALLS == 12
    assert len({ball.colour for ball in balls}) == BALLS
    for one, other in combinations(balls, 2):
        assert math.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius


def test_bouncing_costs_no_energy():
    balls = Balls(864, 1080)
    before = energy(balls)
    directions = [(ball.dx, ball.dy) for ball in balls.balls]
    for _ in range(2000):
        balls.step()
    assert energy(balls) == pytest.approx(before)
    assert all((ball.dx, ball.dy) != old for ball, old in zip(balls.balls, directions, strict=True))


def test_two_runs_are_the_same():
    runs = [Balls(1280, 800), Balls(1280, 800)]
    for balls in runs:
        for _ in range(500):
            balls.step()
    assert runs[0].balls == runs[1].balls
    assert runs[0].frame == 500


def test_equal_balls_that_meet_swap_speeds():
    one, other = Ball(0, 0, 1, 0, 5, (0, 0, 0)), Ball(9, 0, -2, 0, 5, (0, 0, 0))
    _collide(one, other)
    assert (one.dx, other.dx) == pytest.approx((-2, 1))


def test_balls_that_part_are_left_alone():
    one, other = Ball(0, 0, -1, 0, 5, (0, 0, 0)), Ball(9, 0, 2, 0, 5, (0, 0, 0))
    _collide(one, other)
    assert (one.dx, other.dx) == (-1, 2)
