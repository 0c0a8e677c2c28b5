"""What the machine allows, measured in the same run as what a back-end makes of it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from protocol.virtio_gpu import Rect
from vhost_gpu.bench._loop import ffi, lib
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.queueloop import percentile
from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.ring import Segment

if TYPE_CHECKING:
    from vhost_gpu.bench._loop import CData

_PIXEL = 4
_PONG = "import sys; from vhost_gpu.bench._loop import lib; sys.exit(lib.vb_pong(int(sys.argv[1]), int(sys.argv[2])))"
_MAX_PINGS = 1 << 20


def copy_rate(memory: GuestMemory, backing: Sequence[Segment], stride: int, rect: Rect, seconds: float) -> float:
    """How often a second ``rect`` can be copied from its backing to a linear picture of ``stride`` bytes a row.

    The source is guest memory, the target a memfd that has all its pages: the kinds of memory that a device copies
    between.
    """
    size = sum(piece.length for piece in backing)
    fd = os.memfd_create("vhost-gpu-copy", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        target = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    finally:
        os.close(fd)
    sources = [
        ffi.from_buffer("uint8_t[]", memory.view(piece.gpa, piece.length), require_writable=True) for piece in backing
    ]
    into = ffi.from_buffer("uint8_t[]", target, require_writable=True)
    spans = list(_spans([piece.length for piece in backing], _rows(stride, rect)))
    pieces = ffi.new("vb_piece[]", len(spans))
    for piece, (index, start, at, length) in zip(pieces, spans, strict=True):
        piece.source, piece.target, piece.length = sources[index] + start, into + at, length
    return _copies_a_second(pieces, len(spans), seconds)


def _copies_a_second(pieces: CData, count: int, seconds: float) -> float:
    ns = ffi.new("uint64_t *")
    lib.vb_copy(pieces, count, int(seconds * 1e8), ns)  # the first touch of pages is nobody's limit
    times = lib.vb_copy(pieces, count, int(seconds * 1e9), ns)
    return float(times / ns[0] * 1e9)


def _rows(stride: int, rect: Rect) -> list[tuple[int, int]]:
    """Begin and length of each run of bytes; whole rows are one run."""
    begin = rect.y * stride + rect.x * _PIXEL
    if rect.width * _PIXEL == stride:
        return [(begin, stride * rect.height)]
    return [(begin + i * stride, rect.width * _PIXEL) for i in range(rect.height)]


def _spans(lengths: Sequence[int], runs: Sequence[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """The runs cut at the pieces' ends: (piece, offset in it, offset in all, length). Runs come in rising order."""
    spans = []
    index, begin = 0, 0  # of the piece that holds the run's first byte
    for at, left in runs:
        while left:
            while at >= begin + lengths[index]:
                begin += lengths[index]
                index += 1
            length = min(left, begin + lengths[index] - at)
            spans.append((index, at - begin, at, length))
            at, left = at + length, left - length
    return spans


def ping_pong_us(seconds: float, cpus: Iterable[int] = (), percents: Sequence[float] = (50, 99)) -> list[float]:
    """Percentiles, in microseconds, of waking another process through an eventfd and being woken by it.

    ``cpus``: where the other process runs.
    """
    out, back = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
    arguments = [sys.executable, "-c", _PONG, str(out), str(back)]
    process = subprocess.Popen(
        arguments, pass_fds=(out, back), env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        os.sched_setaffinity(process.pid, set(cpus) or os.sched_getaffinity(0))
        latencies = _ping(out, back, seconds)
    finally:
        os.eventfd_write(out, 2)
        process.wait()
        os.close(out)
        os.close(back)
    return [percentile(latencies, percent) / 1000 for percent in percents]


def _ping(out: int, back: int, seconds: float) -> list[int]:
    latency = ffi.new("uint64_t[]", _MAX_PINGS)
    if lib.vb_ping(out, back, 0, latency, 1) != 1:  # it is there now
        raise BenchError("the process that plays ping-pong does not answer")
    done = lib.vb_ping(out, back, int(seconds * 1e9), latency, _MAX_PINGS)
    if done <= 0:
        raise BenchError("the process that plays ping-pong does not answer")
    return sorted(ffi.unpack(latency, done))
