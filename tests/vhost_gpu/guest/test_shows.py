"""Shows on real devices: the 2D one on ours without 3D, the balls on ours with it."""

import asyncio

import pytest

from tests.vhost_gpu.guestkit import guest_on, own_device
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver3d import No3d
from vhost_gpu.guest.shows import SCENES, BallsShow, PaintedShow, ScatteredShow, Show

SIZE = (160, 120)


def colours(display):
    """The colours on the VMM's screen."""
    picture = display.pictures[0]
    return {bytes(picture.pixels[at : at + 3]) for at in range(0, len(picture.pixels), 4)}


@pytest.mark.parametrize("kind", [PaintedShow, ScatteredShow, BallsShow])
async def test_frames_come_to_the_screen_until_the_end(kind):
    display = VmmDisplay([SIZE])
    async with (
        own_device(*kind.DAEMON_OPTIONS) as process,
        guest_on(process, display=display, features=kind.FEATURES) as gpu,
    ):
        show = await kind.create(gpu, *SIZE)
        await display.wait_until(lambda d: 0 in d.pictures and len(colours(d)) > 12)
        first = bytes(display.pictures[0].pixels)
        stop = asyncio.Event()
        painting = asyncio.ensure_future(show.paint(stop, 0))
        await display.wait_until(lambda d: d.pictures[0].pixels != first)
        stop.set()
        await painting
        assert show.frames > 0
        assert show.rate == pytest.approx(show.frames / show.seconds)
        assert (display.pictures[0].width, display.pictures[0].height) == SIZE
    assert display.violations == []


async def test_the_balls_want_3d():
    async with own_device() as process, guest_on(process, features=BallsShow.FEATURES) as gpu:
        with pytest.raises(No3d, match="--virgl"):
            await BallsShow.create(gpu, *SIZE)


def test_the_first_scene_is_the_2d_one():
    assert next(iter(SCENES.items())) == ("2d", PaintedShow)
    assert set(SCENES) == {"2d", "balls"}


def test_a_show_that_has_not_begun_has_no_rate():
    assert Show(None).rate == 0
