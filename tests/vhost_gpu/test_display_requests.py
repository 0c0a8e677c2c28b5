"""Questions on the display socket: each gets exactly one answer, the right one or none, in time."""

import asyncio

import pytest

from protocol.errors import PeerError
from vhost_gpu.display_requests import MAX_UNANSWERED, DisplayRequests


class A:
    pass


class B:
    pass


async def test_answers_come_in_order() -> None:
    requests = DisplayRequests(asyncio.get_running_loop())
    got: list[object] = []
    requests.ask(A, got.append)
    requests.ask(A, got.append)
    first, second = A(), A()
    requests.answer(first)
    requests.answer(second)
    assert got == [first, second]


async def test_questions_that_the_vmm_skipped_get_none() -> None:
    requests = DisplayRequests(asyncio.get_running_loop())
    got: list[object] = []
    requests.ask(A, got.append)
    requests.ask(B, got.append)
    reply = B()
    requests.answer(reply)
    assert got == [None, reply]


async def test_what_nobody_asked_for() -> None:
    requests = DisplayRequests(asyncio.get_running_loop())
    got: list[object] = []
    requests.ask(A, got.append)
    with pytest.raises(PeerError, match="unasked B"):
        requests.answer(B())
    assert got == [None]


async def test_the_time_limit_and_the_late_answer() -> None:
    requests = DisplayRequests(asyncio.get_running_loop(), time_limit=0)
    first, second = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()
    requests.ask(A, first.set_result)
    assert await first is None
    requests._time_limit = 60
    requests.ask(A, second.set_result)
    requests.answer(A())  # the first one's
    assert not second.done()
    reply = A()
    requests.answer(reply)
    assert second.result() is reply


@pytest.mark.parametrize("way", ["close", "give_up"])
async def test_ending_answers_all_at_once(way: str) -> None:
    requests = DisplayRequests(asyncio.get_running_loop())
    got: list[object] = []
    for _ in range(3):
        requests.ask(A, got.append)
    getattr(requests, way)()
    getattr(requests, way)()
    assert got == [None] * 3


async def test_after_giving_up_old_answers_are_still_told_apart() -> None:
    requests = DisplayRequests(asyncio.get_running_loop())
    got: list[object] = []
    requests.ask(A, got.append)
    requests.give_up()
    requests.ask(A, got.append)
    requests.answer(A())
    assert got == [None]
    requests.close()


async def test_too_many_open_questions() -> None:
    requests = DisplayRequests(asyncio.get_running_loop())
    for n in range(MAX_UNANSWERED):
        assert not requests.mute, n
        requests.ask(A, lambda _: None)
    assert requests.mute
    requests.close()
    assert not requests.mute


async def test_a_silent_vmm_is_given_less_time_until_it_speaks() -> None:
    loop = asyncio.get_running_loop()
    requests = DisplayRequests(loop, time_limit=0)
    silence = loop.create_future()
    requests.ask(A, silence.set_result)
    assert await silence is None
    requests._time_limit = 3600
    answers = [loop.create_future(), loop.create_future()]
    requests.ask(A, answers[0].set_result)
    assert await answers[0] is None, "an hour was not waited for"
    requests.ask(A, answers[1].set_result)
    for _ in range(3):
        requests.answer(A())
    assert answers[1].done()
    assert not requests._silent
