"""The render thread beside the loop: what is handed over, pauses, set-up in the middle of calls, news, the end."""

import errno
import os
import select
import threading
import time

import pytest

from backend._core import ffi, lib
from tests.backend.fake_renderer import fake
from tests.backend.renderkit import MESSAGE, RenderKit, create_3d, ctx_create, fence, ops_address, submit
from tests.backend.ringkit import OK, Kit, create_2d, flush, get_display_info, move_cursor, set_scanout, transfer

DISPLAY_INFO = 0x1101


def ops() -> object:
    return ffi.cast("void *", ops_address())


def threads() -> list[str]:
    names = []
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/comm") as comm:
            names.append(comm.read().strip())
    return names


# ---- the beginning


def test_a_renderer_that_does_not_open_says_why_and_leaves_nothing() -> None:
    with Kit() as kit:
        table, why = ops(), ffi.new("char[]", 100)
        fake.fake_fail(b"open", -errno.ENODEV)
        fds = len(os.listdir("/proc/self/fd"))
        assert lib.vg_render_start(kit.core, table, b"/dev/null", why, 100) == -errno.ENODEV
        assert ffi.string(why) == b"it fails as told"
        assert RenderKit.calls() == ["open /dev/null"]
        assert lib.vg_render_news_fd(kit.core) == -1
        assert len(os.listdir("/proc/self/fd")) == fds
        assert "render" not in threads()


def test_one_renderer_is_enough() -> None:
    with RenderKit() as kit:
        why = ffi.new("char[]", 100)
        assert lib.vg_render_start(kit.core, ops(), ffi.NULL, why, 100) == -errno.EINVAL
        assert ffi.string(why) == b"there is a renderer"


def test_capability_sets_are_read_at_the_start() -> None:
    with RenderKit() as kit:
        version, size = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        assert lib.vg_render_capset(kit.core, 2, version, size) == 0
        assert (version[0], size[0]) == (2, 200)
        data = ffi.new("uint8_t[]", 200)
        assert lib.vg_render_fill_capset(kit.core, 2, data) == 0
        assert bytes(ffi.buffer(data)) == b"\x42" * 200
        for unknown in (0, 3, 7, 8, 2**32 - 1):
            assert lib.vg_render_capset(kit.core, unknown, version, size) == -errno.ENOENT
            assert lib.vg_render_fill_capset(kit.core, unknown, data) == -errno.ENOENT


def test_it_begins_when_it_is_resumed() -> None:
    with RenderKit(resume=False) as kit:
        (chain,) = kit.post(ctx_create(1))
        assert kit.calls() == ["open -"]
        assert not kit.control.take_used()
        lib.vg_render_resume(kit.core)
        assert kit.collect(1) == [chain.head]


def test_the_end_leaves_no_thread_and_no_descriptor() -> None:
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with RenderKit() as kit:
            kit.do(ctx_create(1))
            assert "render" in threads()
        assert kit.calls()[-1] == "close"
        assert "render" not in threads()
    assert len(os.listdir("/proc/self/fd")) == fds


def test_the_loop_leaves_the_control_queue_alone() -> None:
    with RenderKit(resume=False) as kit:
        kit.post(ctx_create(1))
        assert kit.control.drain() == lib.VG_DRAIN_STOPPED


# ---- what is handed over


def test_a_command_for_the_loop_keeps_its_place_between_others() -> None:
    with RenderKit() as kit:
        before, mine, after = kit.post(ctx_create(1), get_display_info(), submit(1), reply=408)
        assert kit.wait_request() == 0x100
        assert kit.collect(1) == [before.head]
        assert kit.none_comes()
        assert kit.calls("submit") == []
        kit.complete_request(DISPLAY_INFO, b"y" * 384)
        assert kit.collect(2) == [mine.head, after.head]
        assert kit.reply(mine)[24:] == b"y" * 384


def test_fences_go_on_while_the_loop_thinks() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        chains = kit.post(submit(1, **fence(1, 1)), get_display_info(), reply=408)
        kit.wait_request()
        kit.retire(1)
        assert kit.collect(1) == [chains[0].head]
        kit.complete_request(OK)
        assert kit.collect(1) == [chains[1].head]


def test_a_command_that_the_loop_drops_lets_the_ring_go_on() -> None:
    with RenderKit() as kit:
        kit.post(get_display_info(), reply=408)
        kit.wait_request()
        lib.vg_request_drop(kit.core, kit.request)
        assert kit.do(ctx_create(1)) == [OK]


def test_many_turns_between_thread_and_loop() -> None:
    with RenderKit(num=64, ram_size=1 << 22) as kit:
        kit.do(ctx_create(1))
        for _ in range(100):
            chains = kit.post(submit(1), get_display_info(), submit(1, **fence(1, 1)), reply=408)
            kit.wait_request()
            kit.complete_request(OK)
            assert kit.collect(3) == [chain.head for chain in chains]


def test_frames_are_news() -> None:
    with RenderKit() as kit:
        kit.make_resource(4, 8, 8)
        kit.do(set_scanout(0, 4, 8, 8))
        kit.wait(lambda: lib.vg_take_dirty(kit.core) == 1)


def test_frames_are_news_once_until_they_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is not woken for what it knows of; what comes after it has taken that is news again."""
    with RenderKit() as kit:
        told: list[bool] = []
        drawn = transfer(4, 8, 8), flush(4, 8, 8)
        serve = kit.serve_news
        monkeypatch.setattr(kit, "serve_news", lambda: (told.append(True), serve()))
        kit.make_resource(4, 8, 8)
        kit.do(ctx_create(1), set_scanout(0, 4, 8, 8))
        for _ in range(3):
            kit.wait(lambda: told)
            for number in range(5):
                kit.do(*drawn, submit(1, **fence(number, 1)))
            kit.settle_down()
            assert not select.select([kit.news], [], [], 0)[0]
            assert len(told) == 1
            told.clear()
            assert lib.vg_take_dirty(kit.core) == 1
            kit.do(*drawn)


def test_what_the_renderer_says_is_heard_even_in_a_long_call() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        with kit.hanging("submit"):
            kit.post(submit(1))
            kit.wait_hanging()
            fake.fake_say(b"shader is odd")
            kit.wait(lambda: kit.events)
            assert kit.events == [(MESSAGE, 0, "shader is odd")]
        kit.collect(1)


def test_too_many_words_are_counted() -> None:
    with RenderKit() as kit:
        for _ in range(50):
            fake.fake_say(b"x" * 400)
        event, lost, texts = ffi.new("vg_render_event *"), 0, []
        while lib.vg_render_take_event(kit.core, event):
            lost += event.lost
            texts.append(ffi.string(event.text))
        assert texts == [b"x" * 179] * 8
        assert lost == 42


# ---- pauses and set-up


def test_nothing_happens_in_a_pause() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        lib.vg_render_pause(kit.core, 0)
        lib.vg_render_pause(kit.core, 0)
        (chain,) = kit.post(submit(1))
        lib.vg_set_features(kit.core, kit.features)
        assert kit.calls("submit") == []
        lib.vg_render_resume(kit.core)
        assert kit.collect(1) == [chain.head]


@pytest.mark.parametrize("kick", [True, False])
def test_a_new_kick_eventfd_or_none(kick: bool) -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        other = os.eventfd(0, os.EFD_NONBLOCK)
        lib.vg_queue_set_kick(kit.core, 0, other if kick else -1)
        kit.resume()
        (chain,) = kit.post(submit(1))
        os.eventfd_write(other, 1)
        assert kit.collect(1) == [chain.head]
        lib.vg_queue_set_kick(kit.core, 0, kit.control.kick)
        os.close(other)


def test_the_queue_is_stopped_and_started_in_the_middle_of_a_call() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        with kit.hanging("submit"):
            kit.post(submit(1), submit(1))
            kit.wait_hanging()
            fake.fake_release_soon()
            lib.vg_queue_set_started(kit.core, 0, 0)
        base = ffi.new("uint32_t *")
        assert lib.vg_queue_get_base(kit.core, 0, base) == 0
        assert base[0] == 2  # the first is done, the second waits in the ring
        assert kit.collect(1)
        lib.vg_queue_set_base(kit.core, 0, base[0])
        lib.vg_queue_set_started(kit.core, 0, 1)
        kit.resume()
        assert kit.collect(1)


def test_reset_in_the_middle_of_a_call() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 8))
        with kit.hanging("submit"):
            kit.post(submit(1))
            kit.wait_hanging()
            fake.fake_release_soon()
            lib.vg_device_reset(kit.core)
        assert fake.fake_num_resources() == 0
        kit.collect(1)
        assert kit.do(submit(1), ctx_create(1), submit(1)) == [0x1204, OK, OK]


def test_the_loops_part_of_the_device_is_open_during_a_long_call() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        kit.make_resource(4, 64, 64)
        with kit.hanging("submit"):
            kit.post(submit(1))
            kit.wait_hanging()
            kit.move_cursor(move_cursor(0, 7, 8))
            assert lib.vg_take_dirty(kit.core) == 1 << 16
            assert kit.hostmem_used() > 0
            assert kit.control.info().started
        kit.collect(1)


def test_the_loop_gets_in_while_the_ring_is_never_empty() -> None:
    """The guest feeds the ring from a thread of its own; each look at the device ends."""
    with RenderKit(num=64, ram_size=1 << 24) as kit:
        kit.do(create_2d(4, 8, 8))
        stop = threading.Event()

        def feed() -> None:
            while not stop.is_set():
                kit.next = max(kit.next % (1 << 24), kit.ram.gpa + (1 << 20)) if kit.next > kit.ram.gpa + (
                    1 << 23
                ) else kit.next  # fmt: skip
                chains = kit.post(*(flush(4, 8, 8) for _ in range(16)))
                taken = 0
                while taken < len(chains):
                    taken += len(kit.control.take_used())
                    os.sched_yield()

        guest = threading.Thread(target=feed)
        guest.start()
        try:
            for _ in range(2000):
                kit.hostmem_used()
            lib.vg_device_reset(kit.core)
        finally:
            stop.set()
            guest.join()


def test_an_idle_thread_sleeps() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), submit(1, **fence(1, 1)))
        kit.settle_down()
        time.sleep(0.1)  # it goes to sleep
        before = switches("render")
        time.sleep(0.3)
        assert switches("render") == before


def switches(name: str) -> int:
    """How often the thread of this name has gone to sleep."""
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/status") as status:
            fields = dict(line.split(":\t", 1) for line in status.read().splitlines() if ":\t" in line)
        if fields["Name"] == name:
            return int(fields["voluntary_ctxt_switches"])
    raise AssertionError(f"no thread {name}")
