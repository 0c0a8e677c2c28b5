"""The demo command, as a person starts it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from protocol.errors import ConfigError
from tests.frontend.xscreen import x_server
from vhost_gpu.guest.balls_stream import BACKGROUND
from vhost_gpu.guest.demo import DemoOptions, main, parse
from vhost_gpu.guest.processes import private_daemon, program
from vhost_gpu.guest.shows import BallsShow, PaintedShow, ScatteredShow
from vhost_gpu.guest.vmm import VmmConnection, VmmError

NO_DISPLAY = {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
SECONDS = 60


async def demo(*arguments, environment=None):
    """Starts the command; its output is to be read."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vhost_gpu.guest.demo",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **NO_DISPLAY, **(environment or {})},
    )


async def first_line(process):
    """What it prints when the picture is up."""
    async with asyncio.timeout(SECONDS):
        return (await process.stdout.readline()).decode()


async def finish(process):
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_the_command_line():
    assert parse([]) == DemoOptions()
    chosen = parse(["--size", "640x480", "--seconds", "1.5", "--fps", "0", "--no-viewer", "--scattered"])
    assert chosen == DemoOptions(size=(640, 480), seconds=1.5, fps=0, viewer=False, scattered=True)


def test_scenes_are_named():
    assert parse(["--scene", "2d"]) == DemoOptions()
    assert parse([]).show is PaintedShow
    assert parse(["--scattered"]).show is ScatteredShow
    assert parse(["--scene", "balls"]).show is BallsShow


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--size", size] for size in ("640", "x", "0x0", "15x480", "640x9999", "-1x-1", "640x48\u0660")),
        *(["--seconds", seconds] for seconds in ("0", "-1", "nan", "soon", "1e99")),
        *(["--fps", "-1"], ["--unknown"], ["extra"], ["--scene", "3d"]),
    ],
)
def test_wrong_options_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert "vhost-gpu-demo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--viewer"], "no display"),
        (["--screenshot", "/nowhere/at/all.png"], "no folder"),
        (["--display-socket", "d"], "--socket-path"),
        (["--scene", "balls", "--scattered"], "only the 2d scene"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, monkeypatch, capsys):
    for name in NO_DISPLAY:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=message):
        parse(arguments)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_missing_daemon_is_a_configuration_error(tmp_path, capsys):
    assert main(["--socket-path", str(tmp_path / "none"), "--no-viewer", "--seconds", "1"]) == 2
    assert "cannot connect" in capsys.readouterr().err


async def test_it_paints_for_the_given_time():
    status, out, err = await finish(await demo("--seconds", "0.5", "--size", "320x200", "--fps", "0"))
    assert (status, err) == (0, "")
    assert out.endswith("frames/s\n")
    assert int(out.splitlines()[-1].split()[0]) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_end_everything(number, tmp_path):
    process = await demo("--size", "320x200", environment={"TMPDIR": str(tmp_path)})
    assert str(tmp_path) in await first_line(process)
    process.send_signal(number)
    status, out, _ = await finish(process)
    assert status == 0
    assert "frames/s" in out
    assert list(tmp_path.iterdir()) == []


async def test_a_running_daemon_is_used_and_left_running(tmp_path):
    picture = tmp_path / "shot.png"
    async with private_daemon((320, 200)) as daemon:
        arguments = ["--socket-path", daemon.socket_path, "--seconds", "0.3", "--screenshot", str(picture)]
        status, out, err = await finish(await demo(*arguments, "--scattered"))
        assert (status, err) == (0, "")
        assert str(picture) in out
        (await VmmConnection.connect(daemon.socket_path, None)).close()
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (320).to_bytes(4) + (200).to_bytes(4))


async def test_the_balls_are_drawn_by_a_daemon_of_its_own(tmp_path):
    picture = tmp_path / "balls.png"
    arguments = ["--scene", "balls", "--size", "320x200", "--seconds", "0.3", "--screenshot", str(picture)]
    status, _, err = await finish(await demo(*arguments))
    assert (status, err) == (0, "")
    with Image.open(picture) as shot:
        assert shot.size == (320, 200)
        colours = shot.convert("RGB").getcolors(320 * 200)
    background, count = max((many, colour) for many, colour in colours)[::-1]
    assert background == tuple(round(255 * channel) for channel in BACKGROUND[:3])
    assert 0.5 < count / (320 * 200) < 0.95


async def test_a_daemon_without_3d_has_no_balls():
    async with private_daemon() as daemon:
        status, _, err = await finish(await demo("--socket-path", daemon.socket_path, "--scene", "balls"))
    assert status == 2
    assert err == "vhost-gpu-demo: --scene balls: the device has no 3D: start the daemon with --virgl\n"


async def test_a_daemon_that_goes_away_ends_the_demo():
    async with private_daemon() as daemon:
        process = await demo("--socket-path", daemon.socket_path, "--size", "320x200")
        assert daemon.display_socket in await first_line(process)
    status, _, err = await finish(process)
    assert status == 1
    assert err == "vhost-gpu-demo: the daemon closed the connection\n"


async def test_a_daemon_that_cannot_start_says_so():
    with pytest.raises(VmmError, match="ended at once, with status 2"):
        async with private_daemon(options=["--max-outputs", "99"]):
            pass


async def test_a_program_is_gone_on_leaving():
    async with program(["-c", "import time; time.sleep(1000)"]) as running:
        pass
    assert await running.wait() == -signal.SIGTERM


def test_closing_the_viewer_ends_the_demo() -> None:
    command = [sys.executable, "-m", "vhost_gpu.guest.demo", "--size", "320x200"]
    with x_server() as screen:
        demo = subprocess.Popen(command, env={**os.environ, **screen.environment}, stdout=subprocess.PIPE, text=True)
        screen.wait_for_window("320x200")
        screen.key("ctrl+alt+q")
        said, _ = demo.communicate(timeout=60)
        assert demo.returncode == 0
        assert "frames/s" in said
        (socket_path,) = re.findall(r"the picture is on (\S+)", said)
        assert not Path(socket_path).parent.exists()
