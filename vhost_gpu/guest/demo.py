"""``vhost-gpu-demo``: the embedded guest paints a moving scene. Needs no root and no VMM.

It starts a daemon of its own unless it is given a running one, and a viewer where there is a display.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import ConfigError
from vhost_gpu.guest.command_queue import DeviceStopped
from vhost_gpu.guest.driver import DeviceFault, GuestError, GuestGpu
from vhost_gpu.guest.driver3d import No3d
from vhost_gpu.guest.framebuffer import PIXEL
from vhost_gpu.guest.memory import MIB, GuestMemory, one_region, page_align
from vhost_gpu.guest.processes import Daemon, Program, private_daemon, start_screenshot, start_viewer
from vhost_gpu.guest.shows import SCENES, PaintedShow, ScatteredShow, Show
from vhost_gpu.guest.vmm import VmmConnection, VmmError, VmmOptions
from vhost_gpu.listen import display_path_beside

_MAX_SIDE = 8192


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line says. ``fps`` 0: as fast as it goes; ``viewer`` None: where there is a display."""

    socket_path: str | None = None
    display_socket: str | None = None
    seconds: float | None = None
    size: tuple[int, int] | None = None
    fps: float = 60.0
    viewer: bool | None = None
    screenshot: str | None = None
    scattered: bool = False
    scene: str = next(iter(SCENES))

    @property
    def show(self) -> type[Show]:
        """The kind of show that is asked for."""
        return ScatteredShow if self.scattered else SCENES[self.scene]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 1 (the device or a program that we started failed), 2 (wrong use)."""
    try:
        return asyncio.run(run(parse(sys.argv[1:] if arguments is None else arguments)))
    except ConfigError as error:
        print(f"vhost-gpu-demo: {error}", file=sys.stderr)
        return 2
    except (VmmError, DeviceStopped, DeviceFault, GuestError) as error:
        print(f"vhost-gpu-demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the handlers are in place
        return 130


def parse(arguments: Sequence[str]) -> DemoOptions:
    """The options of a command line. ConfigError for options that do not go together; argparse exits with 2 itself."""
    chosen = _parser().parse_args(arguments)
    if chosen.viewer and not _has_display():
        raise ConfigError("--viewer: there is no display (neither WAYLAND_DISPLAY nor DISPLAY is set)")
    if chosen.screenshot is not None and not Path(chosen.screenshot).absolute().parent.is_dir():
        raise ConfigError(f"--screenshot: there is no folder for {chosen.screenshot}")
    if chosen.display_socket is not None and chosen.socket_path is None:
        raise ConfigError("--display-socket goes with --socket-path")
    if chosen.scattered and not issubclass(SCENES[chosen.scene], PaintedShow):
        raise ConfigError("--scattered: only the 2d scene has a framebuffer in the guest's memory")
    return DemoOptions(**vars(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vhost-gpu-demo",
        description="Paints a moving scene as a guest of vhost-gpu, without a VMM.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--socket-path", metavar="PATH", help="use the daemon that listens here (default: start one)")
    add("--display-socket", metavar="PATH", help="that daemon's display socket (default: beside PATH)")
    add("--seconds", metavar="N", type=_positive, help="how long (default: until Ctrl-C)")
    add("--size", metavar="WxH", type=_size, help="of the picture (default: the device's preferred mode)")
    add("--fps", metavar="N", type=_not_negative, default=60.0, help="frames a second; 0: as many as possible (60)")
    add("--viewer", action=argparse.BooleanOptionalAction, help="open a viewer (default: where there is a display)")
    add("--screenshot", metavar="FILE", help="save what is on the screen at the end, as PNG")
    add("--scene", choices=tuple(SCENES), default=next(iter(SCENES)), help="what to show; balls want 3D (2d)")
    add("--scattered", action="store_true", help="spread the framebuffer over single pages, as a kernel may")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isascii() and width.isdecimal() and height.isascii() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT")
    if not (16 <= int(width) <= _MAX_SIDE and 16 <= int(height) <= _MAX_SIDE):
        raise argparse.ArgumentTypeError(f"{text!r}: each side from 16 to {_MAX_SIDE}")
    return int(width), int(height)


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


def _positive(text: str) -> float:
    value = _not_negative(text)
    if not value:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _has_display() -> bool:
    return bool(os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY"))


async def run(options: DemoOptions) -> int:
    """Runs the demo to its end; everything that it started is gone on return. Raises ConfigError, VmmError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with AsyncExitStack() as stack:
            return await _run(options, stack, stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _run(options: DemoOptions, stack: AsyncExitStack, stop: asyncio.Event) -> int:
    daemon = await _daemon(options, stack)
    gpu = await _connect(daemon, options, stack)
    show = await _show(gpu, options)
    print(f"the picture is on {daemon.display_socket} (vhost-gpu-viewer {daemon.display_socket})", flush=True)
    viewer = await _viewer(options, daemon, stack)
    painting = asyncio.create_task(show.paint(stop, options.fps))
    gone = asyncio.create_task(gpu.vmm.wait_gone())
    ends: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait()), painting, gone]
    if viewer is not None:
        ends.append(asyncio.create_task(viewer.wait()))
    try:
        await asyncio.wait(ends, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        if gone.done():
            raise VmmError("the daemon closed the connection")
        if viewer is not None and (status := viewer.status):
            raise VmmError(f"the viewer ended with status {status}")
        await painting
    finally:
        for task in ends:
            task.cancel()
        await asyncio.wait(ends)
    print(f"{show.frames} frames in {show.seconds:.1f} s: {show.rate:.1f} frames/s", flush=True)
    return await _screenshot(options, daemon)


async def _daemon(options: DemoOptions, stack: AsyncExitStack) -> Daemon:
    if options.socket_path is None:
        return await stack.enter_async_context(private_daemon(options.size, options.show.DAEMON_OPTIONS))
    return Daemon(options.socket_path, options.display_socket or display_path_beside(options.socket_path))


async def _connect(daemon: Daemon, options: DemoOptions, stack: AsyncExitStack) -> GuestGpu:
    """A started driver with memory for the largest picture that may be asked for."""
    memory = GuestMemory([])
    stack.callback(memory.close)
    try:
        vmm = await VmmConnection.connect(daemon.socket_path, memory, VmmOptions(display=None))
    except OSError as error:
        raise ConfigError(f"cannot connect to {daemon.socket_path}: {error.strerror}") from error
    stack.callback(vmm.close)
    await vmm.negotiate()
    width, height = options.size or (1280, 800)
    (region,) = one_region(page_align(width * height * PIXEL) + 32 * MIB)
    memory.add_region(region)
    gpu = GuestGpu(vmm, options.show.FEATURES)
    stack.callback(gpu.close)
    await gpu.start()
    return gpu


async def _show(gpu: GuestGpu, options: DemoOptions) -> Show:
    """The first picture is on the screen on return."""
    size = options.size
    if size is None:
        mode = (await gpu.display_info())[0].rect
        size = mode.width, mode.height
    try:
        return await options.show.create(gpu, *size)
    except No3d as error:
        raise ConfigError(f"--scene {options.scene}: {error}") from error


async def _viewer(options: DemoOptions, daemon: Daemon, stack: AsyncExitStack) -> Program | None:
    wanted = _has_display() if options.viewer is None else options.viewer
    return await stack.enter_async_context(start_viewer(daemon.display_socket)) if wanted else None


async def _screenshot(options: DemoOptions, daemon: Daemon) -> int:
    if options.screenshot is None:
        return 0
    async with start_screenshot(daemon.display_socket, options.screenshot) as program:
        if await program.wait():
            return 1
    print(f"screenshot in {options.screenshot}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
