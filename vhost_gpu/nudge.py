"""Another wake-up soon after the cursor's, where a renderer may have all CPUs."""

import asyncio

DELAY_SECONDS = 0.001
"""The least that the loop's timers know."""


class Nudge:
    """Has the kernel choose once more which thread runs here.

    Our wake-up takes the CPU from the guest's thread that kicked, in the middle of its turn. When we sleep, the
    scheduler (Linux 6.6 and later) finds that thread ahead of a renderer's, which has just been interrupted too, by the
    microseconds it ran; and the renderer's then runs until the next tick, up to 4 ms later, with the answer there. It
    decides anew when anybody wakes up.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """One wake-up, however often this is called until then."""
        if self._timer is None:
            self._timer = self._loop.call_later(DELAY_SECONDS, self.cancel)

    def cancel(self) -> None:
        """None, if there is still one to come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
