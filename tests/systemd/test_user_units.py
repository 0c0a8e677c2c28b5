"""The user units under a user's own manager, which has no privileges."""

from __future__ import annotations

import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.systemd.manager import LIMIT, Manager

pytestmark = pytest.mark.systemd

NOBODY = 65534
UNIT = """
[Service]
Type=notify
User=nobody
Delegate=yes
RuntimeDirectory=user-test
Environment=XDG_RUNTIME_DIR=/run/user-test SYSTEMD_UNIT_PATH=/opt/user-units:/opt/vhost-gpu/lib/systemd/user
ExecStart=/lib/systemd/systemd --user --unit=test.target
"""


@pytest.fixture
def systemctl(manager: Manager, installed: Path) -> Iterator[Callable[..., str]]:
    """``systemctl --user`` for the manager of ``nobody``."""
    targets = installed / "user-units"
    targets.mkdir()
    for name in ("basic", "sockets", "shutdown", "test"):
        (targets / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    (installed / "units/user-manager.service").write_text(UNIT)
    manager.run("systemctl", "daemon-reload")
    manager.run("systemctl", "start", "user-manager.service")

    def run(*arguments: str) -> str:
        identity = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return manager.run(*identity, "env", "XDG_RUNTIME_DIR=/run/user-test", "systemctl", "--user", *arguments)

    yield run
    manager.run("systemctl", "kill", "--signal=KILL", "user-manager.service")


def wait_for_status(systemctl: Callable[..., str], service: str, status: str) -> None:
    deadline = time.monotonic() + LIMIT
    while (shown := systemctl("show", service, "--property=StatusText")) != f"StatusText={status}\n":
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)


def test_a_vmm_that_connects_starts_the_users_service(manager: Manager, systemctl: Callable[..., str]) -> None:
    for template in ("vhost-gpu", "vhost-gpu-virgl"):
        systemctl("start", f"{template}@vm1.socket")
        path = manager.path("/run/user-test/vhost-gpu/vm1.sock")
        status = os.stat(path)
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, NOBODY)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT)
            sock.connect(path)
            sock.sendall(struct.pack("<III", 1, 1, 0))
            assert len(sock.recv(64)) == 20
            wait_for_status(systemctl, f"{template}@vm1.service", "1 session, 0 viewers")
            systemctl("stop", f"{template}@vm1.service")
            assert sock.recv(1) == b""
        systemctl("stop", f"{template}@vm1.socket")
        assert not os.path.exists(path)
