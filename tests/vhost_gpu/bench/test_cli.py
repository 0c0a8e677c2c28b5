"""The command line."""

import socket
import sys

import pytest

from protocol.errors import ConfigError
from vhost_gpu.bench.cli import Options, main, parse
from vhost_gpu.bench.model import Program, Settings


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "gpu.sock"))
        yield tmp_path / "gpu.sock"


def test_by_default_ours_is_measured_alone():
    assert parse([]) == Options()
    assert parse([]).ours == Program("vhost-gpu", (sys.executable, "-m", "vhost_gpu"))


def test_everything_at_once(tmp_path):
    chosen = parse(
        [
            *("--versus", "/bin/true --virgl", "--program", "/bin/sh -c 'a b'", "--pairs", "3", "--seconds", "0.5"),
            *("--scenario", "a", "b*", "--scenario", "c", "--json", "-", "--plot", str(tmp_path / "x.PNG")),
            *("--poll-us", "0", "--markdown", str(tmp_path / "x.md")),
        ]
    )
    assert chosen == Options(
        ours=Program("sh", ("/bin/sh", "-c", "a b", "--poll-us", "0")),
        theirs=Program("true", ("/bin/true", "--virgl")),
        scenarios=("a", "b*", "c"),
        pairs=3,
        settings=Settings(0.5),
        json="-",
        plot=tmp_path / "x.PNG",
        markdown=tmp_path / "x.md",
    )


def test_quick_is_short_unless_told_otherwise():
    assert parse(["--quick"]).settings == Settings(0.2, quick=True)
    assert parse(["--quick"]).pairs == 3
    chosen = parse(["--quick", "--pairs", "1", "--seconds", "2"])
    assert (chosen.pairs, chosen.settings) == (1, Settings(2.0, quick=True))


def test_a_socket(listener):
    assert parse(["--socket-path", str(listener)]).ours == Program("gpu.sock", socket_path=str(listener))


def test_two_of_the_same_name_are_told_apart():
    chosen = parse(["--program", "/bin/true", "--versus", "/bin/true --other"])
    assert chosen.theirs == Program("true (other)", ("/bin/true", "--other"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--versus", "/no/such/program"], "there is no program /no/such/program"),
        (["--versus", ""], "the program is empty"),
        (["--program", "'"], "No closing quotation"),
        (["--socket-path", "/no/such/socket"], "there is no socket /no/such/socket"),
        (["--pairs", "0"], "'0' is not a whole number from 1"),
        (["--poll-us", "-1"], "--poll-us"),
        (["--poll-us", "\u0661"], "is not a whole number from 0"),
        (["--seconds", "nan"], "is not a number of seconds"),
        (["--seconds", "0"], "is not a number of seconds"),
        (["--plot", "x.gif"], "does not end in .png, .svg, .pdf"),
        (["--plot", "/no/such/folder/x.png"], "no folder"),
        (["--json", "/no/such/folder/x.json"], "no folder"),
        (["--json", "/"], "not a file's name"),
        (["--markdown", "/no/such/folder/x.md"], "no folder"),
        (["--from", "x.json", "--pairs", "3"], "--pairs has no place beside it"),
        (["--from", "x.json", "--quick"], "--quick has no place beside it"),
        (["--from", "x.json", "--socket-path", "SOCKET"], "--socket-path has no place beside it"),
        (["--from", "/no/such/file"], "can't read /no/such/file: No such file"),
        (["--program", "/bin/true", "--socket-path", "SOCKET"], "exclude each other"),
        (["--socket-path", "SOCKET", "--poll-us", "3"], "is running already"),
        (["--scenario", "no-such"], "there is no no-such; there are round-trip, "),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
)
def test_wrong_use_is_said_in_one_line(arguments, message, listener, capsys):
    arguments = [str(listener) if each == "SOCKET" else each for each in arguments]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("vhost-gpu-bench: ")
    assert err.count("\n") == 1
    assert message in err


def test_parse_raises_and_does_not_exit():
    with pytest.raises(ConfigError):
        parse(["--pairs", "x"])


def test_list(capsys):
    assert main(["--list"]) == 0
    assert "round-trip" in capsys.readouterr().out
