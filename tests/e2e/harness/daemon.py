"""Our daemon, and QEMU's own back-end, as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from . import picture
from .picture import Picture
from .waiting import wait_until

REPO = Path(__file__).resolve().parents[3]


def environment() -> dict[str, str]:
    """For our programs, run from the working tree."""
    return {**os.environ, "PYTHONPATH": str(REPO), "PYTHONWARNINGS": "default"}


class Daemon:
    """One vhost-gpu process. Its sockets lie in a directory of its own."""

    def __init__(self, *options: str) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="vhost-gpu-e2e-")
        self.directory = Path(self._scratch.name)
        self.socket = self.directory / "vgpu.sock"
        self.display = self.directory / "vgpu.display"
        self._log = open(self.directory / "log", "wb")  # noqa: SIM115  (closed with the daemon)
        command = [sys.executable, "-m", "vhost_gpu", "--socket-path", self.socket, "--display-socket", self.display]
        self.process = subprocess.Popen(
            [*map(str, command), *options], stdin=subprocess.DEVNULL, stderr=self._log, env=environment(), cwd=REPO
        )
        try:
            wait_until(self._listening, 10, "vhost-gpu's sockets", 0.02)
        except BaseException:
            self.close()
            raise

    def _listening(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"vhost-gpu ended at once:\n{self.log()}")
        return self.socket.exists() and self.display.exists()

    def log(self) -> str:
        """What it has logged so far."""
        return (self.directory / "log").read_text(errors="replace")

    def screenshot(self, scanout: int = 0, *options: str) -> Picture:
        """What vhost-gpu-screenshot saves of the newest session."""
        target = self.directory / "screenshot.png"
        command = [sys.executable, "-m", "frontend.screenshot", self.display, target, "--scanout", scanout, *options]
        subprocess.run([*map(str, command)], env=environment(), cwd=REPO, check=True, timeout=60)
        return picture.load(target)

    def close(self) -> int:
        """Ends it with SIGTERM; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()
        self._scratch.cleanup()
        return status
