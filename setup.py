"""Builds the C core, the benchmark's loops and, where virglrenderer is, the renderer; the rest is in pyproject.toml."""

import subprocess

from setuptools import setup

MODULES = ["backend/_core_build.py:ffi", "vhost_gpu/bench/_loop_build.py:ffi"]


def has_virglrenderer() -> bool:
    """Whether pkg-config finds virglrenderer (Debian: libvirglrenderer-dev)."""
    try:
        return subprocess.run(["pkg-config", "--exists", "virglrenderer"]).returncode == 0
    except OSError:
        return False


if has_virglrenderer():
    MODULES += ["backend/_virgl_build.py:ffi", "vhost_gpu/bench/_direct_build.py:ffi"]
else:
    print("vhost-gpu: virglrenderer is not there (Debian: libvirglrenderer-dev), so --virgl won't be")

setup(cffi_modules=MODULES)
