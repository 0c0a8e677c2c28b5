"""Time from exec of ``vhost-gpu`` to its first answer on the vhost-user socket, and what it holds then.

    python benchmarks/startup.py [RUNS]

Prints the median and the range in milliseconds, and the PSS of supervisor and idle session in MiB.
"""

import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from protocol.vhost_user import HEADER_SIZE, Request, encode


def _connect(path: Path) -> socket.socket:
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            time.sleep(0.001)


def _pss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def run(directory: Path) -> tuple[float, int]:
    """One start: milliseconds to the answer of GET_FEATURES, KiB held by both processes."""
    path = directory / "gpu.sock"
    began = time.monotonic()
    daemon = subprocess.Popen(
        [sys.executable, "-m", "vhost_gpu", "--socket-path", str(path)], stderr=subprocess.DEVNULL
    )
    with _connect(path) as vmm:
        vmm.sendall(encode(Request.GET_FEATURES))
        if len(vmm.recv(4096)) <= HEADER_SIZE:
            raise SystemExit("no answer")
        elapsed = (time.monotonic() - began) * 1000
        time.sleep(0.5)
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        held = sum(_pss_kib(int(pid)) for pid in [daemon.pid, *children])
    daemon.send_signal(signal.SIGTERM)
    daemon.wait()
    return elapsed, held


def main() -> None:
    """Runs and prints."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    os.chdir(Path(__file__).resolve().parents[1])
    with tempfile.TemporaryDirectory() as directory:
        results = [run(Path(directory)) for _ in range(runs)]
    times = [elapsed for elapsed, _ in results]
    print(f"first answer: median {statistics.median(times):.0f} ms, {min(times):.0f} to {max(times):.0f} ms")
    print(f"supervisor and idle session: {statistics.median(held for _, held in results) / 1024:.1f} MiB PSS")


if __name__ == "__main__":
    main()
