"""Whether there is 3D here, as the command line asks: missing parts by name, render nodes, what it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend import renderer
from protocol.errors import ConfigError

# How many threads of llvmpipe there are, on so many CPUs.
THREADS = """
import os
os.sched_getaffinity = lambda _: set(range({cpus}))
from pathlib import Path
from backend import renderer
from backend._virgl import ffi, lib
renderer.ops_address()
ops = ffi.cast("const struct vg_renderer_ops *", lib.vg_virgl_ops())
why = ffi.new("char[]", 256)
assert ops.open(ffi.NULL, ffi.new("struct vg_renderer_events *"), why, 256) == 0, ffi.string(why)
names = [task.joinpath("comm").read_text() for task in Path("/proc/self/task").iterdir()]
print(sum(name.startswith("llvmpipe-") for name in names), flush=True)
os._exit(0)
"""

ROOT = Path(__file__).resolve().parents[2]
# An import of the module that fails as told.
WITHOUT = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name == "backend._virgl":
            raise {error}
sys.meta_path.insert(0, Missing())
from backend import renderer
from protocol.errors import ConfigError
print(renderer.describe())
try:
    renderer.check()
except ConfigError as error:
    print(error)
"""


def run(code: str, **environment: str) -> list[str]:
    """What a program says, line by line, with nothing on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_it_is_there() -> None:
    assert renderer.missing() is None
    renderer.check()
    assert renderer.version()[0].isdigit()
    assert renderer.ops_address() != 0


@pytest.mark.parametrize(("cpus", "wanted", "threads"), [(2, "", 3), (5, "", 6), (5, "2", 2)])
def test_llvmpipe_has_a_thread_to_spare(monkeypatch: pytest.MonkeyPatch, cpus: int, wanted: str, threads: int) -> None:
    monkeypatch.delenv("LP_NUM_THREADS", raising=False)
    environment = {"LP_NUM_THREADS": wanted} if wanted else {}
    assert run(THREADS.format(cpus=cpus), GALLIUM_DRIVER="llvmpipe", **environment) == [str(threads)]


@pytest.mark.parametrize(
    ("error", "package"),
    [
        ('ModuleNotFoundError("No module named backend._virgl")', "libvirglrenderer-dev"),
        ('ImportError("libvirglrenderer.so.1: cannot open shared object file")', "libvirglrenderer1"),
    ],
)
def test_what_is_missing_is_named_with_its_package(error: str, package: str) -> None:
    described, refused = run(WITHOUT.format(error=error))
    assert described.startswith("no 3D: ")
    assert refused.startswith("--virgl: ")
    assert f"package {package})" in described
    assert f"package {package})" in refused


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ("/nonexistent/renderD128", "No such file or directory"),
        ("/dev/null", "not a DRM device"),
        ("/etc/passwd", "not a DRM device"),
        ("/dev", "not a DRM device"),
    ],
)
def test_a_render_node_that_is_none(node: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        renderer.check_node(node)
    assert str(refused.value) == f"--render-node {node}: {words}"


def test_what_it_renders_with() -> None:
    """Mesa's chatter stays out, and so does what virglrenderer says while it opens."""
    (line,) = run("from backend import renderer; print(renderer.describe())")
    assert line.startswith(f"virglrenderer {renderer.version()}, ")
    assert "no 3D" not in line


def test_a_node_that_cannot_be_rendered_with() -> None:
    code = (
        "from backend import renderer\nfrom protocol.errors import ConfigError\n"
        "try: renderer.probe('/dev/null')\nexcept ConfigError as error: print(error)"
    )
    assert run(code) == ["/dev/null: not a DRM device"]


def test_where_egl_has_no_driver_that_is_said(tmp_path: Path) -> None:
    code = "from backend import renderer; print(renderer.describe())"
    (line,) = run(code, __EGL_VENDOR_LIBRARY_DIRS=str(tmp_path))
    assert "no 3D: EGL has no driver" in line
    assert "package libegl-mesa0)" in line


def test_as_a_program() -> None:
    command = [sys.executable, "-P", "-m", "backend.renderer"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("virglrenderer ")
