"""scripts/demo, which make demo runs: it shows a moving picture and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .harness import picture
from .harness.daemon import REPO
from .harness.desktop import Desktop
from .harness.waiting import wait_until

PICTURE = REPO / "demo.png"


@contextmanager
def running(environment: dict[str, str], temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo; killed at the end if it has not ended."""
    process = subprocess.Popen(
        [sys.executable, str(REPO / "scripts" / "demo")],
        env={**environment, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def headless() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "DISPLAY"}


def left_behind(temporary: Path) -> list[str]:
    """Command lines of processes that name the demo's directory, and what is left in it."""
    found = [str(path) for path in temporary.iterdir()]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        if str(temporary) in words:
            found.append(words)
    return found


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the demo makes its sockets: pytest's own directories have names too long for them."""
    with tempfile.TemporaryDirectory(prefix="vgd-") as directory:
        yield Path(directory)


def test_without_a_display_it_leaves_a_picture(scratch: Path) -> None:
    started = time.time()
    with running(headless(), scratch) as demo:
        said, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, said
    assert str(PICTURE) in said
    assert PICTURE.stat().st_mtime >= started
    shown = picture.load(PICTURE)
    assert shown.shape == (768, 1024, 3)
    assert picture.coverage(shown) > 0.9, "kmscube's ground is grey"
    assert left_behind(scratch) == []


def close_window(desktop: Desktop, demo: subprocess.Popen[str]) -> None:  # noqa: ARG001
    desktop.close_window("vhost-gpu")


def press_ctrl_c(desktop: Desktop, demo: subprocess.Popen[str]) -> None:  # noqa: ARG001
    demo.send_signal(signal.SIGINT)


def terminate(desktop: Desktop, demo: subprocess.Popen[str]) -> None:  # noqa: ARG001
    demo.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("end", [close_window, press_ctrl_c, terminate])
def test_with_a_display_it_ends_when_told(
    scratch: Path, desktop: Desktop, end: Callable[[Desktop, subprocess.Popen[str]], None]
) -> None:
    with running(desktop.environment(), scratch) as demo:
        desktop.window("vhost-gpu", 120)
        wait_until(lambda: desktop.window("vhost-gpu")[2:] == (1024, 768), 60, "the guest's mode in the window")
        end(desktop, demo)
        said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0, said
    assert left_behind(scratch) == []


def test_where_qemu_is_too_old_it_shows_the_embedded_guest(tmp_path: Path, scratch: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    old = programs / "qemu-system-x86_64"
    old.write_text("#!/bin/sh\n[ $# = 1 ] && echo 'QEMU emulator version 7.2.15 (Debian)' || exit 1\n")
    old.chmod(0o755)
    started = time.time()
    with running({**headless(), "PATH": f"{programs}:{os.environ['PATH']}"}, scratch) as demo:
        said, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, said
    assert "QEMU 7.2 can't run vhost-user-gpu without KVM" in said
    assert PICTURE.stat().st_mtime >= started
    assert picture.coverage(picture.load(PICTURE)) > 0.5
    assert left_behind(scratch) == []
