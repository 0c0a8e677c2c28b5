"""The command line of vhost-gpu-viewer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from frontend.cli import main, parser
from tests.frontend.xscreen import DEADLINE, XScreen

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    variables = {**inherited, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "frontend.cli", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=DEADLINE)


def test_arguments() -> None:
    arguments = parser().parse_args(["vm.display", "--session", "a", "--scale", "1:1", "--scanout", "3", "--stats"])
    assert (arguments.socket, arguments.session, arguments.scale, arguments.scanout) == ("vm.display", "a", "1:1", 3)
    assert arguments.stats
    for wrong in (["--scanout", "16"], ["--scale", "2:1"], ["--filter", "cubic"]):
        with pytest.raises(SystemExit, match="2"):
            parser().parse_args(wrong)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("vhost-gpu-viewer ")


def test_no_display_set() -> None:
    result = run("vm.display")
    assert result.returncode == 2
    assert result.stderr.startswith("vhost-gpu-viewer: there is no display")
    assert "Traceback" not in result.stderr


def test_a_display_that_does_not_answer() -> None:
    result = run("vm.display", DISPLAY=":4095")
    assert result.returncode == 2
    assert "the display :4095 can't be opened" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_wrong_socket(xscreen: XScreen, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(tmp_path / "vm.sock"))
        stream.listen()
        result = run(str(tmp_path / "vm.sock"), **xscreen.environment)
    assert result.returncode == 2
    assert "not a display socket" in result.stderr
