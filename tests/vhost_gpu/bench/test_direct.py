"""virglrenderer driven directly: on the real one, and what is said where it refuses."""

import dataclasses

import pytest

from vhost_gpu.bench import direct
from vhost_gpu.bench.direct import Job, Resource, Wait, decode, encode, measure
from vhost_gpu.bench.model import BenchError

JOB = Job([b"", b"\0\0\0\0"], 0.02)
TEXTURE = Resource(1, 2, 1, 2 | 8, 64, 32)  # PIPE_TEXTURE_2D, B8G8R8A8_UNORM, RENDER_TARGET and SAMPLER_VIEW


@pytest.mark.parametrize("wait", Wait)
@pytest.mark.parametrize("depth", [1, 8])
def test_every_way_of_waiting_gives_figures(wait, depth):
    outcome = measure(dataclasses.replace(JOB, wait=wait, depth=depth))
    assert outcome.rate > 0
    assert 0 < outcome.p50 <= outcome.p99
    assert outcome.cpu > 0
    assert outcome.mean_us == pytest.approx(1e6 / outcome.rate)


def test_a_picture_can_be_read_back_behind_each_fence():
    buffer = Resource(2, 0, 64, 16, 4096)
    assert measure(dataclasses.replace(JOB, resources=[TEXTURE, buffer], read=1)).rate > 0


def test_streams_can_be_paced():
    assert measure(dataclasses.replace(JOB, interval=0.01)).rate <= 200


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"streams": [b"\xff\0\1\0\0\0\0\0"]}, "refuses a stream"),
        ({"resources": [dataclasses.replace(TEXTURE, format=9999)]}, "refuses a resource"),
        ({"read": 7}, "refuses a resource"),
    ],
)
def test_what_the_renderer_refuses_is_an_error_with_a_reason(changes, reason):
    with pytest.raises(BenchError, match=reason):
        measure(dataclasses.replace(JOB, **changes))


def test_a_build_without_virglrenderer_says_so(monkeypatch):
    monkeypatch.setattr(direct, "available", lambda: False)
    with pytest.raises(BenchError, match="built without virglrenderer"):
        measure(JOB)


def test_jobs_travel_as_json():
    job = Job([b"abcd"], 0.5, Wait.SYNC, 8, 0.1, b"efgh", (TEXTURE,), 1)
    back = decode(encode(job))
    assert dataclasses.replace(back, resources=tuple(back.resources)) == job


def test_the_first_render_node_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(direct, "_NODES", tmp_path / "none")
    assert direct.render_node() is None
    monkeypatch.setattr(direct, "_NODES", tmp_path)
    for name in ("renderD129", "card0", "renderD128"):
        (tmp_path / name).touch()
    assert direct.render_node() == str(tmp_path / "renderD128")
