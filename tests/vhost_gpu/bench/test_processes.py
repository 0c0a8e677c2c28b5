"""What processes use, read from /proc."""

import mmap
import os
import subprocess
import sys

import pytest

from vhost_gpu.bench import processes

PARENT = "import subprocess, sys; p = subprocess.Popen(['cat']); print(p.pid, flush=True); p.wait()"


@pytest.fixture
def family():
    """A process and its child, both waiting for standard input to end."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    yield parent.pid, child
    parent.stdin.close()
    parent.wait()
    parent.stdout.close()


def test_a_tree_is_a_process_and_its_descendants(family):
    assert processes.tree(family[0]) == list(family)


def test_cpu_time_of_another_process_is_known(family):
    assert processes.cpu_seconds(family) > 0


def test_own_cpu_time_grows_with_work():
    before = processes.cpu_seconds([os.getpid()])
    sum(range(100_000))
    assert processes.cpu_seconds([os.getpid()]) > before


def test_memory_of_a_family_is_more_than_the_childs(family):
    assert processes.pss_bytes(family) > processes.pss_bytes(family[1:]) > 0


def test_memory_of_one_file_is_told_apart():
    fd = os.memfd_create("told-apart")
    os.ftruncate(fd, 1 << 20)
    with mmap.mmap(fd, 1 << 20) as mapping:
        mapping[:] = bytes(1 << 20)
        assert processes.mapped_pss_bytes([os.getpid()], "/memfd:told-apart") == 1 << 20
        assert processes.mapped_pss_bytes([os.getpid()], "/memfd:told-nothing") == 0
    os.close(fd)


def test_a_process_that_has_started_was_switched_to(family):
    assert processes.context_switches(family) > 0


def test_one_that_is_gone_uses_nothing():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert processes.tree(gone.pid) == [gone.pid]
    assert processes.cpu_seconds([gone.pid]) == 0
    assert processes.pss_bytes([gone.pid]) == 0
    assert processes.mapped_pss_bytes([gone.pid], "/") == 0
    assert processes.context_switches([gone.pid]) == 0
