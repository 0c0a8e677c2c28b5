"""The whole command, with scenarios that measure nothing."""

import json
import signal

import pytest

from protocol.errors import ConfigError
from tests.vhost_gpu.bench.reportkit import FRAMES, TRIP, scenario
from vhost_gpu.bench import measurement
from vhost_gpu.bench.cli import parse
from vhost_gpu.bench.measurement import execute, listing, select
from vhost_gpu.bench.model import BenchError

VERSUS = ["--pairs", "2", "--program", "/bin/true", "--versus", "/bin/false"]


def constant(values):
    return lambda *_: dict(values)


def picky(target, _settings):
    """Only /bin/true is good enough."""
    if target.program.name != "true":
        raise BenchError("no answer")
    return {"p50": 1.0, "ping": 1.0}


def interrupted(_target, _settings):
    """Ctrl-C, also where the tests run in the background, which a shell has ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


TRIPS = scenario("trips", TRIP, constant({"p50": 2.0, "ping": 1.0}))
RATES = scenario("rates", FRAMES, constant({"rate": 5.0, "cpu": 1.0, "copies": 10.0}))
LONG = scenario("long", TRIP, rival=False, standard=False)


def test_the_table_and_all_files(tmp_path, capsys):
    files = [tmp_path / name for name in ("a.json", "a.png", "a.md")]
    outputs = ["--json", str(files[0]), "--plot", str(files[1]), "--markdown", str(files[2])]
    assert execute(parse([*VERSUS, *outputs]), [TRIPS, RATES, LONG]) == 0
    out, err = capsys.readouterr()
    assert "Title of trips" in out
    assert "[8/8] rates  true" in err
    data = json.loads(files[0].read_text())
    assert len(data["scenarios"][0]["runs"]) == 4
    assert data["complete"]
    assert "](a.png)" in files[2].read_text()
    assert files[1].stat().st_size > 1000


def test_an_earlier_measurement_is_reported_again(tmp_path, capsys):
    file = tmp_path / "a.json"
    execute(parse([*VERSUS, "--json", str(file)]), [TRIPS])
    first = capsys.readouterr().out
    assert execute(parse(["--from", str(file)]), []) == 0
    assert capsys.readouterr().out == first


def test_json_to_standard_output_is_alone_there(capsys):
    assert execute(parse([*VERSUS, "--json", "-"]), [TRIPS]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["format"] == 1
    assert "Title of trips" in err


def test_a_rival_that_fails_is_no_failure_of_the_command(capsys):
    assert execute(parse(VERSUS), [scenario("a", TRIP, picky), TRIPS]) == 0
    assert "false failed at a: no answer (in run 1)" in capsys.readouterr().out


def test_ours_that_fails_is(capsys):
    assert execute(parse(["--program", "/bin/false", "--pairs", "1"]), [scenario("a", TRIP, picky), TRIPS]) == 1
    out = capsys.readouterr().out
    assert "false failed at a: no answer" in out
    assert "Title of trips" in out


def test_an_interruption_reports_what_there_is(tmp_path, capsys):
    file = tmp_path / "a.json"
    assert execute(parse([*VERSUS, "--json", str(file)]), [TRIPS, scenario("b", TRIP, interrupted)]) == 130
    out, err = capsys.readouterr()
    assert "Title of trips" in out
    assert "Title of b" not in out
    assert "cut short" in out
    assert err.endswith("interrupted\n")
    assert not json.loads(file.read_text())["complete"]


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_file_that_is_not_a_measurement(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a\.json"):
        execute(parse(["--from", str(file)]), [])


def test_a_missing_matplotlib_is_found_out_at_once(monkeypatch):
    monkeypatch.setattr(measurement.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="--plot needs matplotlib"):
        execute(parse(["--plot", "x.png"]), [LONG])


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ((), ["trips", "rates"]),
        (("long",), ["long"]),
        (("*s", "long"), ["trips", "rates", "long"]),
        (("r?tes",), ["rates"]),
    ],
)
def test_choosing(patterns, names):
    assert [each.name for each in select([TRIPS, RATES, LONG], patterns)] == names


def test_the_list():
    assert listing([TRIPS, LONG]).splitlines() == [
        "trips  Title of trips",
        "         Round trip, p50 (us), lower is better",
        "long   Title of long (vhost-gpu only, only when asked for)",
        "         Round trip, p50 (us), lower is better",
    ]
