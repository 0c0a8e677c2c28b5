"""How often the VMM's display is given a frame."""

import asyncio
from dataclasses import dataclass

import pytest

from vhost_gpu import frame_rate
from vhost_gpu.frame_rate import FrameRate
from vhost_gpu.pacer import Pacer

SCREEN = 1920 * 1080 * 4
MS = 1_000_000


@dataclass
class Clock:
    now: int = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(frame_rate, "time", made)
    return made


@pytest.fixture
async def pacer() -> Pacer:
    return Pacer(asyncio.get_running_loop(), lambda: None)


async def test_the_first_frame_does_not_wait(pacer: Pacer) -> None:
    assert FrameRate(pacer).wait_ns <= 0


async def test_a_guest_that_waits_for_the_vmm_gets_a_screens_rate(clock: Clock, pacer: Pacer) -> None:
    rate = FrameRate(pacer)
    rate.begin(SCREEN)
    clock.now += 4 * MS
    pacer.note_commands(2 * MS)
    assert rate.wait_ns == 12 * MS
    clock.now += 12 * MS
    assert rate.wait_ns <= 0


async def test_a_guest_that_waits_for_the_device_gets_all_there_is_time_for(clock: Clock, pacer: Pacer) -> None:
    """Time that went into sending is nobody's waiting."""
    rate = FrameRate(pacer)
    rate.begin(SCREEN)
    clock.now += 4 * MS
    pacer.note_commands(2 * MS)
    pacer.screens_ns += 2 * MS
    assert rate.wait_ns <= 0


async def test_who_waits_is_not_told_from_a_moment(clock: Clock, pacer: Pacer) -> None:
    rate = FrameRate(pacer)
    rate.begin(SCREEN)
    clock.now += 3 * MS // 4
    pacer.note_commands(3 * MS // 4)
    assert rate.wait_ns == MS // 4


async def test_small_frames_follow_each_other_sooner(clock: Clock, pacer: Pacer) -> None:
    rate = FrameRate(pacer)
    rate.begin(64 * 64 * 4)
    assert rate.wait_ns == frame_rate.SHORTEST_INTERVAL_NS
    clock.now += frame_rate.SHORTEST_INTERVAL_NS
    assert rate.wait_ns <= 0


async def test_a_guest_that_draws_far_more_than_can_be_shown_gets_half_a_screens_rate(
    clock: Clock, pacer: Pacer
) -> None:
    rate = FrameRate(pacer)
    rate.begin(SCREEN)
    for _ in range(frame_rate.MANY_NEWS):
        rate.note_news()
    clock.now += 16 * MS
    assert rate.wait_ns == 16 * MS
    rate.begin(SCREEN)
    clock.now += 16 * MS
    assert rate.wait_ns <= 0
