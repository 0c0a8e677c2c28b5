"""What was measured, and its way through JSON."""

import json

import pytest

from protocol.errors import ConfigError
from tests.vhost_gpu.bench.reportkit import TRIP, measured, results
from vhost_gpu.bench.results import from_json, to_json


def test_json_brings_everything_back():
    before = results()
    before.scenarios.append(measured("edid", TRIP, [(1.0, 2.0)], failures={"theirs": "no answer"}))
    assert from_json(json.loads(json.dumps(to_json(before)))) == before


def test_what_stands_beside_it_is_left_alone():
    assert from_json({**to_json(results()), "summary": {}}) == results()


@pytest.mark.parametrize("data", [None, [], {}, {"format": 2}, 7])
def test_other_files_are_refused(data):
    with pytest.raises(ConfigError, match="not a file of vhost-gpu-bench"):
        from_json(data)


@pytest.mark.parametrize("key", ["scenarios", "machine", "programs", "date"])
def test_what_is_missing_is_said(key):
    data = to_json(results())
    del data[key]
    with pytest.raises(ConfigError, match="damaged"):
        from_json(data)


def test_pairs_are_of_runs_beside_each_other():
    found = measured("x", TRIP, [(1.0, 5.0), (2.0, 5.0), (3.0, 5.0)], [(10.0, 5.0)])
    assert list(found.pairs("p50")) == [(1.0, 10.0)]
    del found.runs[0]
    assert list(found.pairs("p50")) == []


def test_a_limit_is_of_the_same_run_of_ours():
    found = measured("x", TRIP, [(1.0, 5.0), (2.0, 6.0)], [(10.0, 7.0)])
    assert list(found.beside("p50", "ping")) == [(1.0, 5.0), (2.0, 6.0)]


def test_only_our_failure_is_a_failure():
    found = results()
    found.scenarios[0].failures["theirs"] = "died"
    assert not found.failed
    found.scenarios[0].failures["ours"] = "died"
    assert found.failed
