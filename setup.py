"""Builds the C core through cffi; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["backend/_core_build.py:ffi"])
