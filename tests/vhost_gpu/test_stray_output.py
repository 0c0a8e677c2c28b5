"""What libraries write to descriptor 2 comes into the log, escaped and bounded; the log itself goes where it did."""

import asyncio
import faulthandler
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vhost_gpu.sessionkit import open_fds
from vhost_gpu.stray_output import StrayOutput

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, faulthandler, logging, os, sys
from vhost_gpu import log
from vhost_gpu.stray_output import StrayOutput

async def main():
    log.setup("info", "text", "session-1")
    stray = StrayOutput(asyncio.get_running_loop())
    {body}
    await asyncio.sleep(0.05)
    stray.close()
    os.write(2, b"afterwards\\n")

asyncio.run(main())
"""


def run(body: str) -> tuple[int, list[str]]:
    """A program that writes to descriptor 2: its status and what came out of it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], cwd=ROOT, stderr=subprocess.PIPE, check=False
    )
    return done.returncode, done.stderr.decode().splitlines()


def test_lines_of_libraries_are_lines_of_the_log() -> None:
    status, lines = run('os.write(2, b"Syntax "); os.write(2, b"error\\n\\x1b[2J\\xcf\\rand\\n\\nno end")')
    assert status == 0
    assert [line[9:] for line in lines[:2]] == [
        "info session-1: renderer: Syntax error",
        r"info session-1: renderer: \x1b[2J" + "\N{REPLACEMENT CHARACTER}" + r"\rand",
    ]
    assert lines[2:] == ["afterwards"]


def test_a_guest_cannot_fill_the_log() -> None:
    status, lines = run('[os.write(2, b"x" * 500 + b"\\n") for _ in range(120)]')
    assert status == 0
    assert len(lines) < 30
    assert "similar lines suppressed" in lines[-2] + lines[-1]


def test_a_writer_never_waits() -> None:
    status, _ = run("[os.write(2, bytes(4096)) for _ in range(16)]")
    assert status == 0


def test_the_log_and_last_words_go_where_they_did() -> None:
    status, lines = run('logging.warning("ours"); print("python", file=sys.stderr); faulthandler._sigsegv()')
    assert status != 0
    assert lines[0].endswith("warning session-1: ours")
    assert lines[1] == "python"
    assert "Segmentation fault" in lines[2]


def test_a_hang_is_told_where_the_log_goes() -> None:
    """The watch aborts; what it says does not stay in the pipe."""
    body = "from backend._core import lib; lib.vg_hang_watch(1); [None for _ in iter(int, 1)]"
    status, lines = run(body)
    assert status == -signal.SIGABRT
    assert "no sign of life" in lines[0]


@pytest.fixture
def quiet() -> Iterator[None]:
    was = faulthandler.is_enabled()
    yield
    if not was:
        faulthandler.disable()


@pytest.mark.usefixtures("quiet")
async def test_everything_is_as_before_after_it() -> None:
    def all_of_it() -> tuple[object, ...]:
        return open_fds(), sys.stderr, os.fstat(2).st_ino, list(logging.getLogger().handlers)

    before = all_of_it()
    StrayOutput(asyncio.get_running_loop()).close()
    assert all_of_it() == before
