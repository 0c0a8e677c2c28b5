"""The same guest twice: on QEMU's in-process virtio-gpu-pci, and on our daemon."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import picture
from .daemon import Daemon
from .guest import Guest
from .picture import Picture
from .waiting import wait_until


@dataclass
class Pair:
    """Both guests are booted; daemon serves ours."""

    reference: Guest
    ours: Guest
    daemon: Daemon

    def __iter__(self) -> Iterator[Guest]:
        return iter((self.reference, self.ours))

    def run(self, command: str, timeout: float = 60) -> list[str]:
        """Output of a command in the reference guest, then in ours."""
        return [guest.run(command, timeout) for guest in self]

    @contextmanager
    def program(self, name: str, command: str) -> Iterator[None]:
        """A program that runs in both guests meanwhile."""
        with self.reference.program(name, command), self.ours.program(name, command):
            yield

    def wait_same(self, expected: Callable[[Picture], object] = np.any, head: int = 0, timeout: float = 30) -> Picture:
        """Returns when both guests' screens are the same, pixel by pixel, and as expected (not black).

        AssertionError with the difference, and both pictures in files, when that does not come.
        """
        last, pictures = "", list[Picture]()

        def same() -> tuple[Picture] | None:
            nonlocal last, pictures
            pictures = reference, ours = [guest.screendump(head) for guest in self]
            last = picture.difference(reference, ours) or (
                "" if expected(reference) else "the same, but not as expected"
            )
            return None if last else (reference,)

        try:
            found = wait_until(same, timeout, "equal screens")
        except TimeoutError:
            raise AssertionError(f"{last}: {_kept(pictures)}") from None
        assert found is not None
        return found[0]


def _kept(pictures: list[Picture]) -> Path:
    """A directory with the two pictures, for whoever looks into the failure."""
    directory = Path(tempfile.mkdtemp(prefix="vhost-gpu-difference-"))
    for name, shown in zip(("reference", "ours"), pictures, strict=True):
        picture.save(shown, directory / f"{name}.png")
    return directory
