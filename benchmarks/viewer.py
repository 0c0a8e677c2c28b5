"""What the viewer costs, and how late its pictures are: uploading damage against uploading the same frames whole.

    python benchmarks/viewer.py [--seconds N] [--rounds N] [--size WxH] [--fps N] [--scenes ...] [--against CHECKOUT]

A guest of ours moves a picture at a steady rate, in a process of its own, on a daemon of its own; the viewer looks at
it under an Xvfb of its own (software OpenGL). For each scene the variants of the viewer run in turns:

    damage   the viewer as it is
    whole    the same viewer, but every frame is uploaded and painted whole
    other    the viewer of another checkout (--against)

Printed: CPU milliseconds a frame of the viewer's process (all threads) and of the X server, medians over the rounds,
the ratio damage / whole of each round's neighbours, and the latency from the guest's flush to the finished upload.
Last comes what the viewer does while nothing changes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCENES = {
    "scene": "the demo's moving scene, exact damage",
    "video": "a video of 5/6 x 5/6 of the screen",
    "full": "every pixel changes, one rectangle",
    "small": "64x64 pixels change",
    "idle": "nothing changes",
}
SETTLE_FRAMES = 30


# ---- the guest's process


async def guest(scene: str, socket_path: str, width: int, height: int, fps: float) -> None:
    """Moves the picture until it is told to end."""
    from protocol.virtio_gpu import Format
    from vhost_gpu.guest.driver import GuestGpu
    from vhost_gpu.guest.framebuffer import Framebuffer
    from vhost_gpu.guest.memory import MIB, GuestMemory, one_region, page_align
    from vhost_gpu.guest.vmm import VmmConnection, VmmOptions

    memory = GuestMemory([])
    vmm = await VmmConnection.connect(socket_path, memory, VmmOptions(display=None))
    await vmm.negotiate()
    memory.add_region(one_region(page_align(width * height * 4) + 32 * MIB)[0])
    gpu = GuestGpu(vmm)
    await gpu.start()
    framebuffer = await Framebuffer.create(gpu, width, height, Format.B8G8R8X8_UNORM)
    step = painter(scene, framebuffer.pixels, width, height)
    await framebuffer.show()
    await framebuffer.flush()
    print("ready", flush=True)
    due = time.monotonic()
    while True:
        damage = step()
        if damage:
            await framebuffer.flush(damage)
        due = max(due + 1 / fps, time.monotonic())
        await asyncio.sleep(due - time.monotonic() if damage else 3600)


def painter(scene: str, pixels: memoryview, width: int, height: int) -> Callable[[], list[Any]]:
    """Paints the first picture; returns what paints the next and tells its damage."""
    from protocol.virtio_gpu import Rect
    from vhost_gpu.guest.scene import Scene

    moving = Scene(width, height)
    moving.start(pixels)
    if scene == "scene":
        return lambda: moving.step(pixels)
    side = {"full": (width, height), "video": (width * 5 // 6, height * 5 // 6), "small": (64, 64)}
    if scene not in side:
        return list
    return scroller(pixels, width, Rect((width - side[scene][0]) // 2, (height - side[scene][1]) // 2, *side[scene]))


def scroller(pixels: memoryview, width: int, part: Any) -> Callable[[], list[Any]]:
    """Scrolls noise through a part of the picture."""
    size = part.width * part.height * 4
    noise = memoryview(os.urandom(1 << 20) * (size // (1 << 20) + 2))
    frame = 0

    def step() -> list[Any]:
        nonlocal frame
        frame += 1
        at = frame * 4 * 997 % (1 << 20)
        if part.width == width:
            pixels[:] = noise[at : at + size]
            return [part]
        for row in range(part.height):
            target = ((part.y + row) * width + part.x) * 4
            begin = at + row * part.width * 4
            pixels[target : target + part.width * 4] = noise[begin : begin + part.width * 4]
        return [part]

    return step


# ---- the viewer's process


def viewer(socket_path: str, variant: str) -> None:
    """Shows it until SIGTERM; then prints the latency of every frame since SIGUSR1, in nanoseconds."""
    from frontend.client import Client
    from frontend.display import open_display
    from frontend.options import Options

    open_display()
    import frontend.window as window_module
    from frontend.viewer import Viewer

    latencies: list[int] = []

    class Recording(window_module.Statistics):
        def add(self, flush_ns: int, now_ns: int) -> None:
            super().add(flush_ns, now_ns)
            latencies.append(now_ns - flush_ns)
            if len(latencies) == SETTLE_FRAMES:
                print("settled", flush=True)

    window_module.Statistics = Recording  # type: ignore[misc]
    signal.signal(signal.SIGUSR1, lambda *_: latencies.clear())
    signal.signal(signal.SIGTERM, _end)
    extra = {"whole_frames": True} if variant == "whole" else {}
    print("starting", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        Viewer(Client(socket_path), Options(**extra)).run()
    print(json.dumps(latencies), flush=True)


def _end(*_: object) -> None:
    raise KeyboardInterrupt


# ---- the measurement


@dataclass
class Sample:
    """One run of one variant: per frame where it says so."""

    frames: int
    cpu_ms: float
    """Of the viewer, a frame."""
    x_ms: float
    """Of the X server, a frame."""
    latencies: list[int]
    switches: int
    """Context switches of the viewer in all."""
    cpu_total_ms: float


def cpu_ns(pid: int) -> int:
    """CPU time of a process's living threads."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def switches(pid: int) -> int:
    """Context switches of a process's living threads."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        total += sum(int(line.split()[1]) for line in path.read_text().splitlines() if "ctxt_switches" in line)
    return total


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process, ended on leaving."""
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.terminate()


def until(process: subprocess.Popen[str], word: str) -> None:
    """Waits for a line of a process."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise SystemExit(f"a process ended before it was {word}")


@contextlib.contextmanager
def x_server(size: str) -> Iterator[tuple[str, int]]:
    """An Xvfb of our own: its display and process id."""
    reader, writer = os.pipe()
    command = ["Xvfb", "-displayfd", str(writer), "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset"]
    with running(command, pass_fds=[writer], stderr=subprocess.DEVNULL) as process:
        os.close(writer)
        with open(reader) as numbers:
            number = numbers.readline().strip()
        yield f":{number}", process.pid


@contextlib.contextmanager
def moving(scene: str, options: argparse.Namespace) -> Iterator[str]:
    """Daemon and guest; gives the display socket."""
    with tempfile.TemporaryDirectory() as folder:
        path, display = f"{folder}/gpu.sock", f"{folder}/gpu.display"
        daemon = [sys.executable, "-m", "vhost_gpu", "--socket-path", path, "--display-socket", display]
        daemon += ["--resolution", options.size, "--log-level", "warning"]
        with running(daemon, cwd=ROOT):
            while not os.path.exists(path):
                time.sleep(0.01)
            command = [sys.executable, __file__, "--guest", scene, path, options.size, str(options.fps)]
            with running(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
                until(process, "ready")
                yield display


def measure(variant: str, display: str, x: tuple[str, int], options: argparse.Namespace, idle: bool = False) -> Sample:
    """One run of the viewer."""
    code = options.against if variant == "other" else str(ROOT)
    environment = {**os.environ, "DISPLAY": x[0], "PYTHONPATH": code, "LIBGL_ALWAYS_SOFTWARE": "1"}
    environment.pop("WAYLAND_DISPLAY", None)
    command = [sys.executable, __file__, "--viewer", display, variant]
    with running(command, env=environment, cwd=code) as process:
        until(process, "starting" if idle else "settled")
        if idle:
            time.sleep(3)
        else:
            process.send_signal(signal.SIGUSR1)
        before = cpu_ns(process.pid), cpu_ns(x[1]), switches(process.pid)
        time.sleep(options.seconds)
        after = cpu_ns(process.pid), cpu_ns(x[1]), switches(process.pid)
        process.terminate()
        assert process.stdout is not None
        latencies = json.loads(process.stdout.read().splitlines()[-1])
    used, x_used, switched = (now - then for now, then in zip(after, before, strict=True))
    frames = max(1, len(latencies))
    return Sample(len(latencies), used / frames / 1e6, x_used / frames / 1e6, latencies, switched, used / 1e6)


def percentile(values: list[int], share: float) -> float:
    """Milliseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e6 if ordered else float("nan")


def run_scene(scene: str, x: tuple[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of one scene, the variants in turns."""
    variants = ["damage", "whole", *(["other"] if options.against else [])]
    samples: dict[str, list[Sample]] = {variant: [] for variant in variants}
    with moving(scene, options) as display:
        for number in range(options.rounds):
            for variant in variants if number % 2 == 0 else reversed(variants):
                samples[variant].append(measure(variant, display, x, options))
                print(f"  {scene} {variant} {samples[variant][-1].cpu_ms:.2f} ms", file=sys.stderr, flush=True)
    return {variant: summary(samples[variant], samples["damage"], options) for variant in variants}


def summary(samples: list[Sample], ours: list[Sample], options: argparse.Namespace) -> dict[str, float]:
    """The figures of one variant; `ratio`: ours / this one, the median over rounds."""
    latencies = [latency for sample in samples for latency in sample.latencies]
    ratios = [one.cpu_ms / other.cpu_ms for one, other in zip(ours, samples, strict=True)]
    return {
        "cpu_ms": statistics.median(sample.cpu_ms for sample in samples),
        "x_ms": statistics.median(sample.x_ms for sample in samples),
        "rate": statistics.median(sample.frames for sample in samples) / options.seconds,
        "median_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "ratio": statistics.median(ratios),
        "ratio_least": min(ratios),
        "ratio_most": max(ratios),
    }


def report(scene: str, figures: dict[str, Any]) -> None:
    """One scene as text."""
    print(f"\n{scene}: {SCENES[scene]}")
    print(f"  {'':8}{'viewer':>10}{'X server':>10}{'frames/s':>10}{'latency':>10}{'p99':>9}   damage / this")
    for name, row in figures.items():
        times = f"{row['cpu_ms']:7.2f} ms{row['x_ms']:7.2f} ms{row['rate']:10.1f}"
        latency = f"{row['median_ms']:7.2f} ms{row['p99_ms']:6.2f} ms"
        spread = f"{row['ratio']:.2f} ({row['ratio_least']:.2f} to {row['ratio_most']:.2f})"
        print(f"  {name:8}{times}{latency}   {spread}", flush=True)


def run_idle(x: tuple[str, int], options: argparse.Namespace) -> dict[str, float]:
    """A picture that stays as it is."""
    with moving("idle", options) as display:
        sample = measure("damage", display, x, options, idle=True)
    print(f"\nidle for {options.seconds:g} s: {sample.cpu_total_ms:.2f} ms CPU, {sample.switches} context switches")
    return {"cpu_ms": sample.cpu_total_ms, "switches": sample.switches}


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="1920x1080", help="of the guest's screen and of the X server's")
    parser.add_argument("--fps", type=float, default=60.0)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--against", metavar="CHECKOUT", help="another checkout, whose viewer runs as a third variant")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with x_server(options.size) as x:
        for scene in options.scenes:
            if scene == "idle":
                results[scene] = run_idle(x, options)
            else:
                results[scene] = run_scene(scene, x, options)
                report(scene, results[scene])
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--guest"]:
        width_, height_ = (int(side) for side in sys.argv[4].split("x"))
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(guest(sys.argv[2], sys.argv[3], width_, height_, float(sys.argv[5])))
    elif sys.argv[1:2] == ["--viewer"]:
        viewer(sys.argv[2], sys.argv[3])
    else:
        main()
