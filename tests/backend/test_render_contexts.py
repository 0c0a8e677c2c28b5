"""Contexts: made, ended, bounded; resources attached to them, plain ones only when something is drawn."""

import pytest

from tests.backend.fake_renderer import fake
from tests.backend.renderkit import (
    ERR_INVALID_CONTEXT_ID,
    RenderKit,
    create_3d,
    ctx_attach,
    ctx_create,
    ctx_destroy,
    ctx_detach,
    fill,
    submit,
    transfer_3d,
    unref,
)
from tests.backend.ringkit import (
    ERR_INVALID_PARAMETER,
    ERR_INVALID_RESOURCE_ID,
    ERR_OUT_OF_MEMORY,
    ERR_UNSPEC,
    OK,
    create_2d,
    header,
    transfer,
)

MOST = 64
MIB = 1 << 20


def test_a_context_is_made_with_its_name_and_its_capset() -> None:
    with RenderKit() as kit:
        assert kit.do(ctx_create(3, b"glxgears", 2)) == [OK]
        assert kit.calls("ctx_create") == ["ctx_create 3 2 glxgears"]
        assert kit.do(ctx_destroy(3)) == [OK]
        assert fake.fake_num_contexts() == 0


def test_a_name_without_an_end_is_cut() -> None:
    with RenderKit() as kit:
        request = bytearray(ctx_create(3, b"n" * 64))
        request[24:28] = b"\xff\xff\xff\xff"
        assert kit.do(bytes(request)) == [OK]
        assert kit.calls("ctx_create") == ["ctx_create 3 0 " + "n" * 64]


def test_wrong_contexts() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 4, 4))
        wrong = [ctx_create(0), ctx_create(1), ctx_destroy(2), ctx_destroy(0), ctx_attach(2, 5), ctx_detach(2, 5)]
        wrong += [submit(2), submit(0), transfer_3d(5, 4, 4, ctx=2)]
        assert kit.do(*wrong) == [ERR_INVALID_CONTEXT_ID] * len(wrong)


def test_wrong_resources() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        wrong = [ctx_attach(1, 5), ctx_detach(1, 5), ctx_attach(1, 0), transfer_3d(5, 4, 4), unref(5)]
        assert kit.do(*wrong) == [ERR_INVALID_RESOURCE_ID] * len(wrong)


def test_a_request_that_is_too_short() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1))
        short = [ctx_create(2)[:-1], ctx_attach(1, 5)[:28], create_3d(5, 4, 4)[:60], transfer_3d(5, 4, 4)[:64]]
        short += [submit(1)[:28], header(0x10B)]
        assert kit.do(*short) == [ERR_INVALID_PARAMETER] * len(short)


def test_contexts_are_bounded_and_charged() -> None:
    with RenderKit(hostmem=100 * MIB) as kit:
        before = kit.hostmem_used()
        assert set(kit.do(*(ctx_create(n + 1) for n in range(MOST)))) == {OK}
        assert kit.hostmem_used() - before == MOST * MIB
        assert kit.do(ctx_create(1000)) == [ERR_OUT_OF_MEMORY]
        assert kit.do(ctx_destroy(5), ctx_create(1000)) == [OK, OK]
        assert set(kit.do(*(ctx_destroy(n) for n in (1000, *range(1, 5), *range(6, MOST + 1))))) == {OK}
        assert kit.hostmem_used() == before


def test_the_budget_has_no_room_for_a_context() -> None:
    with RenderKit(hostmem=3 * MIB // 2) as kit:
        assert kit.do(ctx_create(1), ctx_create(2)) == [OK, ERR_OUT_OF_MEMORY]


@pytest.mark.parametrize(("result", "response"), [(-22, 0x1205), (-12, 0x1201), (-5, 0x1200)])
def test_what_the_renderer_refuses(result: int, response: int) -> None:
    with RenderKit() as kit:
        used = kit.hostmem_used()
        fake.fake_fail(b"ctx_create", result)
        assert kit.do(ctx_create(1)) == [response]
        assert kit.do(submit(1)) == [ERR_INVALID_CONTEXT_ID]
        assert kit.hostmem_used() == used


def test_attaching_and_detaching_are_told_once() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), ctx_create(2), create_3d(5, 4, 4))
        assert kit.do(ctx_attach(1, 5), ctx_attach(1, 5), ctx_attach(2, 5)) == [OK] * 3
        assert kit.do(ctx_detach(1, 5), ctx_detach(1, 5)) == [OK] * 2
        assert kit.calls("ctx_a") == ["ctx_attach 1 5", "ctx_attach 2 5"]
        assert kit.calls("ctx_det") == ["ctx_detach 1 5"]


def test_a_resource_that_goes_while_attached_and_comes_again() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 4, 4), ctx_attach(1, 5), unref(5), create_3d(5, 4, 4))
        assert kit.do(ctx_attach(1, 5), ctx_detach(1, 5), ctx_destroy(1), unref(5)) == [OK] * 4
        assert kit.calls("ctx_attach") == ["ctx_attach 1 5"] * 2


def test_a_context_that_goes_and_comes_again_has_nothing_attached() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 4, 4), ctx_attach(1, 5), ctx_destroy(1), ctx_create(1))
        assert kit.do(ctx_attach(1, 5)) == [OK]
        assert kit.calls("ctx_attach") == ["ctx_attach 1 5"] * 2


def test_resources_of_a_context_are_bounded() -> None:
    most, batch = 16384, 1000
    with RenderKit(num=1024, hostmem=1 << 30, ram_size=16 << 20) as kit:
        kit.do(ctx_create(1), ctx_create(2))
        start = kit.next
        ids = range(1, most + 2)
        for at in range(0, len(ids), batch):
            kit.next = start  # the guest's memory is used again
            part = ids[at : at + batch]
            chains = kit.post(*(create_3d(n, 1, 1) for n in part[: batch // 2]))
            kit.collect(len(chains))
            chains = kit.post(*(create_3d(n, 1, 1) for n in part[batch // 2 :]))
            kit.collect(len(chains))
            for half in (part[: batch // 2], part[batch // 2 :]):
                kit.next = start
                attached = kit.post(*(ctx_attach(1, n) for n in half))
                kit.collect(len(attached))
        kit.next = start
        assert kit.do(ctx_attach(1, most + 1)) == [ERR_OUT_OF_MEMORY]
        assert kit.do(ctx_attach(2, most + 1), ctx_detach(1, 1), ctx_attach(1, most + 1)) == [OK] * 3


# ---- plain 2D resources


def test_a_plain_resource_stays_plain_until_its_context_draws() -> None:
    with RenderKit() as kit:
        kit.make_resource(4, 8, 8)
        kit.do(ctx_create(1), ctx_attach(1, 4))
        assert kit.do(transfer(4, 8, 8)) == [OK]
        assert fake.fake_num_resources() == 0
        assert kit.do(submit(1)) == [OK]
        assert kit.calls("ctx_attach") == ["ctx_attach 1 4"]
        assert fake.fake_num_resources() == 1
        assert kit.do(submit(1), transfer(4, 8, 8)) == [OK, OK]
        assert len(kit.calls("resource_create")) == 1


def test_what_a_plain_resource_holds_goes_along() -> None:
    with RenderKit() as kit:
        backing = kit.make_resource(4, 8, 8)
        kit.write(backing, bytes(range(256)))
        kit.do(transfer(4, 8, 8), ctx_create(1), ctx_attach(1, 4), submit(1))
        assert kit.pixels(4, 64) == bytes(range(256))
        assert kit.calls("attach_iov") == ["attach_iov 4 1"]
        kit.write(backing, b"\x77" * 256)
        assert kit.do(transfer(4, 8, 8)) == [OK]
        assert kit.pixels(4, 64) == b"\x77" * 256


def test_a_plain_resource_is_detached_or_gone_before_anything_is_drawn() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_2d(4, 8, 8), create_2d(6, 8, 8), ctx_attach(1, 4), ctx_attach(1, 6))
        assert kit.do(ctx_detach(1, 4), unref(6), submit(1)) == [OK] * 3
        assert fake.fake_num_resources() == 0
        assert kit.calls("ctx_det") == []


def test_a_plain_resource_of_two_contexts() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), ctx_create(2), create_2d(4, 8, 8), ctx_attach(1, 4), ctx_attach(2, 4), submit(2))
        assert kit.calls("ctx_attach") == ["ctx_attach 1 4", "ctx_attach 2 4"]
        assert kit.do(submit(1, fill(4, 7))) == [OK]
        assert len(kit.calls("resource_create")) == 1


@pytest.mark.parametrize("call", [b"resource_create", b"write_rect"])
def test_a_plain_resource_that_the_renderer_does_not_take(call: bytes) -> None:
    with RenderKit() as kit:
        kit.make_resource(4, 8, 8)
        kit.do(ctx_create(1), transfer(4, 8, 8), ctx_attach(1, 4))
        used = kit.hostmem_used()
        fake.fake_fail(call, -5)
        assert kit.do(submit(1)) == [ERR_OUT_OF_MEMORY]
        assert fake.fake_num_resources() == 0
        assert kit.do(transfer_3d(4, 8, 8)) == [ERR_UNSPEC]
        fake.fake_fail(call, 0)
        assert kit.do(submit(1), transfer(4, 8, 8)) == [OK, OK]
        kit.do(unref(4), ctx_destroy(1))
        assert kit.hostmem_used() < used
