"""How often the VMM's display is given a frame.

The thread of the VMM that reads frames often is the one that hands interrupts to the guest too (QEMU's main loop,
without KVM), and reads with its big lock held. So where the guest waits for the VMM or for itself, frames come no
faster than a screen shows them. Where it waits for the device, which copies its pictures as fast as it can, the VMM has
time for all it is given.
"""

import time

from vhost_gpu.pacer import Pacer

SCREEN_INTERVAL_NS = 16_000_000
"""A little less than a screen at 60 Hz shows a frame for."""
MANY_NEWS = 8
"""A guest with so much news between two frames draws far more than a screen shows: every other frame is enough."""
SHORTEST_INTERVAL_NS = 1_000_000
"""Nobody sees what comes sooner; it adds up to one frame."""
BYTES_PER_SECOND = 200_000_000
"""A frame of less than a screen's bytes is followed by the next one sooner, at this rate."""
DEVICE_BOUND = 0.65
"""Share of the time that commands take, from which on the guest waits for the device. One that does nothing else has
0.75 to 0.95: the loop has other things to do, and waking up takes time too."""
LEAST_WINDOW_NS = 1_000_000
"""Time without sending, at least, from which that share is told."""


class FrameRate:
    """Says when the next frame may begin.

    Args:
        pacer: knows what the session's time went into.
    """

    def __init__(self, pacer: Pacer) -> None:
        self._pacer = pacer
        self._interval = 0
        """Since the last frame began, for a guest that does not wait for the device."""
        self._begun = self._commands = self._screens = 0
        self._news = 0

    def note_news(self) -> None:
        """The guest has drawn something."""
        self._news += 1

    def begin(self, size: int) -> None:
        """A frame begins, of so many bytes."""
        self._begun = time.monotonic_ns()
        self._news = 0
        interval = min(size * 1_000_000_000 // BYTES_PER_SECOND, SCREEN_INTERVAL_NS)
        self._interval = max(interval, SHORTEST_INTERVAL_NS)
        self._commands, self._screens = self._pacer.commands_ns, self._pacer.screens_ns

    @property
    def wait_ns(self) -> int:
        """How long the next frame has to wait, as things look now; 0 or less: not at all."""
        elapsed = time.monotonic_ns() - self._begun
        if elapsed < SHORTEST_INTERVAL_NS:
            return min(self._interval, SHORTEST_INTERVAL_NS) - elapsed
        interval = self._interval * 2 if self._news >= MANY_NEWS else self._interval
        window = elapsed - (self._pacer.screens_ns - self._screens)
        if window < LEAST_WINDOW_NS:
            return min(interval - elapsed, LEAST_WINDOW_NS - window)
        if self._pacer.commands_ns - self._commands >= DEVICE_BOUND * window:
            return 0
        return interval - elapsed
