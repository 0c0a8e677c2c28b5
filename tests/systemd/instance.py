"""An instance of the units, as tests use it."""

from __future__ import annotations

import os
import socket
import struct

from tests.systemd.manager import LIMIT, Manager

GET_FEATURES = struct.pack("<III", 1, 1, 0)  # request, flags (version 1), payload size


class Instance:
    """The device of one VM."""

    def __init__(self, manager: Manager, name: str, template: str = "vhost-gpu") -> None:
        self.manager = manager
        self.service = f"{template}@{name}.service"
        self.socket = f"{template}@{name}.socket"
        self.vhost_user = manager.path(f"/run/vhost-gpu/{name}.sock")
        self.display = manager.path(f"/run/vhost-gpu/{name}.display")
        manager.run("systemctl", "start", self.socket)

    def connect(self) -> socket.socket:
        """A VMM whose first message has been answered."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(LIMIT)
        sock.connect(self.vhost_user)
        sock.sendall(GET_FEATURES)
        assert sock.recv(64)[:4] == b"\x01\x00\x00\x00"
        return sock

    def wait(self, **wanted: str) -> None:
        self.manager.wait(self.service, **wanted)

    def show(self, name: str) -> str:
        return self.manager.show(self.service, name)[name]

    def kill(self, signal: str) -> None:
        self.manager.run("systemctl", "kill", "--kill-whom=main", f"--signal={signal}", self.service)

    def configure(self, *lines: str) -> None:
        """A drop-in for the service."""
        folder = self.manager.path(f"/opt/units/{self.service}.d")
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/test.conf", "w") as stream:
            stream.write("\n".join(["[Service]", *lines, ""]))
        self.manager.run("systemctl", "daemon-reload")

    def processes(self) -> list[str]:
        """The inner process ids of the service."""
        group = self.show("ControlGroup")
        procs = f"/sys/fs/cgroup{group}/cgroup.procs"
        return self.manager.run("cat", procs, check=False).split() if group else []
