"""Installs vhost-gpu for a machine, or removes it: ``make install`` and ``make uninstall``.

The packages and what they need are copied from the build environment into ``PREFIX/lib/vhost-gpu``, an environment of
its own that only its own commands use. Every text that names a path is filled in with PREFIX, never with DESTDIR.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("protocol", "backend", "vhost_gpu", "frontend")
COMMANDS = {
    "vhost-gpu": "vhost_gpu.cli",
    "vhost-gpu-bench": "vhost_gpu.bench.cli",
    "vhost-gpu-demo": "vhost_gpu.guest.demo",
    "vhost-gpu-viewer": "frontend.cli",
    "vhost-gpu-screenshot": "frontend.screenshot",
    "vhost-gpu-trace": "vhost_gpu.trace",
}
REQUIREMENTS = ("cffi", "uvloop", "numpy", "pyglet", "pillow")
TEMPLATES = {
    "systemd/system": "lib/systemd/system",
    "systemd/user": "lib/systemd/user",
    "systemd/qemu": "share/qemu/vhost-user",
}
# -I: neither the environment nor the current directory has a say in what is imported.
LAUNCHER = """#!{python} -I
import sys

from {module} import main

sys.exit(main())
"""


class Installation:
    """Where things go. ``prefix``: as the installed files will see it; ``destdir``: put in front while copying."""

    def __init__(self, prefix: str, destdir: str) -> None:
        self.prefix = prefix
        self.target = Path(destdir + prefix)
        self.destdir = destdir
        self.library = self.target / "lib/vhost-gpu"

    def install(self) -> None:
        self.uninstall()
        self._environment()
        for name, module in COMMANDS.items():
            text = LAUNCHER.format(python=f"{self.prefix}/lib/vhost-gpu/bin/python", module=module)
            _write(self.target / "bin" / name, text, 0o755)
        for source, path in self._templates():
            _write(path, source.read_text().replace("@PREFIX@", self.prefix), 0o644)
        for source, path in self._man_pages():
            _write(path, source.read_text(), 0o644)

    def uninstall(self) -> None:
        """Removes what ``install`` makes, and nothing else."""
        shutil.rmtree(self.library, ignore_errors=True)
        names = [self.target / "bin" / name for name in COMMANDS]
        names += [path for _, path in (*self._templates(), *self._man_pages())]
        for path in names:
            path.unlink(missing_ok=True)

    def _templates(self) -> Iterator[tuple[Path, Path]]:
        for folder, place in TEMPLATES.items():
            for source in sorted((ROOT / folder).iterdir()):
                yield source, self.target / place / source.name

    def _man_pages(self) -> Iterator[tuple[Path, Path]]:
        for source in sorted((ROOT / "docs/man").glob("*.[1-8]")):
            yield source, self.target / f"share/man/man{source.suffix[1:]}" / source.name

    def _environment(self) -> None:
        """A virtual environment as PEP 405 describes it, without anything that installs."""
        python = Path(os.path.realpath(sys.executable))
        version = ".".join(map(str, sys.version_info[:3]))
        packages = self.library / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        packages.mkdir(parents=True)
        (self.library / "bin").mkdir()
        (self.library / "bin/python").symlink_to(python)
        config = f"home = {python.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
        _write(self.library / "pyvenv.cfg", config, 0o644)
        for name in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__", "core", "virgl", "*.c", "_*_build.py")
            shutil.copytree(ROOT / name, packages / name, ignore=ignored)
        for name in _with_dependencies(REQUIREMENTS):
            _copy_distribution(name, packages)
        # Read-only under the sandbox: bytecode has to be there already.
        compileall.compile_dir(packages, quiet=2, stripdir=self.destdir or None, force=True)


def _with_dependencies(names: tuple[str, ...]) -> list[str]:
    """These distributions and all that they need in turn, extras left out."""
    found: list[str] = []
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.append(name)
        waiting += _requirements(name)
    return found


def _requirements(name: str) -> list[str]:
    wanted = [text for text in importlib.metadata.requires(name) or [] if "extra ==" not in text and "PyPy" not in text]
    return [re.split(r"[^A-Za-z0-9_.-]", text, maxsplit=1)[0] for text in wanted]


def _copy_distribution(name: str, packages: Path) -> None:
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # commands of the package, and bytecode that is made anew
        path = packages / file
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(distribution.locate_file(file)), path)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def main() -> None:
    parser = argparse.ArgumentParser(description="Installs vhost-gpu, or removes it.")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--destdir", default="")
    parser.add_argument("--uninstall", action="store_true")
    chosen = parser.parse_args()
    if not chosen.prefix.startswith("/") or re.search(r"[\s%$\"']", chosen.prefix):
        parser.error("PREFIX must be an absolute path without spaces, quotes, % or $")
    installation = Installation(chosen.prefix.rstrip("/"), chosen.destdir.rstrip("/"))
    if chosen.uninstall:
        installation.uninstall()
    else:
        installation.install()


if __name__ == "__main__":
    os.umask(0o022)
    main()
