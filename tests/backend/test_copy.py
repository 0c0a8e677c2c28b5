"""Copies past the caches, with what every processor has and with what newer ones have."""

import ctypes
import os
import random
import subprocess
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "backend" / "core"
GUARD = b"\xa5" * 256


@pytest.fixture(scope="module", params=["baseline", "newest"])
def copy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """``copy.c`` by itself; the baseline's asks no processor what it has."""
    library = tmp_path_factory.mktemp("copy") / "copy.so"
    options = ["-D__builtin_cpu_supports(name)=0"] if request.param == "baseline" else []
    compiler = os.environ.get("CC", "cc")
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [compiler, "-O2", "-shared", "-fPIC", *options, "-o", str(library), str(CORE / "copy.c")]
    subprocess.run(command, check=True, env=environment)
    return ctypes.CDLL(str(library))


def copied(copy: ctypes.CDLL, data: bytes, shift: int, with_next: bool) -> bytes:
    """What lies in the target, guards included, after a copy to an address that is so many bytes off a block."""
    source = ctypes.create_string_buffer(data, len(data) + 1)
    target = ctypes.create_string_buffer(len(data) + 2 * len(GUARD) + 128)
    ctypes.memset(target, GUARD[0], len(target))
    base = ctypes.addressof(target)
    at = base + -base % 64 + len(GUARD) // 2 + shift
    copy.vg_copy_stream(
        ctypes.c_void_p(at), source, ctypes.c_size_t(len(data)), source if with_next else ctypes.c_void_p()
    )
    copy.vg_copy_stream_end()
    whole = target.raw
    begin = at - base
    assert set(whole[:begin]) == set(whole[begin + len(data) :]) == {GUARD[0]}
    return whole[begin : begin + len(data)]


@pytest.mark.parametrize("size", [0, 1, 15, 63, 64, 65, 127, 128, 4095, 4096, 8192 + 17, 300_000])
def test_every_size_and_alignment(copy: ctypes.CDLL, size: int) -> None:
    data = random.Random(size).randbytes(size)
    for shift in (0, 1, 4, 15, 16, 31, 32, 60, 63):
        for with_next in (False, True):
            assert copied(copy, data, shift, with_next) == data
