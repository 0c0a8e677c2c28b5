"""What a measurement ran on: the machine, its load, the versions. For the report; nothing here is measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vhost_gpu import __version__
from vhost_gpu.bench.model import Program

_SECONDS = 5.0
_BUSY = 0.25
"""The load for each core from which figures are not to be trusted."""


def describe_machine() -> dict[str, Any]:
    """The machine and its state at this moment; sizes in bytes."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": _system(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": list(os.getloadavg()),
        "versions": _versions(),
    }


def busy(machine: dict[str, Any]) -> str | None:
    """A remark when other work was going on; ``machine`` as ``describe_machine`` has it."""
    load = machine["load"][0]
    if load < _BUSY * machine["cores"]:
        return None
    return f"the machine is busy: load {load:.1f} on {machine['cores']} cores; ratios hold better than times"


def describe_program(program: Program) -> dict[str, Any]:
    """What a side of the measurement is."""
    version = _version(program.argv) if program.argv else None
    return {"name": program.name, "argv": program.argv, "socket_path": program.socket_path, "version": version}


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown"


def _versions() -> dict[str, str]:
    found = {"vhost-gpu": __version__, "python": platform.python_version()}
    for name in ("uvloop", "cffi"):
        found[name] = importlib.metadata.version(name)
    return found


def _version(argv: Sequence[str]) -> str | None:
    """What the program says of itself, else the version of the package that it comes in."""
    said = _output(*argv, "--version")
    return _package(Path(shutil.which(argv[0]) or argv[0])) if said is None else said


def _package(path: Path) -> str | None:
    """The package that a file comes in, on Debian and the like; it may be known by the path before /usr was merged."""
    for name in (path.absolute(), path.resolve()):
        if owner := _output("dpkg-query", "--search", str(name)):
            return _output("dpkg-query", "--show", "--showformat=${Package} ${Version}", owner.partition(": ")[0])
    return None


def _output(*command: str) -> str | None:
    """The first line that a command prints, if it ends well."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.splitlines()
    return lines[0].strip() if lines and not done.returncode else None
