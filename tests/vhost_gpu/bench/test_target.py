"""Programs are started, found, and gone afterwards."""

import os
import sys
from dataclasses import replace

import pytest

from tests.vhost_gpu.bench.benchkit import OURS, THEIRS
from vhost_gpu.bench.model import BenchError, Program
from vhost_gpu.bench.target import Target


@pytest.mark.parametrize("program", [OURS, THEIRS], ids=lambda program: program.name)
def test_a_program_is_started_and_gone_afterwards(program):
    with Target.start(program) as target, target.connect():
        (pid, *_) = target.pids()
        assert target.cpu_seconds() > 0
        assert target.pss_bytes() > 0
        assert target.context_switches() > 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_our_sessions_are_among_its_processes():
    with Target.start(OURS) as target, target.connect() as sock:
        sock.sendall((1).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(4))
        sock.recv(20)
        assert len(target.pids()) == 2


def test_one_that_listens_already_is_found_by_its_socket():
    with Target.start(OURS) as target:
        target.connect().close()
        running = replace(OURS, argv=(), socket_path=str(target.socket_path))
        with Target.start(running) as same, same.connect():
            assert same.pids()[0] == target.pids()[0]
        assert target.pids()


def test_the_path_goes_where_the_program_wants_it():
    program = Program("ours", (*OURS.argv, "--socket-path", "{socket}"))
    with Target.start(program) as target, target.connect():
        assert target.pids()


@pytest.mark.parametrize("more", [(), ("--socket-path", "{socket}")])
def test_a_scenarios_options_go_behind_the_programs_own(more):
    show = "import sys; sys.exit(' '.join(sys.argv[1:]))"
    program = Program("ours", (sys.executable, "-c", show, "own", *more))
    all_of_them = r"own --socket-path .* --virgl$"
    with Target.start(program, ["--virgl"]) as target, pytest.raises(BenchError, match=all_of_them):
        target.connect()


def test_a_program_that_does_not_exist():
    with pytest.raises(BenchError, match="nowhere"), Target.start(Program("nowhere", ("/nowhere",))):
        pass


def test_a_program_that_ends_at_once_is_reported_with_its_last_words():
    program = Program("short", (sys.executable, "-c", "import sys; sys.exit('no graphics today')"))
    with Target.start(program) as target, pytest.raises(BenchError, match="status 1: no graphics today"):
        target.connect()


def test_a_program_that_does_not_listen(monkeypatch):
    monkeypatch.setattr("vhost_gpu.bench.target._START_SECONDS", 0.2)
    program = Program("deaf", (sys.executable, "-c", "import time; time.sleep(60)"))
    with Target.start(program) as target, pytest.raises(BenchError, match="deaf does not listen"):
        target.connect()


def test_a_path_where_nobody_listens(tmp_path):
    program = Program("gone", socket_path=str(tmp_path / "gone.sock"))
    with Target.start(program) as target:
        assert target.pids() == []
        with pytest.raises(BenchError, match="nothing listens"):
            target.connect()


def test_a_program_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr("vhost_gpu.bench.target._END_SECONDS", 0.1)
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('in', flush=True); time.sleep(60)"
    )
    with Target.start(Program("stubborn", (sys.executable, "-c", stubborn))) as target:
        while not target.last_words():
            pass
        (pid,) = target.pids()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
