"""VIRTIO_F_IN_ORDER: chains come back in the order they were made available, and one used entry stands for many."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend._core import ffi, lib
from tests.backend.ringkit import (
    EVENT_DESC,
    FEATURES,
    IN_ORDER,
    KINDS,
    OK,
    RING_PACKED,
    Kit,
    flush,
    get_display_info,
    move_cursor,
)

IDLE, REQUEST, AGAIN, BROKEN = lib.VG_DRAIN_IDLE, lib.VG_DRAIN_REQUEST, lib.VG_DRAIN_AGAIN, lib.VG_DRAIN_BROKEN
BUDGET = 1_000_000_000
IN_ORDER_KINDS = [kind for kind, features in KINDS.items() if features & IN_ORDER]


@pytest.fixture(params=IN_ORDER_KINDS)
def kit(request):
    with Kit(num=64, features=FEATURES | KINDS[request.param], hostmem=1 << 26) as kit:
        yield kit


def ask(kit, count, ring=None):
    """Commands for the caller, in its hands."""
    requests = [ffi.new("vg_request *") for _ in range(count)]
    for request in requests:
        (ring or kit.control).send(get_display_info(), 24)
        assert lib.vg_queue_drain(kit.core, 0, 0, request) == REQUEST
    return requests


def answer(kit, request):
    lib.vg_request_complete(kit.core, request, OK, ffi.NULL, 0)


def test_a_batch_is_one_used_entry(kit):
    chains = [kit.control.send(flush(1, 1, 1), indirect=True) for _ in range(5)]
    assert kit.control.drain() == IDLE
    assert kit.control.take_entries() == [(chains[-1].head, 24)]
    chains = [kit.cursor.send(move_cursor(0, i, i), 0) for i in range(7)]
    assert kit.cursor.drain() == IDLE
    assert kit.cursor.take_entries() == [(chains[-1].head, 0)]


def test_skipped_chains_are_full(kit):
    """Only they may be skipped: the guest takes them to be written completely. Others end their batch."""
    rooms = [24, 24, 30, 24, 100, 23, 24, 24]
    chains = [kit.control.send(flush(1, 1, 1), room, indirect=True) for room in rooms]
    assert kit.control.drain(BUDGET) == IDLE
    told = [(chains[i].head, min(24, rooms[i])) for i in (2, 4, 7)]
    assert kit.control.take_entries() == told
    assert kit.control.info().completed == 8


def test_a_batch_is_told_at_each_look_at_the_clock(kit):
    """A guest that runs meanwhile is not kept waiting until the ring is empty."""
    heads = [kit.control.send(flush(1, 1, 1), indirect=True).head for _ in range(30)]
    assert kit.control.drain() == IDLE
    assert kit.control.take_entries() == [(heads[i], 24) for i in (7, 15, 23, 29)]


def test_a_batch_is_told_before_the_caller_gets_a_command(kit):
    chains = [kit.control.send(flush(1, 1, 1), indirect=True) for _ in range(3)]
    kit.control.send(get_display_info(), 408)
    assert kit.control.drain() == REQUEST
    assert kit.control.take_entries() == [(chains[-1].head, 24)]
    kit.control.complete()


def test_a_batch_is_told_though_the_ring_breaks_behind_it(kit):
    chains = [kit.control.send(flush(1, 1, 1), indirect=True) for _ in range(3)]
    kit.control.add([(0, 1, 0)])
    assert kit.control.drain() == BROKEN
    assert kit.control.take_entries() == [(chains[-1].head, 24)]


def test_completions_out_of_order_wait_for_their_turn(kit):
    requests = ask(kit, 4)
    for i in (3, 1):
        answer(kit, requests[i])
        assert kit.control.take_used() == []
    answer(kit, requests[0])
    assert [head for head, _ in kit.control.take_used()] == list(kit_heads(kit, 0, 2))
    answer(kit, requests[2])
    assert [head for head, _ in kit.control.take_used()] == list(kit_heads(kit, 2, 4))


def kit_heads(kit, first, last):
    """Ids of the first chains of two descriptors each."""
    return range(first, last) if kit.packed else range(2 * first, 2 * last, 2)


def test_what_is_served_inside_waits_for_what_is_with_the_caller(kit):
    (request,) = ask(kit, 1)
    kit.control.send(flush(1, 1, 1))
    assert kit.control.drain() == IDLE
    assert kit.control.take_used() == []
    answer(kit, request)
    assert [head for head, _ in kit.control.take_used()] == list(kit_heads(kit, 0, 2))


def test_a_restart_forgets_who_waits(kit):
    requests = ask(kit, 2)
    answer(kit, requests[1])
    lib.vg_queue_set_started(kit.core, 0, 0)
    lib.vg_queue_set_started(kit.core, 0, 1)
    kit.control.out.clear()
    chain = kit.control.send(flush(1, 1, 1))
    assert kit.control.drain() == IDLE
    answer(kit, requests[0])
    assert kit.control.take_used() == [(chain.head, 24)]


def test_packed_event_inside_a_batch():
    """The descriptor asked for is passed, though no used descriptor is written there."""
    with Kit(num=16, features=FEATURES | RING_PACKED | IN_ORDER) as kit:
        ring = kit.control
        ring.send(flush(1, 1, 1), indirect=True)
        ring.drain()
        ring.take_used()
        ring.call_count()
        for _ in range(20):
            ring.set_driver_event(EVENT_DESC, ring.next + 2)
            for _ in range(5):
                ring.send(flush(1, 1, 1), indirect=True)
            assert ring.drain() == IDLE
            assert ring.call_count() == 1
            assert len(ring.take_used()) == 5


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(IN_ORDER_KINDS),
    st.lists(st.tuples(st.sampled_from(["inside", "caller"]), st.sampled_from([0, 20, 24, 40])), max_size=30),
    st.randoms(use_true_random=False),
)
def test_any_order_of_completion_is_put_right(kind, commands, random):
    with Kit(num=64, features=FEATURES | KINDS[kind]) as kit:
        ring, held, sent, back = kit.control, [], [], []
        for what, room in commands:
            sent.append(ring.send(flush(1, 1, 1) if what == "inside" else get_display_info(), room, True).head)
            request = ffi.new("vg_request *")
            if lib.vg_queue_drain(kit.core, 0, BUDGET, request) == REQUEST:
                held.append(request)
            if held and random.random() < 0.4:
                answer(kit, held.pop(random.randrange(len(held))))
            back += ring.take_used()
        random.shuffle(held)
        for request in held:
            answer(kit, request)
        back += ring.take_used()
        assert back == [(head, min(room, 24)) for head, (_, room) in zip(sent, commands, strict=True)]
