"""Fences: what waits, in which order it comes back on each timeline, with the guest's numbers, in one interrupt."""

import os
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend._core import lib
from tests.backend.fake_renderer import fake
from tests.backend.renderkit import RenderKit, create_3d, ctx_create, ctx_destroy, fence, fill, submit, with_features
from tests.backend.ringkit import (
    FLAG_FENCE,
    FLAG_RING_IDX,
    KINDS,
    OK,
    RING_PACKED,
    create_2d,
    flush,
    get_display_info,
    header,
)

BIG = (1 << 63) | 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("poll_fd", [False, True])
def test_a_fenced_command_waits_and_an_unfenced_one_does_not(kind: str, poll_fd: bool) -> None:
    with RenderKit(hold=True, poll_fd=poll_fd, features=with_features(KINDS[kind] & RING_PACKED)) as kit:
        kit.do(ctx_create(1))
        (late,) = kit.post(submit(1, **fence(9, 1)))
        assert kit.do(submit(1)) == [OK]
        assert kit.none_comes()
        kit.retire(1)
        assert kit.collect(1) == [late.head]
        assert kit.type_of(late) == OK


def test_the_guests_numbers_come_back_whole() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(7))
        (chain,) = kit.post(submit(7, **fence(BIG, 7, 3)))
        kit.collect(1)
        assert struct.unpack("<IIQIB3x", kit.reply(chain)) == (OK, FLAG_FENCE | FLAG_RING_IDX, BIG, 7, 3)


def test_a_fence_done_at_once_costs_one_interrupt() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        for number in range(20):
            kit.control.ask_call()
            kit.control.call_count()
            (chain,) = kit.post(submit(1, **fence(number, 1)))
            kit.wait_call()
            assert kit.control.take_used() == [(chain.head, 24)]
        assert kit.control.info().notified == 21


def test_many_that_are_done_together_cost_one_interrupt() -> None:
    with RenderKit(hold=True, num=64, poll_fd=True) as kit:
        kit.do(ctx_create(1))
        chains = kit.post(*(submit(1, **fence(n, 1)) for n in range(20)))
        assert kit.none_comes()
        kit.control.ask_call()
        kit.control.call_count()
        kit.retire(20)
        kit.wait_call()
        assert kit.control.take_used() == [(chain.head, 24) for chain in chains]
        kit.settle_down()
        assert kit.control.call_count() == 1


def test_a_timelines_order_is_kept_whatever_the_renderer_says() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        chains = kit.post(*(submit(1, **fence(n, 1)) for n in range(3)))
        kit.settle_down()
        kit.retire(2)
        assert kit.collect(2) == [chain.head for chain in chains[:2]]
        kit.retire(1)  # late news of what is back already
        assert kit.none_comes()
        kit.retire(3)
        assert kit.collect(1) == [chains[2].head]


def test_rings_and_contexts_have_timelines_of_their_own() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1), ctx_create(2))
        where = [fence(1, 1), fence(2, 1, 0), fence(3, 1, 5), fence(4, 2, 5)]
        chains = kit.post(submit(1, **where[0]), *(submit(w["ctx_id"], **w) for w in where[1:]))
        kit.settle_down()
        assert kit.calls("fence") == ["fence 0 0 1", "fence 1 0 2", "fence 1 5 3", "fence 2 5 4"]
        for ctx, ring, chain in ((2, 5, chains[3]), (1, 5, chains[2]), (1, 0, chains[1]), (0, 0, chains[0])):
            kit.retire(4, ctx, ring)
            assert kit.collect(1) == [chain.head]


@pytest.mark.parametrize("at_once", [False, True])
def test_news_from_another_thread_is_heard(at_once: bool) -> None:
    with RenderKit(hold=True, poll_fd=True) as kit:
        kit.do(ctx_create(1))
        (chain,) = kit.post(submit(1, **fence(1, 1)))
        kit.settle_down()
        kit.retire(1, at_once=at_once)
        assert kit.collect(1) == [chain.head]


def test_what_is_done_without_the_renderer_waits_only_for_those_before_it() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1), create_2d(4, 8, 8))
        (alone,) = kit.post(flush(4, 8, 8, **fence(1)))
        assert kit.collect(1) == [alone.head]
        first, second, refused = kit.post(
            submit(1, **fence(2, 1)), flush(4, 8, 8, **fence(3)), flush(99, 8, 8, **fence(4))
        )
        assert kit.none_comes()
        assert kit.calls("fence") == ["fence 0 0 1"]
        kit.retire(1)
        assert kit.collect(3) == [first.head, second.head, refused.head]
        assert kit.type_of(refused) == 0x1203


def test_a_fence_covers_what_was_submitted_without_one() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1), create_2d(4, 8, 8), submit(1))
        (behind,) = kit.post(flush(4, 8, 8, **fence(1)))
        assert kit.none_comes()
        kit.retire(1)
        assert kit.collect(1) == [behind.head]


def test_a_command_of_the_loop_keeps_its_place_too() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        (first,) = kit.post(submit(1, **fence(1, 1)))
        plain, fenced = kit.post(get_display_info(), header(0x100, **fence(2)), reply=408)
        for _ in range(2):
            kit.wait_request()
            kit.complete_request(OK)
        assert kit.collect(1) == [plain.head]
        assert kit.none_comes()
        kit.retire(1)
        assert kit.collect(2) == [first.head, fenced.head]
        (alone,) = kit.post(header(0x100, **fence(3)))
        kit.wait_request()
        kit.complete_request(OK)
        assert kit.collect(1) == [alone.head]


def test_a_context_that_ends_gives_its_fences_back() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        chains = kit.post(submit(1, **fence(1, 1, 2)), submit(1, **fence(2, 1, 3)))
        assert kit.none_comes()
        (end,) = kit.post(ctx_destroy(1))
        assert sorted(kit.collect(3)) == sorted(chain.head for chain in (*chains, end))
        kit.retire(2, 1, 2)  # a late word about a context that is gone
        kit.settle_down()


def test_a_fence_that_fails_is_no_fence() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        fake.fake_fail(b"fence", -5)
        assert kit.do(submit(1, **fence(1, 1))) == [OK]


@pytest.mark.parametrize("ring", [64, 255])
def test_a_ring_that_no_context_has(ring: int) -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        assert kit.do(submit(1, **fence(1, 1, ring))) == [OK]
        assert kit.do(submit(9, **fence(1, 9, 1))) == [0x1204]


def test_a_settling_pause_waits_for_fences() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        (chain,) = kit.post(submit(1, **fence(1, 1)))
        kit.settle_down()
        lib.vg_render_pause(kit.core, 1)
        assert [id_ for id_, _ in kit.control.take_used()] == [chain.head]
        lib.vg_render_resume(kit.core)
        assert kit.do(submit(1)) == [OK]


def test_fences_of_a_queue_that_was_stopped_are_forgotten() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        kit.post(submit(1, **fence(1, 1)))
        kit.settle_down()
        lib.vg_queue_set_started(kit.core, 0, 0)
        lib.vg_queue_set_started(kit.core, 0, 1)
        lib.vg_render_resume(kit.core)
        kit.retire(1)
        assert kit.none_comes()
        assert kit.do(submit(1)) == [OK]


@given(st.lists(st.sampled_from(["global", "ring", "plain", "other"]), min_size=1, max_size=30), st.randoms())
@settings(max_examples=25, deadline=None)
def test_every_timeline_is_in_order_and_everything_comes_back(kinds: list[str], random: object) -> None:
    with RenderKit(hold=True, num=64) as kit:
        kit.do(ctx_create(1), ctx_create(2), create_3d(5, 4, 4))
        headers = {"global": fence(1, 1), "ring": fence(1, 1, 1), "plain": {}, "other": fence(1, 2, 1)}
        chains = kit.post(*(submit(2 if kind == "other" else 1, fill(5, n), **headers[kind])
                            for n, kind in enumerate(kinds)))  # fmt: skip
        kit.settle_down()
        lines = [(0, 0), (1, 1), (2, 1)]
        random.shuffle(lines)  # type: ignore[attr-defined]
        for ctx, ring in lines:
            kit.retire(fake.fake_last_seq(), ctx, ring)
        back = kit.collect(len(kinds))
        assert kit.control.info().completed == len(kinds) + 3
        for wanted in set(kinds):
            mine = [chain.head for chain, kind in zip(chains, kinds, strict=True) if kind == wanted]
            assert [head for head in back if head in mine] == mine


@pytest.mark.parametrize("poll_fd", [False, True])
def test_a_disabled_ring_is_not_touched_and_nothing_is_lost(poll_fd: bool) -> None:
    """Some VMMs tell of a reset in no other way; the guest may use the ring's memory for something else then."""
    with RenderKit(hold=True, poll_fd=poll_fd) as kit:
        kit.do(ctx_create(1))
        chains = kit.post(*(submit(1, **fence(n, 1)) for n in range(3)))
        kit.settle_down()
        lib.vg_queue_set_enabled(kit.core, lib.VG_QUEUE_CONTROL, 0)
        kit.resume()
        kit.retire(3)
        assert kit.none_comes()
        lib.vg_queue_set_enabled(kit.core, lib.VG_QUEUE_CONTROL, 1)
        kit.resume()
        assert kit.collect(3) == [chain.head for chain in chains]


def render_thread() -> int:
    """Of this process."""
    tasks = Path("/proc/self/task").iterdir()
    (thread,) = (int(task.name) for task in tasks if (task / "comm").read_text() == "render\n")
    return thread


def test_a_renderer_with_slow_frames_leaves_the_cpus_to_others() -> None:
    normal = os.getpriority(os.PRIO_PROCESS, 0)
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        for number in range(1, 4):
            assert os.getpriority(os.PRIO_PROCESS, render_thread()) == normal
            kit.post(submit(1, **fence(number, 1)))
            kit.settle_down()
            time.sleep(0.02)
            kit.retire(number)
            kit.collect(1)
        kit.settle_down()
        assert os.getpriority(os.PRIO_PROCESS, render_thread()) == max(normal, 4)
        assert os.getpriority(os.PRIO_PROCESS, 0) == normal


# ---- waiting in the renderer


def naps(kit: RenderKit, number: int, count: int) -> list[str]:
    """Posts a command with the fence of this number, lets the thread wait for it so often, and ends it."""
    fake.fake_clear_calls()
    (chain,) = kit.post(submit(1, **fence(number, 1)))
    until = time.monotonic() + 10
    while len(kit.calls("wait")) < count:
        assert time.monotonic() < until
        time.sleep(0.001)
    kit.retire(number)
    assert kit.collect(1) == [chain.head]
    return kit.calls("wait")[:count]


def test_a_nap_that_the_last_fence_outlasted_is_not_tried_again() -> None:
    with RenderKit(hold=True, wait=True) as kit:
        kit.do(ctx_create(1))
        assert naps(kit, 1, 5)[-2:] == ["wait 1000000", "wait 1000000"]
        assert naps(kit, 2, 2) == ["wait 1000000", "wait 1000000"]


def test_naps_are_short_again_when_the_guest_has_kicked_meanwhile() -> None:
    with RenderKit(hold=True, wait=True) as kit:
        kit.do(ctx_create(1))
        naps(kit, 1, 5)
        with kit.hanging("wait"):
            (late,) = kit.post(submit(1, **fence(2, 1)))
            kit.wait_hanging()
            (other,) = kit.post(submit(1))
            kit.retire(2)
        assert sorted(kit.collect(2)) == sorted([late.head, other.head])
        assert naps(kit, 3, 1)[0] in ("wait 200000", "wait 400000")  # a kick that it has found is the first look
