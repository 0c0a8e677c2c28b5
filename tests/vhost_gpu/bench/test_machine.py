"""The machine and the programs."""

import json
import os
import sys

from tests.vhost_gpu.bench.reportkit import MACHINE
from vhost_gpu import __version__
from vhost_gpu.bench.machine import busy, describe_machine, describe_program
from vhost_gpu.bench.model import Program


def test_the_machine():
    found = describe_machine()
    assert set(found) == set(MACHINE)
    assert found["cpu"]
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["memory"] > 1 << 28
    assert found["versions"]["vhost-gpu"] == __version__
    assert json.loads(json.dumps(found)) == found


def test_a_busy_machine_is_remarked_on():
    assert busy(MACHINE) is None
    assert "load 3.0 on 2 cores" in busy({**MACHINE, "load": [3.0, 0.0, 0.0]})


def test_a_program_says_its_version():
    ours = Program("vhost-gpu", (sys.executable, "-m", "vhost_gpu"))
    assert describe_program(ours)["version"] == f"vhost-gpu {__version__}"


def test_a_program_that_does_not_has_the_one_of_its_package():
    version = describe_program(Program("false", ("/bin/false",)))["version"]
    assert version.startswith("coreutils ")


def test_a_program_of_nobody(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    assert describe_program(Program("script", (str(script),)))["version"] is None


def test_a_socket_has_no_version():
    assert describe_program(Program("gpu.sock", socket_path="/run/gpu.sock"))["version"] is None
