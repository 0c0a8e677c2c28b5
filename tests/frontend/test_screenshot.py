"""vhost-gpu-screenshot as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frontend.pixels import blend_cursor, cursor_rgba
from frontend.screenshot import main
from protocol.viewer import Hello
from protocol.virtio_gpu import Format
from tests.frontend.fakedaemon import DEADLINE, FakeDaemon, SharedImage
from tests.frontend.test_renderer import noise

ROOT = Path(__file__).parents[2]


def start(daemon: FakeDaemon, *arguments: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "frontend.screenshot", str(daemon.path), "out.png", *arguments]
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.Popen(command, env=environment, cwd=daemon.path.parent, stderr=subprocess.PIPE, text=True)


def saved(daemon: FakeDaemon) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(daemon.path.parent / "out.png") as image:
        return np.asarray(image)


def test_a_scanout_is_saved(daemon: FakeDaemon) -> None:
    image = SharedImage(1, 50, 40, Format.A8R8G8B8_UNORM, pad=3)
    picture = noise(image)
    with start(daemon, "--scanout", "1", "--session", "mine") as process:
        assert daemon.welcome(scanouts=2) == Hello("mine")
        daemon.show(image, scanout=1)
        assert process.wait(DEADLINE) == 0
    assert np.array_equal(saved(daemon), picture[..., :3])


def test_with_the_cursor(daemon: FakeDaemon) -> None:
    image = SharedImage(1, 100, 100)
    picture = noise(image)
    cursor = np.random.default_rng(3).integers(0, 256, 16384, np.uint8).tobytes()
    with start(daemon, "--cursor") as process:
        daemon.welcome()
        daemon.image(image)
        daemon.mode(100, 100)
        daemon.frame(image)
        daemon.cursor(cursor, hot=(9, 9))
        daemon.move_cursor(-10, 70)
        assert process.wait(DEADLINE) == 0
    blend_cursor(picture, cursor_rgba(cursor), -10, 70)
    assert np.array_equal(saved(daemon), picture[..., :3])


def test_nothing_scanned_out(daemon: FakeDaemon) -> None:
    with start(daemon, "--timeout", "0.5") as process:
        daemon.welcome()
        daemon.clear()
        assert process.wait(DEADLINE) == 1
        assert process.stderr is not None
        assert "nothing is scanned out on scanout 0" in process.stderr.read()


def test_a_scanout_that_the_session_has_not(daemon: FakeDaemon) -> None:
    with start(daemon, "--timeout", "0.5", "--scanout", "5") as process:
        daemon.welcome(scanouts=2)
        assert process.wait(DEADLINE) == 1
        assert process.stderr is not None
        assert "no scanout 5: the session has 2" in process.stderr.read()


def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.display"), str(tmp_path / "out.png"), "--timeout", "0"]) == 1
    assert "no daemon at" in capsys.readouterr().err


def test_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.display"), "/"]) == 2
    assert main([str(tmp_path / "none.display"), "out.png", "--session", "n" * 100]) == 2
    for wrong in (["--scanout", "16"], ["--timeout", "-1"], ["--timeout", "nan"], ["--timeout", "soon"], ["--wrong"]):
        with pytest.raises(SystemExit, match="2"):
            main(["a.display", "out.png", *wrong])
    assert "not a scanout's number" in capsys.readouterr().err
