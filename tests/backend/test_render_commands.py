"""SUBMIT_3D's sizes and errors, commands together on all kinds of rings, noise."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backend.fake_renderer import fake
from tests.backend.renderkit import (
    CONTEXT_ERROR,
    RenderKit,
    create_3d,
    ctx_create,
    fence,
    fill,
    submit,
    transfer_3d,
    with_features,
)
from tests.backend.ringkit import (
    ERR_INVALID_PARAMETER,
    ERR_OUT_OF_MEMORY,
    ERR_UNSPEC,
    F_WRITE,
    KINDS,
    OK,
    create_2d,
    flush,
    header,
    move_cursor,
    set_scanout,
    transfer,
    update_cursor,
)

MIB = 1 << 20
MAX_STREAM = 16 * MIB


@pytest.mark.parametrize("size", [1, 2, 3, 5, 2**32 - 4, 2**32 - 1, MAX_STREAM + 4, 16])
def test_streams_of_wrong_sizes(size: int) -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        used = kit.hostmem_used()
        assert kit.do(submit(1, b"\0" * 12, size)) == [ERR_INVALID_PARAMETER]
        assert kit.calls("submit") == []
        assert kit.hostmem_used() == used


def test_an_empty_stream_goes_to_the_renderer() -> None:
    with RenderKit() as kit:
        assert kit.do(ctx_create(1), submit(1)) == [OK, OK]
        assert kit.calls("submit") == ["submit 1 0"]


def test_bytes_behind_the_stream_are_not_its_part() -> None:
    with RenderKit() as kit:
        assert kit.do(ctx_create(1), submit(1, b"\0" * 32, 8)) == [OK, OK]
        assert kit.calls("submit") == ["submit 1 2"]


def test_the_largest_stream_and_its_memory_is_given_back() -> None:
    with RenderKit(ram_size=MAX_STREAM + 2 * MIB, hostmem=64 * MIB) as kit:
        kit.do(ctx_create(1))
        used = kit.hostmem_used()
        assert kit.do(submit(1, b"\0" * MAX_STREAM)) == [OK]
        assert kit.calls("submit") == [f"submit 1 {MAX_STREAM // 4}"]
        assert kit.hostmem_used() == used


def test_the_budget_has_no_room_for_a_stream() -> None:
    with RenderKit(ram_size=4 * MIB, hostmem=2 * MIB) as kit:
        assert kit.do(ctx_create(1), submit(1, b"\0" * 2 * MIB)) == [OK, ERR_OUT_OF_MEMORY]
        assert kit.do(submit(1, b"\0" * 64)) == [OK]


def test_a_stream_in_many_pieces_arrives_whole() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 2, 2))
        request = submit(1, fill(5, 0x01020304))
        kit.control.send([request[:10], request[10:30], request[30:35], request[35:]], indirect=True)
        kit.post()
        kit.collect(1)
        assert kit.pixels(5, 4) == bytes([4, 3, 2, 1] * 4)


def test_a_refused_stream_is_told_once_for_each_context() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), ctx_create(2))
        fake.fake_fail(b"submit", -22)
        assert kit.do(submit(1), submit(1), submit(2), submit(1)) == [ERR_UNSPEC] * 4
        kit.wait(lambda: len(kit.events) == 2)
        assert [(kind, ctx) for kind, ctx, _ in kit.events] == [(CONTEXT_ERROR, 1), (CONTEXT_ERROR, 2)]
        fake.fake_fail(b"submit", 0)
        assert kit.do(submit(1)) == [OK]
        assert len(kit.calls("submit")) == 5


def test_commands_that_the_core_does_not_know_go_to_the_loop() -> None:
    with RenderKit() as kit:
        for type_ in (0x20A, 0x777):
            kit.post(header(type_))
            assert kit.wait_request() == type_
            kit.complete_request(ERR_UNSPEC)
            kit.collect(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_on_every_kind_of_ring(kind: str) -> None:
    with RenderKit(num=32, features=with_features(KINDS[kind])) as kit:
        backing = kit.make_resource(4, 8, 8)
        kit.write(backing, b"\x21" * 256)
        chains = kit.post(
            ctx_create(1), create_3d(5, 8, 8), submit(1, fill(5, 0x01020304), **fence(1, 1)), set_scanout(0, 5, 8, 8),
            transfer(4, 8, 8), flush(5, 8, 8, **fence(2)), submit(9), submit(1, **fence(3, 1, 1)),
        )  # fmt: skip
        kit.collect(len(chains))
        assert [kit.type_of(chain) for chain in chains] == [OK] * 6 + [0x1204, OK]


@pytest.mark.parametrize("kind", KINDS)
def test_a_malformed_ring_stops_the_queue_and_says_why(kind: str) -> None:
    with RenderKit(features=with_features(KINDS[kind])) as kit:
        assert kit.do(ctx_create(1)) == [OK]
        kit.control.add([(1 << 60, 64, 0)])
        kit.post()
        kit.wait(lambda: kit.events)
        assert kit.events == [(3, 0, kit.control.reason)]
        assert "buffer outside memory" in kit.control.reason
        assert kit.control.err_count() == 1
        kit.move_cursor(move_cursor(0, 3, 4))
        assert kit.cursor.info().completed == 1


def test_a_queue_that_broke_goes_on_after_a_new_start() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        kit.post(submit(1, **fence(1, 1)))
        kit.settle_down()
        kit.control.add([(1 << 60, 64, 0)])
        kit.post()
        kit.wait(lambda: kit.events)
        kit.retire(1)
        kit.control.start()
        kit.resume()
        kit.control.take_used()
        assert kit.do(submit(1)) == [OK]


def test_a_chain_without_room_for_a_reply_comes_back() -> None:
    with RenderKit(hold=True) as kit:
        kit.do(ctx_create(1))
        chains = kit.post(submit(1, **fence(1, 1)), submit(1), reply=0)
        kit.settle_down()
        kit.retire(1)
        kit.collect(len(chains))


def test_memory_that_is_gone_under_a_stream_fails_the_command() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        extra = kit.add_ram(0x4000_0000, 8192)
        extra.write(0x4000_0000, submit(1, b"\0" * 4096))
        extra.shrink(4096)
        room = kit.alloc(24)
        kit.control.add([(0x4000_0000, 32 + 4096, 0), (room, 24, F_WRITE)])
        kit.post()
        kit.collect(1)
        assert struct.unpack("<I", kit.read(room, 4)) == (ERR_UNSPEC,)
        assert kit.calls("submit") == []


NUMBERS = st.sampled_from([0, 1, 2, 5, 64, 2**31, 2**32 - 4, 2**32 - 1]) | st.integers(0, 2**32 - 1)
TYPES = [0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107, *range(0x200, 0x208)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TYPES), st.sampled_from([0, 1, 3]), st.integers(0, 3), st.lists(NUMBERS, max_size=14)
        ),
        min_size=1,
        max_size=15,
    ),
    st.sampled_from(sorted(KINDS)),
)
@settings(max_examples=40, deadline=None)
def test_noise_all_comes_back_and_nothing_stays(commands: list[tuple[int, int, int, list[int]]], kind: str) -> None:
    with RenderKit(num=64, features=with_features(KINDS[kind]), hostmem=8 * MIB) as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 8), create_2d(2, 8, 8))
        chains = kit.post(
            *(
                header(type_, flags, 77, ctx, 1) + struct.pack(f"<{len(body)}I", *body)
                for type_, flags, ctx, body in commands
            )
        )
        kit.collect(len(chains))
        assert kit.do(transfer_3d(999, 1, 1), ctx_create(55)) == [0x1203, OK]
        kit.move_cursor(update_cursor(0, 1, 1, 5))
        kit.reset()
        assert fake.fake_num_resources() == 0
        assert kit.hostmem_used() <= 0x10000
