"""Work for screens: asked for too often, and offered at a bad time."""

import asyncio
from dataclasses import dataclass, field

import pytest

from vhost_gpu import pacer
from vhost_gpu.pacer import Pacer


@dataclass
class Clock:
    """A clock that the work moves on, and the runs that there were."""

    now: int = 1_000_000_000
    takes: int = 0
    runs: list[int] = field(default_factory=list)

    def monotonic_ns(self) -> int:
        return self.now

    def work(self) -> None:
        self.runs.append(self.now)
        self.now += self.takes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pacer, "time", made)
    return made


def owing(clock: Clock, takes: int) -> Pacer:
    """One that has told so much news at once that it owes all the rests it may."""
    clock.takes = takes
    paced = Pacer(asyncio.get_running_loop(), clock.work)
    for _ in range(200):
        paced.ask()
    return paced


async def test_what_comes_now_and_then_is_told_at_once(clock: Clock) -> None:
    clock.takes = 10_000
    paced = Pacer(asyncio.get_running_loop(), clock.work)
    for number in range(1, 6):
        paced.ask()
        assert len(clock.runs) == number
    for number in range(6, 100):
        clock.now += pacer.NEWS_REST * clock.takes
        paced.ask()
        assert len(clock.runs) == number
    paced.close()


async def test_much_of_it_gets_its_share_of_the_time(clock: Clock) -> None:
    paced = owing(clock, 10_000)
    begun, before = clock.now, len(clock.runs)
    for _ in range(100_000):
        clock.now += 1000
        paced.ask()
    share = (len(clock.runs) - before) * clock.takes / (clock.now - begun)
    assert share == pytest.approx(1 / (1 + pacer.NEWS_REST), rel=0.05)
    paced.close()


async def test_what_is_asked_for_during_a_rest_is_done_once_after_it(clock: Clock) -> None:
    paced = owing(clock, 10_000)
    before = len(clock.runs)
    for _ in range(5):
        paced.ask()
    assert len(clock.runs) == before
    await asyncio.sleep(0.05)
    assert len(clock.runs) == before + 1
    paced.close()


async def test_no_rest_is_longer_than_the_longest(clock: Clock) -> None:
    clock.takes = 10**9
    paced = Pacer(asyncio.get_running_loop(), clock.work)
    paced.ask()
    clock.now += pacer.MAX_REST_NS
    paced.ask()
    assert len(clock.runs) == 2


async def test_what_is_offered_waits_for_its_rest_only_while_commands_come(clock: Clock) -> None:
    clock.takes = 10_000
    paced = Pacer(asyncio.get_running_loop(), lambda: None)
    for _ in range(3):
        paced.offer(clock.work)
    assert len(clock.runs) == 3
    paced.ask()
    paced.offer(clock.work)
    assert len(clock.runs) == 4, "news was told meanwhile: no commands have come since"
    clock.takes = 0
    paced.ask()
    paced.ask()
    paced.close()


async def test_nothing_runs_after_the_end(clock: Clock) -> None:
    paced = owing(clock, 10_000)
    before = len(clock.runs)
    paced.close()
    await asyncio.sleep(0.01)
    assert len(clock.runs) == before
