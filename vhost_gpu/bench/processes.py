"""What a back-end's processes use: CPU time, memory, context switches; from /proc (proc(5))."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

_CPUCLOCK_SCHED = 2

_PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """The process and all its descendants that there are now."""
    found = [pid]
    for parent in found:
        found += _children(parent)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for task in (_PROC / str(pid) / "task").iterdir():
            children += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return children


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that living processes have used so far, all threads: their clocks, exact to the nanosecond."""
    return sum(map(_cpu_seconds, pids))


def _cpu_seconds(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)  # linux/posix-timers.h: MAKE_PROCESS_CPUCLOCK
    except OSError:
        return 0.0


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: pages that several processes map count for each in part."""
    return sum(_pss_bytes(pid) for pid in pids)


def _pss_bytes(pid: int) -> int:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def context_switches(pids: Iterable[int]) -> int:
    """How often any thread was switched away from, on its own account or not: a process that is idle has none."""
    return sum(_context_switches(status) for pid in pids for status in _statuses(pid))


def _statuses(pid: int) -> list[str]:
    try:
        return [(task / "status").read_text() for task in (_PROC / str(pid) / "task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _context_switches(status: str) -> int:
    return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
