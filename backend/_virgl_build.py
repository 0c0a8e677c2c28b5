"""Builds ``backend._virgl``, the renderer behind ``vhost-gpu --virgl``, through cffi (API mode).

Only where virglrenderer and its header are: ``find()`` says so, and ``setup.py`` asks. Environment: as for
``backend/_core_build.py``.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

from cffi import FFI

VIRGL = Path(__file__).resolve().parent / "virgl"
CORE = Path(__file__).resolve().parent / "core"
PREAMBLE = """
/* What cffi generates below has parameters it does not use. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <sys/uio.h>
#include "vg_renderer.h"
#include "vg_virgl_api.h"
"""
IOVEC = "struct iovec { void *iov_base; size_t iov_len; };\n"


def _pkg_config(*arguments: str) -> str | None:
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), *arguments, "virglrenderer"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def find() -> str | None:
    """virglrenderer's version; ``None`` where it can't be built with."""
    return _pkg_config("--modversion")


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0", "false")


def _compile_flags() -> list[str]:
    flags = ["-O2", "-fvisibility=hidden", "-Wall", "-Wextra", f'-DVG_VIRGL_VERSION="{find()}"']
    if _is_set("VG_WERROR") or _is_set("CI"):
        flags.append("-Werror")
    return flags + shlex.split(_pkg_config("--cflags") or "")


def _sanitize_flags() -> list[str]:
    if not _is_set("VG_SANITIZE"):
        return []
    return ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g"]


def _declarations(header: Path) -> str:
    lines = header.read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    # cffi reads constants as plain numbers.
    constants = re.findall(r"^#define (VG_\w+) (\d+)u\b", header.read_text(), re.MULTILINE)
    return text + "".join(f"\n#define {name} {value}" for name, value in constants)


def _builder() -> FFI:
    builder = FFI()
    builder.cdef(IOVEC + _declarations(CORE / "vg_renderer.h") + _declarations(VIRGL / "vg_virgl_api.h"))
    builder.set_source(
        "backend._virgl",
        PREAMBLE,
        sources=sorted(os.path.relpath(path) for path in VIRGL.glob("*.c")),
        depends=sorted(os.path.relpath(path) for path in (*VIRGL.glob("*.h"), CORE / "vg_renderer.h")),
        include_dirs=[str(VIRGL), str(CORE)],
        extra_compile_args=_compile_flags() + _sanitize_flags(),
        extra_link_args=shlex.split(_pkg_config("--libs") or "") + _sanitize_flags(),
    )
    return builder


ffi = _builder()
