"""The renderer behind ``--virgl`` as Python sees it: whether it is there, what it is called, its table for the core.

``backend._virgl`` is built only where virglrenderer's header is, and loads only where its library is; neither is needed
without ``--virgl``. Run as a program (``python -m backend.renderer``), this opens the renderer and says what it renders
with: GL drivers are loaded then, which no other process need put up with.
"""

from __future__ import annotations

import os
import stat
import sys

from protocol.errors import ConfigError

BUILD_PACKAGE = "libvirglrenderer-dev"
RUN_PACKAGE = "libvirglrenderer1"
_DRM_MAJOR = 226  # Linux, Documentation/admin-guide/devices.txt
_TEXT_SIZE = 512
# Mesa speaks to standard error; whatever is wrong comes to us as an error anyway.
_QUIET = {"EGL_LOG_LEVEL": "fatal", "MESA_LOG_LEVEL": "fatal"}


def missing() -> str | None:
    """Why there is no 3D here, with the Debian package that would help; ``None`` where there is."""
    try:
        import backend._virgl  # noqa: F401
    except ModuleNotFoundError:
        return f"vhost-gpu was built without virglrenderer (Debian package {BUILD_PACKAGE}): install it and build again"
    except ImportError as error:
        return f"virglrenderer can't be loaded (Debian package {RUN_PACKAGE}): {error}"
    return None


def check() -> None:
    """Raises ``ConfigError`` when there is no 3D here."""
    reason = missing()
    if reason is not None:
        raise ConfigError(f"--virgl: {reason}")


def check_node(render_node: str) -> None:
    """Raises ``ConfigError`` when this is no DRM device that we may use."""
    try:
        status = os.stat(render_node)
        if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) != _DRM_MAJOR:
            raise ConfigError(f"--render-node {render_node}: not a DRM device")
        os.close(os.open(render_node, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise ConfigError(f"--render-node {render_node}: {error.strerror}") from error


def version() -> str:
    """virglrenderer's version; raises ``ImportError`` where it is missing."""
    from backend._virgl import ffi, lib

    return ffi.string(lib.vg_virgl_version()).decode()


def _threads(cpus: int) -> dict[str, str]:
    """What Mesa's llvmpipe is told of threads: one more than there are CPUs.

    They take a frame's tiles in turns, and it is done when each of them is. The guest, the VMM and the loop want the
    CPUs too: with no thread to spare, the tiles of one that waits for its CPU wait with it. On one CPU Mesa has none.
    """
    return {"LP_NUM_THREADS": str(cpus + 1)} if cpus > 1 else {}


def ops_address() -> int:
    """Where the ``struct vg_renderer_ops`` for ``vg_render_start`` is; raises ``ImportError`` where it is missing."""
    from backend._virgl import ffi, lib

    for name, value in (_QUIET | _threads(len(os.sched_getaffinity(0)))).items():
        os.environ.setdefault(name, value)
    return int(ffi.cast("uintptr_t", lib.vg_virgl_ops()))


def probe(render_node: str | None = None) -> str:
    """Opens the renderer and closes it; what GL calls it. Raises ``ConfigError``, and ``ImportError`` as above."""
    from backend._virgl import ffi, lib

    ops_address()
    name, why = ffi.new("char[]", _TEXT_SIZE), ffi.new("char[]", _TEXT_SIZE)
    node = ffi.NULL if render_node is None else os.fsencode(render_node)
    if lib.vg_virgl_probe(node, name, _TEXT_SIZE, why, _TEXT_SIZE) < 0:
        raise ConfigError(ffi.string(why).decode(errors="replace"))
    return ffi.string(name).decode(errors="replace")


def describe() -> str:
    """One line for ``--version``; opens the renderer in this process."""
    reason = missing()
    if reason is not None:
        return f"no 3D: {reason}"
    try:
        return f"virglrenderer {version()}, {probe()}"
    except ConfigError as error:
        return f"virglrenderer {version()}, no 3D: {error}"


if __name__ == "__main__":
    print(describe())
    sys.stdout.flush()
    os._exit(0)  # not through what GL drivers do at exit
