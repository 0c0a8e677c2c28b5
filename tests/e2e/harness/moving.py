"""Programs whose picture moves: waiting for them, and holding them still to look at the same frame twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from .daemon import Daemon
from .guest import Guest
from .picture import Picture, difference
from .waiting import wait_until


def ground(picture: Picture) -> tuple[int, ...]:
    """The colour that most pixels have."""
    colours, counts = np.unique(_packed(picture), return_counts=True)
    most = int(colours[counts.argmax()])
    return most >> 16, most >> 8 & 255, most & 255


def covered(picture: Picture) -> float:
    """Share of the pixels that are not of the ground's colour."""
    packed = _packed(picture)
    return 1 - float(np.unique(packed, return_counts=True)[1].max()) / packed.size


def _packed(picture: Picture) -> npt.NDArray[np.uint32]:
    """A number for each pixel: many times as fast to count as three bytes."""
    red, green, blue = (picture[:, :, channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def wait_moving(guest: Guest, least: float) -> Picture:
    """A picture of QEMU's display once a share of its pixels, at least least, is no ground, and it moves."""
    seen: list[Picture] = []

    def moving() -> bool:
        seen.append(guest.screendump())
        drawn = [picture for picture in seen[-5:] if covered(picture) > least and picture.shape == seen[-1].shape]
        return len(drawn) > 1 and any(difference(drawn[-1], picture) for picture in drawn[:-1])

    wait_until(moving, 60, "a moving picture", 0.3)
    return seen[-1]


@contextmanager
def held_still(guest: Guest, name: str) -> Iterator[None]:
    """The program that runs in the guest under this name stands still meanwhile."""
    guest.run(f"kill -STOP $(cat /run/bg/{name}.pid)")
    try:
        yield
    finally:
        guest.run(f"kill -CONT $(cat /run/bg/{name}.pid)")


def wait_same_on_both(guest: Guest, daemon: Daemon) -> Picture:
    """The picture of a guest that draws nothing new, once QEMU's display and the viewer protocol both show it."""

    def same() -> list[Picture]:
        shown = guest.screendump()
        return [] if difference(shown, daemon.screenshot()) else [shown]

    return wait_until(same, 20, "the same picture on both displays")[0]
