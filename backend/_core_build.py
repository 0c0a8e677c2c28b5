"""Builds ``backend._core``, the C core, through cffi (API mode).

``core/vg_api.h`` is both the C header and the cdef. Environment: ``VG_SANITIZE=1`` builds with address and
undefined-behaviour sanitizers; ``VG_WERROR=1`` or ``CI=1`` turns warnings into errors.
"""

import os
from pathlib import Path

from cffi import FFI

CORE = Path(__file__).resolve().parent / "core"
PREAMBLE = """
/* What cffi generates below has parameters it does not use. */
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "vg_internal.h"
"""


def _is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0", "false")


def _compile_flags() -> list[str]:
    flags = ["-O2", "-fvisibility=hidden", "-Wall", "-Wextra"]
    if _is_set("VG_WERROR") or _is_set("CI"):
        flags.append("-Werror")
    return flags


def _whole_program_flags() -> list[str]:
    """The core's files call each other for every command: inlined across them, a small one takes a tenth less time.

    Not for clang, whose link-time optimization wants a linker of its own.
    """
    return [] if "clang" in os.environ.get("CC", "") else ["-flto=auto"]


def _sanitize_flags() -> list[str]:
    if not _is_set("VG_SANITIZE"):
        return []
    return ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g"]


def _declarations() -> str:
    lines = (CORE / "vg_api.h").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#pragma"))


def _builder() -> FFI:
    builder = FFI()
    shared_flags = _sanitize_flags() or _whole_program_flags()
    builder.cdef(_declarations())
    builder.set_source(
        "backend._core",
        PREAMBLE,
        sources=sorted(os.path.relpath(path) for path in CORE.glob("*.c")),
        depends=sorted(os.path.relpath(path) for path in CORE.glob("*.h")),
        include_dirs=[str(CORE)],
        extra_compile_args=_compile_flags() + shared_flags,
        extra_link_args=shared_flags,
    )
    return builder


ffi = _builder()
