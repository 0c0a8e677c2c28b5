"""An X server without a screen, the viewer's process in it, and a daemon's display socket for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.frontend.fakedaemon import FakeDaemon
from tests.frontend.xscreen import ViewerProcess, XScreen, x_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def xscreen() -> Iterator[XScreen]:
    with x_server() as screen:
        yield screen


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(tmp_path / "vm.display")
    yield fake
    fake.close()


@contextmanager
def viewer_process(
    module: str, xscreen: XScreen, daemon: FakeDaemon, request: pytest.FixtureRequest
) -> Iterator[ViewerProcess]:
    arguments = getattr(request, "param", ["--scale", "1:1", "--filter", "nearest"])
    folder = daemon.path.parent
    environment = {**os.environ, **xscreen.environment, "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    command = [sys.executable, "-m", module, str(daemon.path), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, cwd=folder, text=True, **pipes) as process:  # type: ignore[call-overload]
        yield ViewerProcess(process, xscreen)
        process.kill()


@pytest.fixture
def viewer(xscreen: XScreen, daemon: FakeDaemon, request: pytest.FixtureRequest) -> Iterator[ViewerProcess]:
    """The viewer, looking at `daemon`; parametrize indirectly for its arguments, by default 1:1 and nearest."""
    with viewer_process("frontend.cli", xscreen, daemon, request) as process:
        yield process


@pytest.fixture
def recorded(xscreen: XScreen, daemon: FakeDaemon, request: pytest.FixtureRequest) -> Iterator[ViewerProcess]:
    """As `viewer`, telling what it does: see `recording`."""
    with viewer_process("tests.frontend.recording", xscreen, daemon, request) as process:
        yield process
