"""What a daemon with one idle session costs the host: memory and wake-ups (its start time: benchmarks/startup.py)."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vhost_gpu.guest.driver import GuestGpu

ROOT = Path(__file__).resolve().parents[2]
LIMIT_KIB = 50 * 1024
IDLE_SECONDS = 3.0


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[tuple[Path, int]]:
    """A daemon's socket and process."""
    path = tmp_path / "gpu.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "vhost_gpu", "--socket-path", str(path), cwd=ROOT, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(30):
        while not path.exists():
            await asyncio.sleep(0.01)
    yield path, process.pid
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def _field(pid: int, file: str, name: str) -> int:
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _wakeups(pids: list[int]) -> int:
    """Times that any thread of the processes went to sleep: each needs a wake-up before it."""
    threads = [thread for pid in pids for thread in os.listdir(f"/proc/{pid}/task")]
    return sum(_field(int(thread), "status", "voluntary_ctxt_switches") for thread in threads)


async def test_supervisor_and_one_idle_session_stay_small(daemon: tuple[Path, int]) -> None:
    path, pid = daemon
    async with await GuestGpu.open(path) as gpu:
        await gpu.display_info()
        family = _family(pid)
        assert len(family) == 2
        assert sum(_field(member, "smaps_rollup", "Pss") for member in family) < LIMIT_KIB


async def test_nothing_wakes_up_while_the_guest_is_idle(daemon: tuple[Path, int]) -> None:
    path, pid = daemon
    async with await GuestGpu.open(path) as gpu:
        await gpu.display_info()
        await asyncio.sleep(1)  # what the start left to do
        family = _family(pid)
        before = _wakeups(family)
        await asyncio.sleep(IDLE_SECONDS)
        assert _wakeups(family) == before


async def test_the_daemon_imports_no_numpy(daemon: tuple[Path, int]) -> None:
    path, pid = daemon
    async with await GuestGpu.open(path) as gpu:
        await gpu.display_info()
        for member in _family(pid):
            assert "numpy" not in Path(f"/proc/{member}/maps").read_text()
