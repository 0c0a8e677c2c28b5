"""The wake-up after the cursor's: one, and none when it is called off."""

import asyncio

import pytest

from vhost_gpu.nudge import Nudge


class CountingLoop:
    """Counts timers of the real loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.begun = 0

    def call_later(self, delay: float, call: object, *args: object) -> asyncio.TimerHandle:
        self.begun += 1
        return self.loop.call_later(delay, call, *args)  # type: ignore[arg-type]


@pytest.fixture
async def loop() -> CountingLoop:
    return CountingLoop()


async def test_one_at_a_time(loop: CountingLoop) -> None:
    nudge = Nudge(loop)  # type: ignore[arg-type]
    for _ in range(10):
        nudge.soon()
    assert loop.begun == 1


async def test_another_one_after_it(loop: CountingLoop) -> None:
    nudge = Nudge(loop)  # type: ignore[arg-type]
    nudge.soon()
    async with asyncio.timeout(10):
        while loop.begun < 3:
            await asyncio.sleep(0.001)
            nudge.soon()


async def test_called_off(loop: CountingLoop) -> None:
    nudge = Nudge(loop)  # type: ignore[arg-type]
    nudge.cancel()
    nudge.soon()
    nudge.cancel()
    nudge.soon()
    assert loop.begun == 2
