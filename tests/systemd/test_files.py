"""What is installed, as far as it can be judged without a running systemd: verify, security, discovery, uninstall."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.systemd

ROOT = Path(__file__).parents[2]
PREFIX = "/opt/vhost-gpu"
MAX_EXPOSURE = 1.0


def installer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "systemd/install.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def units(installed: Path, tmp_path: Path) -> Path:
    """The installed units, with a command that exists outside of the test's ``/opt``."""
    for source in (installed / "vhost-gpu/lib/systemd").glob("*/*"):
        text = source.read_text().replace(PREFIX, str(installed / "vhost-gpu"))
        folder = tmp_path / source.parent.name
        folder.mkdir(exist_ok=True)
        (folder / source.name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("kind", ["system", "user"])
@pytest.mark.parametrize("template", ["vhost-gpu", "vhost-gpu-virgl"])
@pytest.mark.parametrize("suffix", ["service", "socket"])
def test_verify_finds_no_fault(units: Path, kind: str, template: str, suffix: str) -> None:
    source = units / kind / f"{template}@.{suffix}"
    named = units / kind / f"{template}@vm1.{suffix}"
    shutil.copy(source, named)
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{units / kind}:", "XDG_RUNTIME_DIR": str(units)}
    command = ["systemd-analyze", f"--{kind}", "--man=no", "--recursive-errors=yes", "verify", named]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    ours = [line for line in (result.stdout + result.stderr).splitlines() if "vhost-gpu" in line]
    assert (result.returncode, ours) == (0, [])


@pytest.mark.parametrize("template", ["vhost-gpu", "vhost-gpu-virgl"])
def test_exposure_is_small(units: Path, template: str) -> None:
    unit = units / f"system/{template}@.service"
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", unit]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level.*: ([0-9.]+)", text)
    assert found is not None
    assert float(found[1]) <= MAX_EXPOSURE


def test_the_discovery_file_names_the_command(installed: Path) -> None:
    found = json.loads((installed / "vhost-gpu/share/qemu/vhost-user/50-vhost-gpu.json").read_text())
    assert found["type"] == "gpu"
    assert found["binary"] == f"{PREFIX}/bin/vhost-gpu"
    assert os.access(installed / "vhost-gpu/bin/vhost-gpu", os.X_OK)


def test_nothing_installed_names_the_staging_directory(installed: Path) -> None:
    staging = str(installed.parent).encode()
    files = [path for path in installed.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert [path for path in files if staging in path.read_bytes()] == []


def test_the_installed_command_runs_by_itself(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit('wrong module')")
    python = installed / "vhost-gpu/lib/vhost-gpu/bin/python"
    command = [python, "-I", installed / "vhost-gpu/bin/vhost-gpu", "--version"]
    environment = {"PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert result.stdout.startswith("vhost-gpu ")
    source = "import vhost_gpu.session, frontend, sys; print(sys.modules['vhost_gpu'].__file__)"
    result = subprocess.run([python, "-I", "-c", source], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(str(installed))


def test_uninstall_removes_what_install_made_and_nothing_else(tmp_path: Path) -> None:
    other = tmp_path / "usr/lib/systemd/system/other.service"
    other.parent.mkdir(parents=True)
    other.touch()
    for _ in range(2):
        assert installer("--prefix", "/usr", "--destdir", tmp_path).returncode == 0
    assert (tmp_path / "usr/lib/systemd/system/vhost-gpu@.service").exists()
    assert installer("--prefix", "/usr", "--destdir", tmp_path, "--uninstall").returncode == 0
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [other]


@pytest.mark.parametrize("prefix", ["relative", "/with space", "/with%percent", "/with$dollar"])
def test_a_prefix_that_units_cannot_name_is_refused(tmp_path: Path, prefix: str) -> None:
    result = installer("--prefix", prefix, "--destdir", tmp_path)
    assert result.returncode == 2
    assert "PREFIX" in result.stderr
