#!/usr/bin/env python3
"""Page flips a second of a real guest: ours, QEMU's external back-end and QEMU's in-process device in alternation.

Each run boots the Debian guest of the end-to-end tests in QEMU (``-display none``) and lets ``modetest -v`` flip for
some seconds. Prints the medians, and ours against the others as the median of the rounds' ratios.

Usage: .venv/bin/python benchmarks/flips.py [--rounds N] [--seconds N] [--modes WxH ...] [--option DAEMON_OPTION ...]
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.harness.daemon import Daemon
from tests.e2e.harness.guest import Guest, guest_image
from tests.e2e.harness.waiting import wait_until

QEMU_BACKEND = "/usr/lib/qemu/vhost-user-gpu"
DEVICES = ("ours", "external", "in-process")


@contextmanager
def vhost_user_socket(device: str, options: list[str]) -> Iterator[Path | None]:
    """The socket of a fresh back-end; None for the in-process device."""
    if device == "in-process":
        yield None
    elif device == "ours":
        daemon = Daemon(*options)
        try:
            yield daemon.socket
        finally:
            daemon.close()
    else:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "socket"
            process = subprocess.Popen([QEMU_BACKEND, "--socket-path", str(path)])
            try:
                wait_until(path.exists, 10, "QEMU's back-end")
                yield path
            finally:
                process.kill()
                process.wait()


def flips(guest: Guest, mode: str, seconds: float) -> float:
    """Median of the rates that modetest prints, one a second; the first is left out."""
    with guest.program("flips", f"modetest -M virtio_gpu -v -s Virtual-1:{mode}"):
        time.sleep(seconds + 2)
        said = guest.run("cat /run/bg/flips.log")
    rates = [float(rate) for rate in re.findall(r"freq: ([0-9.]+)Hz", said)]
    if len(rates) < 2:
        raise RuntimeError(f"modetest said:\n{said}")
    return statistics.median(rates[1:])


def measure(device: str, modes: list[str], seconds: float, options: list[str]) -> dict[str, float]:
    """Flips a second by mode, of one boot."""
    with (
        vhost_user_socket(device, options) as socket,
        Guest(guest_image(), vhost_user=socket, properties="xres=1920,yres=1080", accelerator="tcg") as guest,
    ):
        guest.wait_boot()
        return {mode: flips(guest, mode, seconds) for mode in modes}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--modes", nargs="+", default=["1024x768", "1920x1080"])
    parser.add_argument("--option", action="append", default=[], help="of our daemon, such as --option=--poll-us=0")
    args = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(args.rounds):
        order = DEVICES if number % 2 == 0 else DEVICES[::-1]
        rounds.append({device: measure(device, args.modes, args.seconds, args.option) for device in order})
        print(rounds[-1], file=sys.stderr)
    for mode in args.modes:
        rates = {device: statistics.median(r[device][mode] for r in rounds) for device in DEVICES}
        print(f"{mode}: " + ", ".join(f"{device} {rate:.0f}/s" for device, rate in rates.items()))
        for rival in DEVICES[1:]:
            ratio = statistics.median(r["ours"][mode] / r[rival][mode] for r in rounds)
            print(f"{mode}: ours / {rival}: {ratio:.2f}")


if __name__ == "__main__":
    main()
