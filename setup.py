"""Builds the C core and the benchmark's loops through cffi; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["backend/_core_build.py:ffi", "vhost_gpu/bench/_loop_build.py:ffi"])
