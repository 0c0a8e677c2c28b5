"""Builds ``vhost_gpu.bench._loop``, the benchmark's front-end loops, through cffi (API mode).

``core/vb_loop.h`` is both the C header and the cdef. Environment: as for ``backend/_core_build.py``.
"""

import os
from pathlib import Path

from cffi import FFI

CORE = Path(__file__).resolve().parent / "core"
PREAMBLE = """
/* What cffi generates below has parameters it does not use. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <stdint.h>
#include "vb_loop.h"
"""


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0", "false")


def _compile_flags() -> list[str]:
    flags = ["-O2", "-Wall", "-Wextra"]
    if _is_set("VG_WERROR") or _is_set("CI"):
        flags.append("-Werror")
    return flags


def _sanitize_flags() -> list[str]:
    if not _is_set("VG_SANITIZE"):
        return []
    return ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g"]


def _declarations() -> str:
    lines = (CORE / "vb_loop.h").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith(("#pragma", "#include")))


def _builder() -> FFI:
    builder = FFI()
    builder.cdef(_declarations())
    builder.set_source(
        "vhost_gpu.bench._loop",
        PREAMBLE,
        sources=sorted(os.path.relpath(path) for path in CORE.glob("*.c")),
        depends=sorted(os.path.relpath(path) for path in CORE.glob("*.h")),
        include_dirs=[str(CORE)],
        extra_compile_args=_compile_flags() + _sanitize_flags(),
        extra_link_args=_sanitize_flags(),
    )
    return builder


ffi = _builder()
