"""What a back-end's processes use: CPU time, memory, context switches; from /proc (proc(5))."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
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
    return sum(_pss(_read(pid, "smaps_rollup").splitlines()) for pid in pids)


def mapped_pss_bytes(pids: Iterable[int], name: str) -> int:
    """The part of it that lies in mappings of files of this name (of a memfd: "/memfd:" and its name)."""
    return sum(_pss(_of_file(_read(pid, "smaps").splitlines(), name)) for pid in pids)


def _read(pid: int, file: str) -> str:
    try:
        return (_PROC / str(pid) / file).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _pss(lines: Iterable[str]) -> int:
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def _of_file(lines: Iterable[str], name: str) -> Iterator[str]:
    """What smaps says of mappings of a file: a line with its path begins each."""
    wanted = False
    for line in lines:
        if not line.split(maxsplit=1)[0].endswith(":"):
            wanted = name in line
        if wanted:
            yield line


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
