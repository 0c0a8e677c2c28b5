"""A real systemd as PID 1, in namespaces and a cgroup of its own, with our units and a journal. Needs root."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
STARTUP_LIMIT = 60  # seconds
LIMIT = 30  # seconds, for what a test waits for
# As much of a machine as our units and the journal need.
UNITS = {
    "test.target": "[Unit]\nRequires=sysinit.target\nWants=journald.service\nAfter=journald.service\n",
    "sysinit.target": "[Unit]\nDefaultDependencies=no\n",
    "basic.target": "[Unit]\nDefaultDependencies=no\n",
    "sockets.target": "[Unit]\nDefaultDependencies=no\n",
    "shutdown.target": "[Unit]\nDefaultDependencies=no\n",
    "systemd-journald.socket": (
        "[Unit]\nDefaultDependencies=no\n"
        "[Socket]\nListenStream=/run/systemd/journal/stdout\nListenDatagram=/run/systemd/journal/socket\n"
        "ReceiveBuffer=8M\nService=journald.service\n"
    ),
    "journald.service": (
        "[Unit]\nDefaultDependencies=no\nRequires=systemd-journald.socket\nAfter=systemd-journald.socket\n"
        "[Service]\nType=notify\nExecStart=/lib/systemd/systemd-journald\nStandardOutput=null\n"
        "Sockets=systemd-journald.socket\nRuntimeDirectory=systemd/journal\nRuntimeDirectoryPreserve=yes\n"
    ),
}


def cgroup2_mount() -> Path:
    """Where the unified hierarchy is mounted on this machine."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return Path(fields[4])
    raise RuntimeError("cgroup2 is not mounted")


class Manager:
    """The running manager; ``tree`` becomes its ``/opt``."""

    def __init__(self, tree: Path) -> None:
        units = tree / "units"
        units.mkdir(exist_ok=True)
        for name, text in UNITS.items():
            (units / name).write_text(text)
        self._cgroup = cgroup2_mount() / f"vhost-gpu-test-{os.getpid()}"
        self._cgroup.mkdir()
        self._launcher = subprocess.Popen([HERE / "start-manager", self._cgroup, tree], start_new_session=True)
        self.pid = self._find_init()
        self._wait_until_up()

    def _find_init(self) -> int:
        """Our view of the manager's process: the only child of ``unshare``."""
        children = Path(f"/proc/{self._launcher.pid}/task/{self._launcher.pid}/children")
        deadline = time.monotonic() + STARTUP_LIMIT
        while time.monotonic() < deadline and self._launcher.poll() is None:
            for child in children.read_text().split():
                if os.readlink(f"/proc/{child}/exe").endswith("/systemd"):
                    return int(child)
            time.sleep(0.02)
        raise RuntimeError("systemd does not start in a namespace")

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + STARTUP_LIMIT
        while self.run("systemctl", "is-active", "test.target", check=False) != "active\n":
            if time.monotonic() > deadline:
                raise RuntimeError("systemd does not reach its target")
            time.sleep(0.05)

    def inside(self, *command: str) -> list[str]:
        """The command as one that runs inside."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", "--cgroup", *command]

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command inside; its output."""
        result = subprocess.run(
            self.inside(*command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{command}: {result.returncode}: {result.stdout}")
        return result.stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        text = self.run("systemctl", "show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def wait(self, unit: str, **wanted: str) -> None:
        """Until the unit's properties are these."""
        deadline = time.monotonic() + LIMIT
        while (now := self.show(unit, *wanted)) != wanted:
            if time.monotonic() > deadline:
                raise AssertionError(f"{unit}: {now}, not {wanted}\n" + "\n".join(self.messages(unit)))
            time.sleep(0.05)

    def wait_for_change(self, unit: str, name: str, old: str) -> None:
        """Until a property is no longer ``old``."""
        deadline = time.monotonic() + LIMIT
        while self.show(unit, name)[name] == old:
            if time.monotonic() > deadline:
                raise AssertionError(f"{unit}: {name} stays {old}")
            time.sleep(0.05)

    def messages(self, unit: str) -> list[str]:
        """``priority text`` of each line in the journal of a unit."""
        self.run("journalctl", "--sync", check=False)
        text = self.run("journalctl", "--unit", unit, "--output=json", "--no-pager", "--directory=/run/log/journal")
        entries = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [f"{entry['PRIORITY']} {entry['MESSAGE']}" for entry in entries]

    def path(self, inside: str) -> str:
        """A path of the manager's namespace, as this process can open it."""
        return f"/proc/{self.pid}/root{inside}"

    def close(self) -> None:
        """Kills it with everything it runs."""
        pidfd = os.pidfd_open(self.pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], LIMIT)
        os.close(pidfd)
        self._launcher.wait(LIMIT)
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
