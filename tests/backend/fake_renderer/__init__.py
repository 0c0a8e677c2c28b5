"""The fake renderer as Python sees it: compiled for this run of the tests, in a folder of its own."""

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from cffi import FFI

HERE = Path(__file__).resolve().parent
CORE = HERE.parents[2] / "backend" / "core"


def _sanitize_flags() -> list[str]:
    with open("/proc/self/maps") as maps:
        if "libasan" not in maps.read():
            return []
    return ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def _build() -> Any:
    builder = FFI()
    header = (HERE / "fake_renderer.h").read_text()
    builder.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
    flags = _sanitize_flags()
    builder.set_source(
        "fake_renderer_module",
        '#include <stdint.h>\n#include "fake_renderer.h"\n',
        sources=[str(HERE / "fake_renderer.c")],
        include_dirs=[str(HERE), str(CORE)],
        extra_compile_args=["-O1", "-g", "-Wall", "-Wextra", "-Wno-unused-parameter", *flags],
        extra_link_args=[*flags, "-lpthread"],
    )
    folder = tempfile.mkdtemp(prefix="fake-renderer-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    preload = os.environ.pop("LD_PRELOAD", None)  # the compiler needs no sanitizer
    try:
        path = builder.compile(tmpdir=folder)
    finally:
        if preload is not None:
            os.environ["LD_PRELOAD"] = preload
    spec = importlib.util.spec_from_file_location("fake_renderer_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_module = _build()
ffi, fake = _module.ffi, _module.lib
