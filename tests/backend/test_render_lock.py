"""A renderer that hangs: it is given up, its command and its fences are answered, 2D goes on in the loop."""

import gc
import select

import pytest

from backend._core import ffi, lib
from tests.backend.fake_renderer import fake
from tests.backend.renderkit import (
    LOST,
    RenderKit,
    create_3d,
    ctx_create,
    detach_backing,
    fence,
    fill,
    submit,
    transfer_3d,
    unref,
)
from tests.backend.ringkit import (
    ERR_UNSPEC,
    OK,
    RAM_GPA,
    attach_backing,
    create_2d,
    flush,
    get_display_info,
    move_cursor,
    set_scanout,
    transfer,
    update_cursor,
)

MOMENT_MS = 50


class LostKit(RenderKit):
    """Its renderer has little time; ``lose`` uses it up in a call of this name."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        lib.vg_render_set_limits(self.core, MOMENT_MS, MOMENT_MS)

    def hang_in(self, name: str, *requests: bytes) -> list[object]:
        fake.fake_hang(name.encode())
        chains = self.post(*requests)
        self.wait_hanging()
        return chains

    def lose(self, name: str, *requests: bytes) -> list[object]:
        chains = self.hang_in(name, *requests)
        self.wait(lambda: self.events)
        assert [kind for kind, _, _ in self.events] == [LOST]
        return chains

    def drain_all(self) -> None:
        """The loop's turn."""
        while (state := self.control.drain()) == lib.VG_DRAIN_REQUEST:
            self.control.complete()
        assert state == lib.VG_DRAIN_IDLE

    def serve(self, *requests: bytes) -> list[int]:
        chains = self.post(*requests)
        self.drain_all()
        assert len(self.control.take_used()) == len(chains)
        return [self.type_of(chain) for chain in chains]


def test_the_command_in_hand_and_the_fences_are_answered() -> None:
    with LostKit(hold=True) as kit:
        kit.do(ctx_create(1))
        (early,) = kit.post(submit(1, **fence(1, 1)))
        kit.settle_down()
        (hung,) = kit.lose("submit", submit(1, **fence(2, 1)))
        assert kit.collect(2) == [early.head, hung.head]
        assert (kit.type_of(early), kit.type_of(hung)) == (OK, ERR_UNSPEC)
        assert kit.reply(hung)[8:16] == b"\x02" + bytes(7)
        assert lib.vg_render_lost(kit.core)


def test_2d_goes_on_and_3d_fails() -> None:
    with LostKit() as kit:
        kit.make_resource(4, 8, 8)
        kit.do(ctx_create(1), create_3d(5, 64, 64), attach_backing(5, [(RAM_GPA, 64)]), set_scanout(0, 5, 64, 64))
        kit.lose("submit", submit(1))
        kit.collect(1)
        assert kit.serve(create_2d(7, 8, 8), attach_backing(7, [(RAM_GPA, 256)]), transfer(7, 8, 8)) == [OK] * 3
        assert kit.serve(set_scanout(0, 7, 8, 8), flush(7, 8, 8), detach_backing(7), unref(7)) == [OK] * 4
        broken = [submit(1), ctx_create(2), create_3d(8, 4, 4), transfer_3d(5, 4, 4), transfer_3d(4, 4, 4)]
        broken += [set_scanout(0, 5, 64, 64), transfer(5, 4, 4)]
        assert kit.serve(*broken) == [ERR_UNSPEC] * len(broken)
        assert kit.serve(detach_backing(5), unref(5), transfer(4, 8, 8)) == [OK] * 3
        kit.move_cursor(move_cursor(0, 1, 2))
        kit.move_cursor(update_cursor(0, 1, 2, 5))
        lib.vg_device_reset(kit.core)
        assert kit.serve(create_2d(4, 8, 8), flush(4, 8, 8)) == [OK, OK]


def test_commands_for_the_loop_come_from_the_drain() -> None:
    with LostKit() as kit:
        kit.do(ctx_create(1))
        kit.lose("submit", submit(1))
        kit.collect(1)
        assert kit.serve(get_display_info()) == [OK]


@pytest.mark.parametrize("late", [True, False], ids=["it comes back", "it never does"])
@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("submit", submit(1, fill(5, 7))),
        ("transfer", transfer_3d(5, 8, 8, to_host=False)),
        ("read_rect", flush(5, 8, 8)),
        ("write_rect", transfer_3d(4, 8, 8)),
        ("resource_create", create_3d(9, 4, 4)),
        ("ctx_create", ctx_create(3)),
        ("attach_iov", attach_backing(6, [(RAM_GPA, 64)])),
        ("fence", submit(1, **fence(1, 1))),
    ],
)
def test_lost_in_any_call_and_whatever_it_still_does_harms_nobody(name: str, request_: bytes, late: bool) -> None:
    with LostKit() as kit:
        kit.make_resource(4, 8, 8)
        kit.do(ctx_create(1), create_3d(5, 8, 8), create_3d(6, 4, 4), attach_backing(5, [(RAM_GPA, 256)]))
        kit.do(transfer(4, 8, 8), set_scanout(0, 5, 8, 8), submit(1))
        kit.lose(name, request_)
        kit.collect(1)
        lib.vg_device_reset(kit.core)
        kit.ram.remove()  # what the call may still write to is nobody's now
        if late:
            fake.fake_release()
    fake.fake_release()
    gc.collect()


@pytest.mark.parametrize("what", ["memory", "reset", "stop", "pause", "end"])
def test_what_must_wait_for_the_renderer_waits_so_long_only(what: str) -> None:
    with LostKit() as kit:
        lib.vg_render_set_limits(kit.core, 60_000, MOMENT_MS)
        kit.do(ctx_create(1), create_3d(5, 8, 8), attach_backing(5, [(RAM_GPA, 256)]))
        (chain,) = kit.hang_in("submit", submit(1))
        if what == "memory":
            kit.ram.remove()
        elif what == "reset":
            lib.vg_device_reset(kit.core)
        elif what == "stop":
            lib.vg_queue_set_started(kit.core, 0, 0)
        elif what == "pause":
            lib.vg_render_pause(kit.core, 1)
        if what != "end":
            assert lib.vg_render_lost(kit.core)
            assert kit.type_of(chain) == (ERR_UNSPEC if what != "memory" else 0) or what == "memory"


def test_a_command_with_the_loop_survives_the_loss() -> None:
    with LostKit(hold=True) as kit:
        kit.do(ctx_create(1))
        _, mine = kit.post(submit(1, **fence(1, 1)), get_display_info(), reply=408)
        kit.wait_request()
        fake.fake_hang(b"poll")
        kit.wait_hanging()
        kit.wait(lambda: kit.events)
        kit.complete_request(OK)
        assert mine.head in kit.collect(2)
        assert kit.serve(create_2d(9, 4, 4)) == [OK]


def test_short_calls_in_a_row_are_not_one_long_one() -> None:
    with LostKit() as kit:
        kit.do(ctx_create(1))
        readable: list[int] = []
        while not readable:  # until the timer has gone off
            kit.do(submit(1))
            kit.next = kit.start_of_requests()
            readable, _, _ = select.select([kit.news], [], [], 0)
        kit.serve_news()
        assert not kit.events
        assert kit.do(submit(1)) == [OK]
        assert not lib.vg_render_lost(kit.core)


def test_a_lost_renderer_is_told_once() -> None:
    with LostKit() as kit:
        kit.do(ctx_create(1))
        kit.lose("submit", submit(1))
        fake.fake_release()
        event = ffi.new("vg_render_event *")
        select.select([kit.news], [], [], MOMENT_MS * 3 / 1000)
        kit.serve_news()
        assert len(kit.events) == 1
        assert not lib.vg_render_take_event(kit.core, event)
