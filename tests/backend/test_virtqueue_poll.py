"""Bounded polling: commands that come soon after each other are found with a kick and without; others by kick only."""

import os
import threading
import time

import pytest

from backend._core import lib
from tests.backend.fake_renderer import fake
from tests.backend.renderkit import LIMIT, RenderKit, ctx_create, fence, submit, with_features
from tests.backend.ringkit import EVENT_IDX, FEATURES, KINDS, OK, Kit, flush, move_cursor

IDLE = lib.VG_DRAIN_IDLE
ROUNDS = 300


@pytest.fixture(params=KINDS)
def kit(request):
    with Kit(features=FEATURES | KINDS[request.param], ram_size=1 << 22) as kit:
        lib.vg_set_poll_us(kit.core, 50)
        kit.make_resource(1, 8, 8)
        yield kit


def answered(ring, chain):
    return int.from_bytes(ring.reply(chain)[:4], "little") == OK


def serve(ring):
    """What the loop does when the guest has kicked."""
    os.eventfd_write(ring.kick, 1)
    return ring.drain()


def make_eager(kit):
    """Commands in such a row that the ring is polled after them."""
    until = time.monotonic() + LIMIT
    while not kit.control.info().polls:
        assert time.monotonic() < until
        kit.control.send(flush(1, 8, 8))
        assert serve(kit.control) == IDLE
        kit.control.take_used()


@pytest.mark.parametrize("poll_us", [0, 50, 1_000_000])
def test_every_command_is_answered_whatever_the_setting(kit, poll_us):
    """A setting past the limit is the limit: the drain comes back."""
    lib.vg_set_poll_us(kit.core, poll_us)
    until = time.monotonic() + (LIMIT if poll_us else 0)
    rounds = 0
    while rounds < ROUNDS or (time.monotonic() < until and not kit.control.info().polls):
        rounds += 1
        chain = kit.control.send(flush(1, 8, 8))
        assert serve(kit.control) == IDLE
        assert [head for head, _ in kit.control.take_used()] == [chain.head]
        assert answered(kit.control, chain)
    assert bool(kit.control.info().polls) == bool(poll_us)


def test_a_guest_that_kicks_when_asked_to_loses_nothing(kit):
    """The guest on its own thread: it kicks only where the ring asks for it, and waits for the answer."""
    ring, kicked, done = kit.control, threading.Semaphore(0), []

    def guest():
        for _ in range(ROUNDS):
            ring.send(flush(1, 8, 8), indirect=True)
            if ring.kick_wanted():
                kicked.release()
            while not (used := ring.take_used()):
                pass
            done.extend(used)

    thread = threading.Thread(target=guest, daemon=True)
    thread.start()
    while thread.is_alive():
        if kicked.acquire(timeout=0.05):
            assert serve(ring) == IDLE
    assert len(done) == ROUNDS


def test_drains_without_a_kick_start_no_polling(kit):
    """The render thread's, when a fence is done."""
    for _ in range(ROUNDS):
        kit.control.send(flush(1, 8, 8))
        assert kit.control.drain() == IDLE
        kit.control.take_used()
    assert not kit.control.info().polls


def test_notifications_are_on_when_the_polling_is_over(kit):
    make_eager(kit)
    kit.control.send(flush(1, 8, 8), indirect=True)
    assert kit.control.kick_wanted()


def test_the_cursor_queue_does_not_wait_for_it(kit):
    make_eager(kit)
    chain = kit.cursor.send(move_cursor(0, 3, 4))
    kit.control.send(flush(1, 8, 8))
    assert serve(kit.control) == IDLE
    kit.cursor.drain()
    assert [head for head, _ in kit.cursor.take_used()] == [chain.head]


@pytest.mark.parametrize("event_idx", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_guest_that_waits_for_fences_and_kicks_when_asked_to_loses_nothing(kind, event_idx):
    """The render thread looks for the guest's next command after the last fence."""
    features = with_features(KINDS[kind]) & ~(0 if event_idx else EVENT_IDX)
    with RenderKit(hold=True, poll_fd=True, features=features, ram_size=1 << 22) as kit:
        lib.vg_set_poll_us(kit.core, 50)
        kit.do(ctx_create(1))
        until, number = time.monotonic() + LIMIT, 0
        while number < ROUNDS or (time.monotonic() < until and not kit.control.info().polls):
            number += 1
            chain = kit.control.send(submit(1, **fence(number, 1)), indirect=True)
            if kit.control.kick_wanted():
                os.eventfd_write(kit.control.kick, 1)
            spin_until(lambda last=number: fake.fake_last_seq() == last)
            kit.retire(number)
            assert [head for head, _ in spin_until(kit.control.take_used)] == [chain.head]
        assert kit.control.info().polls


def spin_until(probe):
    """Without sleeping: the guest's next command is to come soon. What the probe says in the end."""
    until = time.monotonic() + LIMIT
    while not (found := probe()):
        assert time.monotonic() < until
    return found
