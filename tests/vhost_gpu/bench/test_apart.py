"""Processes that play VMs: their sessions, turns, what they share, and how they end."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vhost_gpu.bench.benchkit import wait_until
from vhost_gpu.bench import apart
from vhost_gpu.bench.apart import Descriptor, Shared
from vhost_gpu.bench.model import BenchError


def has_ended(pid: int) -> bool:
    """Whoever inherits it need not have reaped it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def counting(shared: Shared, index: int) -> Iterator[None]:
    """Counts until it is told to end, each turn."""
    stop, tally = shared.stop(), shared.tally(index)
    while True:
        yield
        while not stop.flag[0]:
            tally.result.operations += 1


def writing(descriptor: Descriptor) -> Iterator[None]:
    os.write(descriptor.fd, b"hello")
    yield


def failing(words: str) -> Iterator[None]:
    yield
    raise BenchError(words)


def vanishing() -> Iterator[None]:
    yield
    os._exit(0)


@pytest.mark.parametrize("own", [True, False])
def test_its_session(own):
    with apart.running(counting, Shared(1), 0, own_session=own) as one:
        assert (os.getsid(one.pid) == one.pid) == own
        assert own or os.getsid(one.pid) == os.getsid(0)


def test_turns():
    shared = Shared(2)
    stop, tallies = shared.stop(), [shared.tally(index) for index in range(2)]
    with apart.running(counting, shared, 0) as first, apart.running(counting, shared, 1) as second:
        assert [tally.operations for tally in tallies] == [0, 0]
        first.go()
        second.go()
        wait_until(lambda: all(tally.operations > 100 for tally in tallies))
        stop.set()
        first.wait()
        second.wait()
        stop.clear()
        for tally in tallies:
            tally.clear()
        first.go()
        wait_until(lambda: tallies[0].operations > 100)
        assert tallies[1].operations == 0, "it is not its turn"


def test_a_descriptor_goes_along():
    there, here = os.pipe()
    with apart.running(writing, Descriptor(here)):
        assert os.read(there, 10) == b"hello"
    os.close(there)
    os.close(here)


def test_what_fails_is_told():
    with apart.running(failing, "no luck today") as one:
        one.go()
        with pytest.raises(BenchError, match="no luck today"):
            one.wait()


def test_one_that_is_gone_is_an_error():
    with apart.running(vanishing) as one:
        one.go()
        with pytest.raises(BenchError, match="is gone"):
            one.wait()


def test_it_is_gone_on_leaving():
    with apart.running(counting, Shared(1), 0) as one:
        one.go()
        pid = one.pid
        assert os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(f"/proc/{pid}")


def test_it_is_gone_when_its_starter_was_killed():
    script = (
        "from tests.vhost_gpu.bench.test_apart import *\n"
        "with apart.running(counting, Shared(1), 0) as one:\n"
        "    one.go()\n"
        "    print(one.pid, flush=True)\n"
        "    one.wait()\n"
    )
    arguments = [sys.executable, "-c", script]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()}) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    wait_until(lambda: has_ended(pid))
