"""Builds ``vhost_gpu.bench._direct``, loops on virglrenderer itself, through cffi (API mode), where its headers are.

``direct/vd_direct.h`` is both the C header and the cdef. Environment: as for ``backend/_core_build.py``.
"""

import os
import subprocess
from pathlib import Path

from cffi import FFI

SOURCES = Path(__file__).resolve().parent / "direct"
PREAMBLE = """
/* What cffi generates below has parameters it does not use. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <stdint.h>
#include "vd_direct.h"
"""


def _pkg_config(option: str) -> list[str]:
    return subprocess.run(
        ["pkg-config", option, "virglrenderer"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.split()


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0", "false")


def _compile_flags() -> list[str]:
    return ["-O2", "-Wall", "-Wextra", *(["-Werror"] if _is_set("VG_WERROR") or _is_set("CI") else [])]


def _declarations() -> str:
    lines = (SOURCES / "vd_direct.h").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith(("#pragma", "#include")))


def _builder() -> FFI:
    builder = FFI()
    builder.cdef(_declarations())
    builder.set_source(
        "vhost_gpu.bench._direct",
        PREAMBLE,
        sources=sorted(os.path.relpath(path) for path in SOURCES.glob("*.c")),
        depends=sorted(os.path.relpath(path) for path in SOURCES.glob("*.h")),
        include_dirs=[str(SOURCES)],
        extra_compile_args=[*_compile_flags(), *_pkg_config("--cflags")],
        extra_link_args=_pkg_config("--libs"),
    )
    return builder


ffi = _builder()
