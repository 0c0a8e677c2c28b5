"""On which CPUs front-end and back-end run: left to itself, the scheduler changes its mind and the figures with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path


class Placement(Enum):
    """Where the front-end's thread and the back-end's processes run."""

    FREE = "where the scheduler puts them"
    TOGETHER = "on one CPU"
    APART = "on one CPU each"

    def cpus(self, allowed: Iterable[int]) -> tuple[set[int], set[int]]:
        """The front-end's CPUs and the back-end's, of those that we may use. With one CPU they can't be apart."""
        usable = sorted(allowed)
        if self is Placement.FREE:
            return set(usable), set(usable)
        return {usable[0]}, {usable[0] if self is Placement.TOGETHER else usable[-1]}


@contextmanager
def placed(placement: Placement, pids: Iterable[int]) -> Iterator[set[int]]:
    """Puts the calling thread and the processes where ``placement`` says, until leaving; gives the back-end's CPUs."""
    before = os.sched_getaffinity(0)
    front, back = placement.cpus(before)
    processes = list(pids)
    os.sched_setaffinity(0, front)
    move(processes, back)
    try:
        yield back
    finally:
        os.sched_setaffinity(0, before)
        move(processes, before)


def move(pids: Iterable[int], cpus: set[int]) -> None:
    """Puts all threads of the processes there; those that have ended need no place."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(task.name), cpus)
