"""The same streams submitted directly to virglrenderer, in a process of its own: what the renderer itself allows.

:func:`measure` is for scenarios; the module run as a program is that process: a job as JSON on standard input, its
outcome as JSON on standard output.
"""

from __future__ import annotations

import base64
import errno
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.queueloop import percentile

_MAX_LATENCIES = 1 << 20
_START_SECONDS = 60.0
_NODES = Path("/dev/dri")
_ERRORS = {
    errno.ENODEV: "virglrenderer finds no EGL to render with",
    errno.ENOTSUP: "virglrenderer has no thread for fences here",
    errno.EINVAL: "virglrenderer refuses a resource",
    errno.EIO: "virglrenderer refuses a stream",
    errno.ETIMEDOUT: "a fence did not come for ten seconds",
}


class Wait(IntEnum):
    """How a fence is waited for: VD_* of ``direct/vd_direct.h``."""

    SPIN = 0
    """Never asleep: virgl_renderer_poll over and over."""
    SYNC = 1
    """Asleep until the renderer's descriptor says so (THREAD_SYNC)."""
    ASYNC = 2
    """Asleep until its fence thread says so (THREAD_SYNC and ASYNC_FENCE_CB)."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the job's context: VirGL's numbers as in RESOURCE_CREATE_3D."""

    id: int
    target: int
    format: int
    bind: int
    width: int
    height: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """``setup`` once, then ``streams`` in turn for ``seconds``, each with a fence and ``depth`` of them in flight.

    ``read``: the resource that is read back behind each fence, 0 for none. ``interval``: seconds from begin to begin.
    """

    streams: Sequence[bytes]
    seconds: float
    wait: Wait = Wait.ASYNC
    depth: int = 1
    interval: float = 0.0
    setup: bytes = b""
    resources: Sequence[Resource] = field(default_factory=tuple)
    read: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. ``cpu``: seconds of CPU for each stream, all threads; ``p50``, ``p99``: microseconds."""

    rate: float
    p50: float
    p99: float
    cpu: float

    @property
    def mean_us(self) -> float:
        """Microseconds for each stream."""
        return 1e6 / self.rate


def available() -> bool:
    """Whether this was built where virglrenderer is."""
    return importlib.util.find_spec("vhost_gpu.bench._direct") is not None


def measure(job: Job) -> Outcome:
    """Runs the job in a process of its own. Raises BenchError."""
    if not available():
        raise BenchError("built without virglrenderer: there is nothing to compare with")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-m", __name__],
        input=encode(job),
        capture_output=True,
        env=environment,
        timeout=_START_SECONDS + 20 * job.seconds,
    )
    if process.returncode:
        words = process.stderr.decode(errors="replace").strip()[-1000:]
        raise BenchError(f"virglrenderer directly: {words or process.returncode}")
    return Outcome(**json.loads(process.stdout.splitlines()[-1]))


def encode(job: Job) -> bytes:
    """A job as the process reads it."""
    texts = {"streams": [_text(each) for each in job.streams], "setup": _text(job.setup)}
    return json.dumps({**asdict(job), **texts}).encode()


def decode(data: bytes) -> Job:
    """``encode``'s back."""
    given: dict[str, Any] = json.loads(data)
    given["streams"] = [base64.b64decode(each) for each in given["streams"]]
    given["setup"] = base64.b64decode(given["setup"])
    given["wait"] = Wait(given["wait"])
    given["resources"] = [Resource(**each) for each in given["resources"]]
    return Job(**given)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def render_node() -> str | None:
    """The first render node that there is."""
    nodes = sorted(_NODES.glob("renderD*")) if _NODES.is_dir() else []
    return str(nodes[0]) if nodes else None


def run(job: Job) -> Outcome:
    """Does it, in this process: once only. Raises BenchError."""
    from vhost_gpu.bench._direct import ffi, lib

    node = render_node()
    _check(lib.vd_open(job.wait, ffi.NULL if node is None else ffi.new("char[]", node.encode())))
    for resource in job.resources:
        _check(lib.vd_create(ffi.new("vd_resource *", asdict(resource))))
    if job.setup:
        _check(lib.vd_submit(ffi.from_buffer("uint32_t[]", job.setup), len(job.setup) // 4))
    _run(job, min(0.2, job.seconds / 4))
    return _run(job, job.seconds)


def _run(job: Job, seconds: float) -> Outcome:
    from vhost_gpu.bench._direct import ffi, lib

    latencies = ffi.new("uint64_t[]", _MAX_LATENCIES)
    words = ffi.new("uint32_t[]", sum(map(len, job.streams)) // 4 + 1)
    ffi.buffer(words)[: sum(map(len, job.streams))] = b"".join(job.streams)
    lengths = ffi.new("uint32_t[]", [len(stream) // 4 for stream in job.streams])
    request = ffi.new("vd_job *")
    request.words, request.lengths, request.count = words, lengths, len(job.streams)
    request.depth, request.read_id = job.depth, job.read
    for resource in job.resources:
        if resource.id == job.read:
            request.read_width, request.read_height = resource.width, resource.height
    request.max_ns, request.interval_ns = int(seconds * 1e9), int(job.interval * 1e9)
    request.latency, request.latency_room = latencies, _MAX_LATENCIES
    result = ffi.new("vd_result *")
    before = time.process_time()
    _check(lib.vd_run(request, result))
    cpu = time.process_time() - before
    ordered = sorted(ffi.unpack(latencies, result.latencies))
    return Outcome(
        result.operations / result.ns * 1e9,
        percentile(ordered, 50) / 1000,
        percentile(ordered, 99) / 1000,
        cpu / result.operations,
    )


def _check(error: int) -> None:
    if error:
        raise BenchError(_ERRORS.get(-error, os.strerror(-error)))


def main() -> int:
    """The process: 0, or 1 with the reason on standard error."""
    try:
        outcome = run(decode(sys.stdin.buffer.read()))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"\n{json.dumps(asdict(outcome))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main())  # at once: what is left of the renderer ends with the process
