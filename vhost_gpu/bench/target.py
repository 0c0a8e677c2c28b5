"""A back-end under measurement: a program that is started for the purpose, or one that listens already."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from vhost_gpu.bench import processes
from vhost_gpu.bench.model import BenchError, Program
from vhost_gpu.listen import display_path_beside

_START_SECONDS = 20.0
_END_SECONDS = 5.0
_LOOK_SECONDS = 0.0002
_CREDENTIALS = struct.Struct("iII")


class Target:
    """A running back-end. It may serve one connection only, so each measurement starts one of its own."""

    def __init__(
        self, program: Program, socket_path: Path, process: subprocess.Popen[bytes] | None, log: IO[bytes] | None
    ) -> None:
        """Takes a back-end as it is: :meth:`start` is for callers."""
        self.program = program
        self.socket_path = socket_path
        self.started = time.monotonic()
        """When the program was started, by time.monotonic()."""
        self._process = process
        self._log = log
        self._root = 0 if process is None else process.pid

    @classmethod
    @contextmanager
    def start(cls, program: Program, options: Sequence[str] = ()) -> Iterator[Self]:
        """Starts the program with more ``options``; it is gone on leaving. One that listens already is taken as it is.

        Raises BenchError.
        """
        if program.socket_path is not None:
            yield cls(program, Path(program.socket_path), None, None)
            return
        with tempfile.TemporaryDirectory(prefix="vhost-gpu-bench-") as folder, tempfile.TemporaryFile() as log:
            path = Path(folder) / "gpu.sock"
            process = _spawn(program, options, path, log)
            try:
                yield cls(program, path, process, log)
            finally:
                _end(process)

    # ---- connections ----

    def connect(self) -> socket.socket:
        """A connection as a VMM; waits until the program listens. Raises BenchError."""
        return self._connect(self.socket_path, socket.SOCK_STREAM)

    def connect_viewer(self) -> socket.socket:
        """A connection as a viewer, where a back-end like ours listens for them. Raises BenchError."""
        return self._connect(self.display_path, socket.SOCK_SEQPACKET)

    @property
    def display_path(self) -> Path:
        """Where our daemon listens for viewers; other back-ends do not."""
        return Path(display_path_beside(str(self.socket_path)))

    def _connect(self, path: Path, kind: socket.SocketKind) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, kind)
        try:
            while not _connects(sock, path):
                self._check_alive(path)
                time.sleep(_LOOK_SECONDS)
        except BaseException:
            sock.close()
            raise
        if not self._root:
            self._root = _peer_pid(sock)
        return sock

    def _check_alive(self, path: Path) -> None:
        if self._process is None:
            raise BenchError(f"{self.program.name}: nothing listens at {path}")
        if self._process.poll() is not None:
            raise BenchError(f"{self.program.name} ended with status {self._process.returncode}{self.last_words()}")
        if time.monotonic() - self.started > _START_SECONDS:
            raise BenchError(f"{self.program.name} does not listen at {path}{self.last_words()}")

    def last_words(self) -> str:
        """The end of what the program printed, to go into an error: empty, or a colon and the text."""
        if self._log is None:
            return ""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 1000))
        text = self._log.read().decode(errors="replace").strip()
        return f": {text}" if text else ""

    # ---- what it uses ----

    def pids(self) -> list[int]:
        """Its processes: the program or who listens at the socket, and all descendants."""
        return processes.tree(self._root) if self._root else []

    def cpu_seconds(self) -> float:
        """CPU time of its processes so far."""
        return processes.cpu_seconds(self.pids())

    def pss_bytes(self) -> int:
        """Memory of its processes."""
        return processes.pss_bytes(self.pids())

    def guest_memory_bytes(self) -> int:
        """The part of it that is the guest's own memory, half of which counts for whoever else maps it: for us."""
        return processes.mapped_pss_bytes(self.pids(), "/memfd:vhost-gpu-guest")

    def context_switches(self) -> int:
        """Context switches of its processes so far."""
        return processes.context_switches(self.pids())


def _spawn(program: Program, options: Sequence[str], path: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    arguments = [part.replace("{socket}", str(path)) for part in program.argv]
    if arguments == list(program.argv):
        arguments += ["--socket-path", str(path)]
    arguments += options
    try:
        return subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **_import_path()}
        )
    except OSError as error:
        raise BenchError(f"{program.name}: {error}") from None


def _import_path() -> dict[str, str]:
    """``python -m vhost_gpu`` is to be the one that measures, wherever it is run from."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _connects(sock: socket.socket, path: Path) -> bool:
    try:
        sock.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _peer_pid(sock: socket.socket) -> int:
    """Who listens: the process that bound the socket (unix(7), SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])
