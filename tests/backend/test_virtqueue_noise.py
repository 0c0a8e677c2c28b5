"""Noise in every kind of ring: every drain ends, idle or broken, and every well-formed chain comes back."""

import struct
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend._core import lib
from tests.backend.ringkit import (
    ERR_UNSPEC,
    EVENT_IDX,
    INDIRECT_DESC,
    KINDS,
    PACKED_AVAIL,
    PACKED_USED,
    RAM_GPA,
    RAM_SIZE,
    RING_PACKED,
    VERSION_1,
    Kit,
    flush,
    get_display_info,
    transfer,
)

IDLE, REQUEST, BROKEN = lib.VG_DRAIN_IDLE, lib.VG_DRAIN_REQUEST, lib.VG_DRAIN_BROKEN
HOLE = 0x9000_0000

ADDRESSES = st.one_of(
    st.integers(RAM_GPA, RAM_GPA + 4096), st.sampled_from([0, HOLE, 2**64 - 1, RAM_GPA + RAM_SIZE - 4])
)
LENGTHS = st.one_of(st.integers(0, 200), st.sampled_from([2**31, 2**32 - 1]))
FEATURES = st.sampled_from([VERSION_1, VERSION_1 | INDIRECT_DESC, VERSION_1 | INDIRECT_DESC | EVENT_IDX])
CHAINS = st.lists(
    st.tuples(
        st.sampled_from([flush(1, 1, 1), transfer(9, 4, 4), get_display_info(), b"\xff" * 40, b"short", b""]),
        st.lists(st.integers(0, 60), max_size=4),
        st.lists(st.integers(1, 40), max_size=3),
        st.booleans(),
    ),
    max_size=16,
)


def finish(ring):
    """Drains to the end, answering what comes; returns the last state. Bounded by what the ring can hold."""
    for _ in range(5000):
        state = ring.drain()
        if state == REQUEST:
            ring.complete(ERR_UNSPEC)
        elif state != lib.VG_DRAIN_AGAIN:
            return state
    raise AssertionError("the drain never ends")


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(
            ADDRESSES,
            LENGTHS,
            st.one_of(st.integers(0, 7), st.integers(0, 65535)),
            st.one_of(st.integers(0, 9), st.integers(0, 65535)),
        ),
        max_size=8,
    ),
    st.lists(st.one_of(st.integers(0, 9), st.integers(0, 65535)), max_size=10),
    st.integers(0, 12),
    st.binary(max_size=300),
    FEATURES,
    st.sampled_from([kind for kind in KINDS if "split" in kind]),
)
def test_noise_in_a_split_ring(descriptors, heads, ahead, noise, features, kind):
    with Kit(num=8, features=features | KINDS[kind]) as kit:
        ring = kit.control
        kit.write(RAM_GPA + 2048, noise)
        for slot, (gpa, length, flags, next_) in enumerate(descriptors):
            ring.put(slot, gpa, length, flags, next_)
        for i, head in enumerate(heads[:8]):
            kit.write(ring.avail + 4 + 2 * i, struct.pack("<H", head))
        ring.set_avail_idx(ahead)
        assert finish(ring) in (IDLE, BROKEN)
        assert kit.hostmem_used() == 0


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.integers(1, 9),
    st.lists(
        st.tuples(
            ADDRESSES,
            LENGTHS,
            st.one_of(st.integers(0, 7), st.integers(0, 65535)),
            st.sampled_from([PACKED_AVAIL, PACKED_AVAIL, PACKED_AVAIL, PACKED_USED, PACKED_AVAIL | PACKED_USED, 0]),
            st.integers(0, 65535),
        ),
        max_size=9,
    ),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
    FEATURES,
    st.sampled_from([kind for kind in KINDS if "packed" in kind]),
)
def test_noise_in_a_packed_ring(num, descriptors, base, event, noise, features, kind):
    with Kit(num=num, features=features | KINDS[kind]) as kit:
        ring = kit.control
        kit.write(RAM_GPA + 2048, noise)
        kit.write(ring.avail, struct.pack("<I", event))
        for slot, (gpa, length, flags, owner, id_) in enumerate(descriptors[:num]):
            ring.put(slot, gpa, length, flags & ~(PACKED_AVAIL | PACKED_USED) | owner, id_)
        lib.vg_queue_set_base(kit.core, 0, base)
        assert finish(ring) in (IDLE, BROKEN)
        now = ring.info().base
        assert now & 0x7FFF < num
        assert now >> 16 & 0x7FFF < num
        assert kit.hostmem_used() == 0


@settings(max_examples=150, deadline=None)
@given(CHAINS, st.sampled_from(sorted(KINDS)))
def test_every_well_formed_chain_comes_back_in_order(chains, kind):
    with Kit(num=128, features=VERSION_1 | INDIRECT_DESC | EVENT_IDX | KINDS[kind]) as kit:
        ring = kit.control
        heads = []
        for request, cuts, rooms, indirect in chains:
            edges = [0, *sorted(min(cut, len(request)) for cut in cuts), len(request)]
            pieces = [request[a:b] for a, b in pairwise(edges)]
            heads.append(ring.send(pieces, rooms, indirect=indirect).head)
        assert finish(ring) == IDLE
        assert [head for head, _ in ring.take_used()] == heads


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 20), st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=60))
def test_a_packed_ring_of_any_size_goes_on_for_many_turns(num, chains):
    with Kit(num=num, features=VERSION_1 | INDIRECT_DESC | RING_PACKED) as kit:
        ring = kit.control
        for pieces, indirect in chains:
            request = flush(1, 1, 1)
            cut = [request[at : at + 16] for at in range(0, 48, 16)][: max(1, min(pieces, num - 1))]
            head = ring.send(cut, 24, indirect=indirect).head
            assert finish(ring) == IDLE
            assert ring.take_used() == [(head, 24)]
            assert ring.info().base == ring.base()
