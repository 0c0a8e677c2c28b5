"""Session processes: how they are started, ended and reaped."""

import os
import sys

import pytest

from vhost_gpu import spawn as spawning
from vhost_gpu.spawn import session_command, spawn


def python(source):
    return [sys.executable, "-c", source]


def wait(process):
    process.control.close()
    return process.reap(wait=True)


def test_exit_code():
    assert wait(spawn(python("raise SystemExit(7)"))) == 7


def test_kill_is_a_negative_code_and_may_come_late():
    process = spawn(python("import time; time.sleep(1000)"))
    assert process.reap() is None
    assert not process.ended
    process.kill()
    os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
    assert process.ended
    process.kill()
    assert wait(process) == -9


def test_its_own_process_group_and_default_signals():
    source = (
        "import os, signal, sys;"
        "sys.exit(0 if os.getpgrp() == os.getpid() and not signal.pthread_sigmask(signal.SIG_BLOCK, ())"
        " and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL else 1)"
    )
    assert wait(spawn(python(source))) == 0


def test_the_control_channel_is_descriptor_3():
    source = "import socket, sys; socket.socket(fileno=int(sys.argv[-1])).send(' '.join(sys.argv[1:]).encode())"
    process = spawn(python(source))
    assert process.control.recv(100) == b"--control-fd 3"
    assert wait(process) == 0


def test_the_child_finds_this_package_and_nothing_in_its_directory(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = session_command()
    assert command[1:] == ["-P", "-m", "vhost_gpu.session"]
    source = "import json, vhost_gpu.control, sys; sys.exit(0)"
    assert wait(spawn([*command[:2], "-c", source])) == 0


def test_an_existing_python_path_stays(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    source = "import sys, vhost_gpu; sys.exit('/somewhere' not in sys.path)"
    assert wait(spawn(python(source))) == 0


def test_a_program_that_is_not_there(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No such file"):
        spawn([str(tmp_path / "missing")])
    assert len(os.listdir("/proc/self/fd")) == before


def test_seal_descriptors_spares_only_the_standard_streams():
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    spawning.seal_descriptors()
    assert not os.get_inheritable(reader)
    assert os.get_inheritable(1)
    os.close(reader)
    os.close(writer)
