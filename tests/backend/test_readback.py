"""Frames of a guest that draws faster than screens show: fewer are read back, the last one always."""

import struct
import time

import pytest

from backend._core import lib
from tests.backend.fake_renderer import fake
from tests.backend.renderkit import RenderKit, create_3d, ctx_create, fill, submit, unref
from tests.backend.ringkit import OK, flush, header, set_scanout
from tests.backend.test_render_resources import frame, pixel, shown

LONG = 2**32 - 1  # times the time that it took: as long as a rest can be
REST = 15_000_000  # ns
ENDLESS = 10**15


class FastKit(RenderKit):
    """Two resources, one on the screen; every read-back is followed by the longest rest.

    Args:
        rest: how long that is, in ns. ENDLESS: until ``end_rest``, however late this thread is.
    """

    def __init__(self, rest: int = REST) -> None:
        super().__init__(num=64)
        self.do(ctx_create(1), create_3d(5, 8, 4), create_3d(6, 8, 4))
        self.do(submit(1, fill(5, 1)), set_scanout(0, 5, 8, 4))
        lib.vg_render_set_rest(self.core, LONG, rest)

    def serve_news(self) -> None:
        """The loop takes the frames that it is told of: there are no more news otherwise."""
        super().serve_news()
        lib.vg_take_dirty(self.core)

    def draw(self, resource: int, value: int) -> None:
        assert self.do(submit(1, fill(resource, value)), flush(resource, 8, 4)) == [OK, OK]

    def flip(self, resource: int, value: int) -> None:
        assert (
            self.do(submit(1, fill(resource, value)), set_scanout(0, resource, 8, 4), flush(resource, 8, 4)) == [OK] * 3
        )

    def end_rest(self) -> None:
        """There are no more rests from here on."""
        lib.vg_render_set_rest(self.core, 0, 0)

    def wait_shown(self, value: int) -> None:
        self.wait(lambda: shown(self) == pixel(value, 32))


def test_what_is_flushed_in_the_rest_comes_after_it() -> None:
    with FastKit() as kit:
        kit.draw(5, 2)
        assert shown(kit) == pixel(2, 32)
        kit.draw(5, 3)
        kit.wait_shown(3)
        assert frame(kit).sequence == 3


def test_many_frames_take_few_reads_and_the_last_is_shown() -> None:
    with FastKit(ENDLESS) as kit:
        kit.draw(5, 100)
        fake.fake_clear_calls()
        for value in range(100):
            kit.draw(5, value)
        assert kit.calls("read_rect") == []
        kit.end_rest()
        kit.wait_shown(99)
        assert len(kit.calls("read_rect")) == 1


def test_a_guest_that_draws_far_more_is_shown_every_other_frame() -> None:
    """A rest is 15 ms, and after one with many flushes 30. Should this thread be late, it only takes longer."""
    with FastKit() as kit:
        start = time.monotonic()
        for value in range(6):
            kit.do_at_once(*([submit(1, fill(5, value)), flush(5, 8, 4)] * 10))
            kit.wait_shown(value)
        assert time.monotonic() - start > 0.12


@pytest.mark.parametrize("last", [5, 6])
def test_page_flips_in_the_rest(last: int) -> None:
    with FastKit(ENDLESS) as kit:
        kit.draw(5, 100)
        fake.fake_clear_calls()
        for value in range(30):
            kit.flip(6 if value % 2 else 5, value)
        kit.flip(last, 107)
        assert kit.calls("read_rect") == []
        kit.end_rest()
        kit.wait_shown(107)
        assert frame(kit).resource_id == last
        assert len(kit.calls("read_rect")) == 1


def test_damage_of_the_rest_adds_up() -> None:
    with FastKit(ENDLESS) as kit:
        kit.draw(5, 2)
        fake.fake_clear_calls()
        assert kit.do(submit(1, fill(5, 3))) == [OK]
        for x, y in ((1, 1), (4, 2)):
            assert kit.do(header(0x104) + struct.pack("<6I", x, y, 1, 1, 5, 0)) == [OK]
        kit.end_rest()
        kit.wait(lambda: kit.calls("read_rect"))
        assert kit.calls("read_rect") == ["read_rect 5 4x2@1,1"]


def test_another_mode_is_shown_at_once() -> None:
    with FastKit() as kit:
        kit.draw(5, 2)
        kit.do(create_3d(7, 4, 4), submit(1, fill(7, 9)), set_scanout(0, 7, 4, 4))
        assert shown(kit) == pixel(9, 16)


def test_a_frame_that_is_owed_comes_though_the_guest_draws_on() -> None:
    with FastKit() as kit:
        kit.draw(5, 2)
        kit.draw(5, 3)
        kit.do(submit(1, fill(5, 4)))  # and never flushes
        kit.wait(lambda: shown(kit) != pixel(2, 32))


def test_what_is_owed_goes_with_its_resource() -> None:
    with FastKit() as kit:
        kit.draw(5, 2)
        kit.draw(5, 3)
        kit.flip(6, 4)
        assert kit.do(unref(5)) == [OK]
        kit.wait_shown(4)
        assert kit.do(unref(6), create_3d(6, 8, 4), set_scanout(0, 6, 8, 4)) == [OK] * 3
        assert shown(kit) == pixel(0, 32)


def test_a_reset_forgets_what_is_owed() -> None:
    with FastKit() as kit:
        kit.draw(5, 2)
        kit.draw(5, 3)
        kit.reset()
        assert kit.do(ctx_create(1), create_3d(5, 8, 4)) == [OK, OK]
        kit.settle_down()
        assert frame(kit).resource_id == 0
