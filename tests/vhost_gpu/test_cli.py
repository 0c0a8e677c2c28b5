"""The command line: options, one clear line for wrong ones, QEMU's conventions."""

import json
import sys

import pytest

from backend import renderer
from protocol.errors import ConfigError
from vhost_gpu import __version__, cli, spawn
from vhost_gpu.options import Options


def test_capabilities_ignore_every_other_argument(capsys):
    assert cli.main(["--nonsense", "--print-capabilities", "--fd=x"]) == 0
    assert json.loads(capsys.readouterr().out) == {"type": "gpu", "features": ["virgl", "render-node"]}


def test_capabilities_without_a_renderer(capsys, monkeypatch):
    monkeypatch.setattr(renderer, "missing", lambda: "not there")
    assert cli.main(["--print-capabilities"]) == 0
    assert json.loads(capsys.readouterr().out) == {"type": "gpu", "features": []}


def test_version_has_the_renderers_too(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    ours, theirs = capsys.readouterr().out.splitlines()
    assert ours == f"vhost-gpu {__version__}"
    assert theirs.startswith(f"virglrenderer {renderer.version()}, ")


@pytest.mark.parametrize(
    ("code", "words"),
    [("import os; os.abort()", "ended with -6"), ("import time; time.sleep(60)", "does not answer")],
)
def test_version_survives_a_bad_driver(monkeypatch, code, words):
    monkeypatch.setattr(cli, "VERSION_SECONDS", 0.5)
    monkeypatch.setattr(spawn, "module_command", lambda _module: [sys.executable, "-c", code])
    ours, theirs = cli.versions().splitlines()
    assert ours == f"vhost-gpu {__version__}"
    assert theirs.startswith("no 3D: ")
    assert words in theirs


def test_virgl_without_a_renderer_names_the_package(capsys, monkeypatch):
    monkeypatch.setattr(renderer, "missing", lambda: "not there (Debian package libvirglrenderer-dev)")
    assert cli.main(["--virgl", "--socket-path", "/nonexistent/x.sock"]) == 2
    assert capsys.readouterr().err == "vhost-gpu: --virgl: not there (Debian package libvirglrenderer-dev)\n"


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    for option in (
        "socket-path",
        "fd",
        "display-socket",
        "max-outputs",
        "resolution",
        "max-hostmem",
        "poll-us",
        "virgl",
        "render-node",
        "trace",
        "log-level",
    ):
        assert f"--{option}" in text


def test_defaults():
    assert cli.parse(["--socket-path", "/run/x.sock"]) == Options(socket_path="/run/x.sock")


def test_every_option():
    text = "--fd=3 --display-socket d --max-outputs 16 --resolution 1920x1080 --max-hostmem 512 --poll-us 0"
    more = ["--log-level=debug", "--log-format=journal", "--virgl", "--render-node=/dev/dri/renderD128", "--trace=t"]
    assert cli.parse([*text.split(), *more]) == Options(
        fd=3,
        display_socket="d",
        max_outputs=16,
        resolution=(1920, 1080),
        max_hostmem=512 << 20,
        poll_us=0,
        log_level="debug",
        log_format="journal",
        virgl=True,
        render_node="/dev/dri/renderD128",
        trace="t",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-outputs", "0"], "1 to 16"),
        (["--max-outputs", "17"], "1 to 16"),
        (["--max-outputs", "\u0663"], "1 to 16"),
        (["--max-outputs", "1_0"], "1 to 16"),
        (["--resolution", "800"], "WIDTHxHEIGHT"),
        (["--resolution", "800x99999"], "WIDTHxHEIGHT"),
        (["--resolution=-1x5"], "WIDTHxHEIGHT"),
        (["--max-hostmem", "0"], "1 to"),
        (["--max-hostmem", "9" * 500], "1 to"),
        (["--fd", "-1"], "--fd"),
        (["--log-level", "loud"], "loud"),
        (["--socket-path", ""], "empty"),
        (["--socket-path", "x" * 103], "too long"),
        (["--socket", "x"], "--socket"),
        (["--socket-path", "x", "--fd", "3"], "exclude"),
        (["--render-node", ""], "empty"),
        (["--render-node", "/dev/null", "--fd", "3"], "/dev/null: not a DRM device"),
        (["--virgl", "--render-node", "/nonexistent", "--fd", "3"], "/nonexistent: No such file"),
        (["stray"], "stray"),
        ([], "is needed"),
        (["--socket-path", "/nonexistent/x.sock"], "/nonexistent/x.sock"),
    ],
)
def test_wrong_options_are_one_clear_line_and_code_2(capsys, arguments, words):
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vhost-gpu: ")
    assert words in lines[0]


def test_parse_raises_config_error():
    with pytest.raises(ConfigError):
        cli.parse(["--bad"])
