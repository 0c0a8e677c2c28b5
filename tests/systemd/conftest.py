"""One installation and one systemd for all tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.manager import Manager

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with the daemon installed for the prefix ``/opt/vhost-gpu``; returns what is to become ``/opt``."""
    destdir = tmp_path_factory.mktemp("install")
    command = [sys.executable, ROOT / "systemd/install.py", "--prefix", "/opt/vhost-gpu", "--destdir", destdir]
    subprocess.run(command, check=True)
    for folder in (destdir, *destdir.parents):  # a dynamic user has to get at it
        if folder.is_relative_to(tmp_path_factory.getbasetemp()):
            folder.chmod(0o755)
    return destdir / "opt"


@pytest.fixture(scope="session")
def manager(installed: Path) -> Iterator[Manager]:
    running = Manager(installed)
    yield running
    running.close()
