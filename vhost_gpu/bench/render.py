"""3D commands: empty streams with fences, one in flight and many, beside the same calls made on the renderer itself."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.virtio_gpu import HEADER_SIZE, HeaderFlag
from protocol.virtio_gpu_3d import Submit3d
from vhost_gpu.bench import direct
from vhost_gpu.bench.commands import cpu_us, mean_us
from vhost_gpu.bench.direct import Job, Outcome, Wait
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import BenchError, Figure, Scenario, Settings
from vhost_gpu.bench.queueloop import Prepared, Run
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, Context, Gpu3d, No3d
from vhost_gpu.guest.ring import Segment

VIRGL = ("--virgl",)
"""What a back-end is started with: ours and QEMU's take the same."""
DEPTHS = (8, 32)
_SUBMIT_SIZE = HEADER_SIZE + 8
_WARM = 200


def gpu3d_of(guest: BenchGuest) -> Gpu3d:
    """The guest's 3D driver. Raises BenchError where the back-end has none."""
    try:
        return Gpu3d(guest.gpu)
    except No3d as error:
        raise BenchError(f"{guest.target.program.name}: {error}") from error


def submission(context: Context, stream: bytes = b"", payload: Segment | None = None) -> Prepared:
    """SUBMIT_3D with a fence; the stream follows from where it lies, when it is not empty."""
    head = Submit3d(stream).encode(HeaderFlag.FENCE, 0, context.ctx_id)[:_SUBMIT_SIZE]
    return Prepared(head, payload=payload)


def batched(run: Run) -> float:
    """Interrupts for each time that completions were found: 1 when none was sent in vain."""
    return run.interrupts / run.batches


def around(job: Job, before: Outcome) -> dict[str, float]:
    """The renderer itself, measured again behind the device: the mean of both, so that what drifts meets both."""
    after = direct.measure(job)
    return {
        name: (getattr(before, name) + getattr(after, name)) / 2 for name in ("p50", "p99", "mean_us", "rate", "cpu")
    }


def _empty(wait: Wait, depth: int, seconds: float) -> Job:
    return Job([b""], seconds, wait, depth)


def _submit(target: Target, settings: Settings) -> dict[str, float]:
    job = _empty(Wait.ASYNC, 1, settings.seconds / 4)
    with BenchGuest.open(target, features=VIRGL_FEATURES) as guest:
        operation = (submission(guest.do(gpu3d_of(guest).context())),)
        first = direct.measure(job)
        guest.control.run([operation], count=_WARM)
        before = target.cpu_seconds()
        run = guest.control.run([operation], seconds=settings.seconds)
        cpu = cpu_us(target, before, run)
        limit = around(job, first)
    spun = direct.measure(_empty(Wait.SPIN, 1, settings.seconds / 4))
    return {
        "time": mean_us(run),
        "p50": run.percentile_us(50),
        "p99": run.percentile_us(99),
        "rate": run.rate,
        "interrupts": run.interrupts / run.commands,
        "batch": batched(run),
        "cpu": cpu,
        "direct": limit["mean_us"],
        "direct50": limit["p50"],
        "direct99": limit["p99"],
        "spun": spun.mean_us,
    }


def _depths(target: Target, settings: Settings) -> dict[str, float]:
    figures: dict[str, float] = {}
    with BenchGuest.open(target, features=VIRGL_FEATURES) as guest:
        operation = (submission(guest.do(gpu3d_of(guest).context())),)
        guest.control.run([operation], count=_WARM)
        for depth in DEPTHS:
            job = _empty(Wait.ASYNC, depth, settings.seconds / 4)
            first = direct.measure(job)
            before = target.cpu_seconds()
            run = guest.control.run([operation], depth=depth, seconds=settings.seconds / 2)
            figures[f"cpu_{depth}"] = cpu_us(target, before, run)
            figures[f"time_{depth}"] = mean_us(run)
            figures[f"interrupts_{depth}"] = run.interrupts / run.commands
            figures[f"batch_{depth}"] = batched(run)
            figures[f"direct_{depth}"] = around(job, first)["mean_us"]
            figures[f"spun_{depth}"] = direct.measure(_empty(Wait.SPIN, depth, settings.seconds / 4)).mean_us
    return figures


_SUBMIT_FIGURES = (
    Figure("time", "Time a stream, one in flight", "us", "lower", "direct"),
    Figure("p50", "Time a stream, p50", "us", "lower", "direct50"),
    Figure("p99", "Time a stream, p99", "us", "lower", "direct99"),
    Figure("rate", "Streams a second", "/s", "higher"),
    Figure("interrupts", "Interrupts a stream", "", "lower"),
    Figure("batch", "Interrupts a batch of completions", "", "lower"),
    Figure("cpu", "CPU of the back-end a stream", "us", "lower"),
    Figure("direct", "Directly, asleep until the fence comes", "us", "lower"),
    Figure("direct50", "Directly, asleep until the fence comes, p50", "us", "lower"),
    Figure("direct99", "Directly, asleep until the fence comes, p99", "us", "lower"),
    Figure("spun", "Directly, never asleep", "us", "lower"),
)


def _depth_figures(depths: Sequence[int]) -> tuple[Figure, ...]:
    many = "in flight"
    return (
        *(Figure(f"time_{n}", f"Time a stream, {n} {many}", "us", "lower", f"direct_{n}") for n in depths),
        *(Figure(f"interrupts_{n}", f"Interrupts a stream, {n} {many}", "", "lower") for n in depths),
        *(Figure(f"batch_{n}", f"Interrupts a batch of completions, {n} {many}", "", "lower") for n in depths),
        *(Figure(f"cpu_{n}", f"CPU of the back-end a stream, {n} {many}", "us", "lower") for n in depths),
        *(Figure(f"direct_{n}", f"Directly, asleep until the fence comes, {n} {many}", "us", "lower") for n in depths),
        *(Figure(f"spun_{n}", f"Directly, never asleep, {n} {many}", "us", "lower") for n in depths),
    )


SCENARIOS = (
    Scenario(
        "submit-3d",
        "Empty SUBMIT_3D with a fence, one in flight, by interrupt only",
        _SUBMIT_FIGURES,
        _submit,
        options=VIRGL,
        standard=direct.available(),
    ),
    Scenario(
        "depth-3d",
        "Many empty SUBMIT_3D with fences in flight",
        _depth_figures(DEPTHS),
        _depths,
        options=VIRGL,
        standard=direct.available(),
    ),
)
