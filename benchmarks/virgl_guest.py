#!/usr/bin/env python3
"""Frame rates of OpenGL programs in a real guest: ours with 3D, the guest's own software renderer on ours, QEMU's 3D.

Each run boots the Debian guest of the end-to-end tests and lets kmscube, glmark2-es2-drm and glxgears draw for some
seconds. "ours" is vhost-gpu --virgl behind QEMU with ``-display none``, "software" the same without --virgl,
"in-process" QEMU's virtio-gpu-gl-pci with ``-display sdl,gl=on`` on an Xvfb. They take turns; prints the medians, and
ours against the others as the median of the rounds' ratios.

Usage: .venv/bin/python benchmarks/virgl_guest.py [--rounds N] [--seconds N] [--programs NAME ...] [--devices NAME ...]
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.e2e.harness.daemon import Daemon
from tests.e2e.harness.desktop import Desktop
from tests.e2e.harness.guest import Guest, guest_image
from tests.e2e.harness.x11 import x11

DEVICES = ("ours", "software", "in-process")
KERNEL = "drm.edid_firmware=edid/1024x768.bin"
SCENES = ("build:use-vbo=true", "texture:texture-filter=linear", "shading:shading=phong")
WARM_UP = 40  # frames


@contextmanager
def booted(device: str) -> Iterator[Guest]:
    """A guest on a fresh device of this name."""
    with ExitStack() as stack:
        if device == "in-process":
            desktop = stack.enter_context(Desktop())
            guest = Guest(guest_image(), gl_display=desktop.display, kernel=KERNEL, accelerator="tcg")
        else:
            daemon = Daemon(*(["--virgl"] if device == "ours" else []))
            stack.callback(daemon.close)
            guest = Guest(guest_image(), vhost_user=daemon.socket, kernel=KERNEL, accelerator="tcg")
        stack.enter_context(guest)
        guest.wait_boot()
        yield guest


def _last(pattern: str, said: str) -> float:
    found = re.findall(pattern, said)
    if not found:
        raise RuntimeError(f"no {pattern} in:\n{said}")
    return float(found[-1])


def _cubes(guest: Guest, count: int) -> float:
    """Frames a second of so many frames. kmscube ends when it can read something, and writes when it ends."""
    command = f"mkfifo /tmp/silence 2>/dev/null; kmscube -c {count} <>/tmp/silence 2>&1"
    return _last(r"Rendered \d+ frames in [0-9.]+ sec \(([0-9.]+) fps", guest.run(command, 300))


def kmscube(guest: Guest, seconds: float) -> float:
    """Frames a second, the first ones left out of account."""
    return _cubes(guest, max(WARM_UP, int(_cubes(guest, WARM_UP) * seconds)))


def glmark2(guest: Guest, seconds: float) -> float:
    """The score: mean frames a second of the scenes."""
    scenes = " ".join(f"-b {scene}:duration={seconds / len(SCENES):.1f}" for scene in SCENES)
    said = guest.run(f"glmark2-es2-drm --visual-config alpha=0 {scenes} 2>&1", 300)
    return statistics.mean(map(float, re.findall(r"FPS: (\d+)", said)))


def glxgears(guest: Guest, seconds: float) -> float:
    """Frames a second, as it says every five seconds, the first time left out."""
    with x11(guest):
        said = guest.run(f"DISPLAY=:0 vblank_mode=0 timeout {max(seconds, 5) + 9:.0f} glxgears 2>&1 || true", 300)
        rates = [float(rate) for rate in re.findall(r"= +([0-9.]+) FPS", said)]
        if len(rates) < 2:
            raise RuntimeError(f"glxgears said:\n{said}")
        return statistics.median(rates[1:])


PROGRAMS: dict[str, Callable[[Guest, float], float]] = {"kmscube": kmscube, "glmark2": glmark2, "glxgears": glxgears}


def measure(device: str, programs: list[str], seconds: float) -> dict[str, float]:
    """Frames a second by program, of one boot."""
    with booted(device) as guest:
        return {program: PROGRAMS[program](guest, seconds) for program in programs}


def report(rounds: list[dict[str, dict[str, float]]], programs: list[str], devices: list[str]) -> Iterator[str]:
    """Medians and ratios, a line each."""
    for program in programs:
        rates = {device: statistics.median(r[device][program] for r in rounds) for device in devices}
        yield f"{program}: " + ", ".join(f"{device} {rate:.0f}/s" for device, rate in rates.items())
        for rival in devices[1:]:
            ratio = statistics.median(r[devices[0]][program] / r[rival][program] for r in rounds)
            yield f"{program}: {devices[0]} / {rival}: {ratio:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=9)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--devices", nargs="+", choices=DEVICES, default=list(DEVICES))
    args = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(args.rounds):
        order = args.devices if number % 2 == 0 else args.devices[::-1]
        rounds.append({device: measure(device, args.programs, args.seconds) for device in order})
        print(rounds[-1], file=sys.stderr, flush=True)
    print("\n".join(report(rounds, args.programs, args.devices)))


if __name__ == "__main__":
    main()
