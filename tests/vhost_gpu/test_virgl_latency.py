"""A session with a renderer answers soon while others compute: its loop asks the kernel for short slices."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path

import pytest

from tests.vhost_gpu.guestkit import guest_on, own_device

SLICE_NS = 100_000
SYSCALLS = {"x86_64": 315, "aarch64": 275}  # sched_getattr


class SchedAttr(ctypes.Structure):
    """struct sched_attr, its first version (linux/sched/types.h)."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def scheduling(pid: int) -> SchedAttr:
    """How a thread is scheduled."""
    attributes = SchedAttr()
    libc = ctypes.CDLL(None, use_errno=True)
    assert not libc.syscall(SYSCALLS[platform.machine()], pid, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    return attributes


def knows_slices() -> bool:
    """Whether this kernel takes requests of normal threads: from 6.12 on."""
    major, minor = map(int, re.match(r"(\d+)\.(\d+)", platform.release()).groups())
    return (major, minor) >= (6, 12)


@pytest.mark.parametrize("options", [(), ("--virgl",)], ids=["2d", "virgl"])
async def test_only_a_session_with_a_renderer_asks_for_short_slices(options):
    async with own_device(*options) as device, guest_on(device) as gpu:
        await gpu.display_info()
        pid = device.process.pid
        (session,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        own = scheduling(session)
        assert (own.policy, own.nice) == (os.SCHED_OTHER, os.getpriority(os.PRIO_PROCESS, 0))
        if knows_slices():
            # Without one it has what it was started with: earlier tests in this process may have asked for themselves.
            assert own.runtime == (SLICE_NS if options else scheduling(0).runtime)
