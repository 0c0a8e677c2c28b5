"""The ``vhost-gpu`` command: QEMU's back-end program conventions (vhost-user, "Backend program conventions") and ours.

Imports as little as it can: the time from exec to the first answered message is this file's too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from protocol.errors import ConfigError
from vhost_gpu import __version__

if TYPE_CHECKING:
    import argparse

    from vhost_gpu.options import Options

VERSION_SECONDS = 10  # for a look at the renderer
MAX_SIDE = 16384  # pixels: the largest side that a mode may have
_LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("auto", "text", "journal")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 1 (a failure of ours) or 2 (wrong options, with one clear line)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--print-capabilities" in arguments:  # the conventions: every other argument is ignored then
        print(capabilities())
        return 0
    try:
        options = parse(arguments)
        from vhost_gpu.startup import serve

        return serve(options)
    except ConfigError as error:
        from vhost_gpu.log import one_line, under_journal

        print(f"{'<3>' if under_journal(2) else ''}vhost-gpu: {one_line(str(error))}", file=sys.stderr)
        return 2


def capabilities() -> str:
    """What ``--print-capabilities`` prints: QEMU's interop/vhost-user.json, VhostUserBackendCapabilities."""
    import json

    from backend import renderer

    features = ["virgl", "render-node"] if renderer.missing() is None else []
    return json.dumps({"type": "gpu", "features": features}, indent=2)


def versions() -> str:
    """Our version, and what there is for 3D. GL drivers are tried in a process of their own."""
    import subprocess

    from vhost_gpu.spawn import child_environment, module_command

    try:
        asked = subprocess.run(
            module_command("backend.renderer"),
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=VERSION_SECONDS,
        )
        renderer = asked.stdout.strip() or f"no 3D: the renderer ended with {asked.returncode}"
    except subprocess.TimeoutExpired:
        renderer = "no 3D: the renderer does not answer"
    return f"vhost-gpu {__version__}\n{renderer}"


def parse(arguments: Sequence[str]) -> Options:
    """The options of a command line; raises ``ConfigError``."""
    from vhost_gpu.options import Options

    chosen = _parser().parse_args(arguments)
    if chosen.fd is not None and chosen.socket_path is not None:
        raise ConfigError("--socket-path and --fd exclude each other")
    return Options(
        socket_path=chosen.socket_path,
        fd=chosen.fd,
        display_socket=chosen.display_socket,
        max_outputs=chosen.max_outputs,
        resolution=chosen.resolution,
        max_hostmem=chosen.max_hostmem << 20,
        poll_us=chosen.poll_us,
        log_level=chosen.log_level,
        log_format=chosen.log_format,
        virgl=chosen.virgl,
        render_node=chosen.render_node,
        trace=chosen.trace,
    )


def _parser() -> argparse.ArgumentParser:
    import argparse

    from vhost_gpu.options import MAX_POLL_US

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise ConfigError(f"{message} (see --help)")

    class Version(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
            print(versions())
            parser.exit()

    parser = Parser(
        prog="vhost-gpu",
        description="A virtio-gpu device in a process of its own, for QEMU and other VMMs that speak vhost-user.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--socket-path", metavar="PATH", type=_path, help="listen for VMMs here (vhost-user)")
    add("--fd", metavar="N", type=_Number(0, 1 << 20), help="serve the VMM on this connected descriptor, then exit")
    add("--print-capabilities", action="store_true", help="print what the device can do as JSON, and exit")
    add("--display-socket", metavar="PATH", type=_path, help="listen for viewers here (default: beside PATH)")
    add(
        "--max-outputs", metavar="N", type=_Number(1, 16), default=1, help="screens of the guest, 1 to 16 (%(default)s)"
    )
    add("--resolution", metavar="WxH", type=_resolution, default=(1280, 800), help="preferred mode (1280x800)")
    add(
        "--max-hostmem",
        metavar="MIB",
        type=_Number(1, 1 << 20),
        default=256,
        help="memory a guest may make us hold (256)",
    )
    add(
        "--poll-us",
        metavar="N",
        type=_Number(0, MAX_POLL_US),
        default=MAX_POLL_US,
        help="look for commands that follow each other for so many microseconds before sleeping, 0 to 50 (%(default)s)",
    )
    add("--virgl", action="store_true", help="3D for the guest, through virglrenderer")
    add(
        "--render-node",
        metavar="PATH",
        type=_file,
        help="GPU to render with, say /dev/dri/renderD128 (the first that works, else software)",
    )
    add(
        "--trace",
        metavar="FILE",
        type=_file,
        help="write every command of a session there, for vhost-gpu-trace; {name} is the session's name",
    )
    add("--log-level", choices=_LEVELS, default="info", help="what is logged (%(default)s)")
    add("--log-format", choices=_FORMATS, default="auto", help="auto: for journald where standard error is its")
    add("--version", action=Version, nargs=0, help="print versions, and what 3D is rendered with, and exit")
    return parser


def _path(text: str) -> str:
    from argparse import ArgumentTypeError

    if not text:
        raise ArgumentTypeError("the path is empty")
    if "\0" in text or len(text.encode(errors="surrogateescape")) > 107 - len(".lock"):
        raise ArgumentTypeError(f"too long for a Unix socket (at most 102 bytes): {text}")
    return text


def _file(text: str) -> str:
    from argparse import ArgumentTypeError

    if not text or "\0" in text:
        raise ArgumentTypeError("the path is empty" if not text else "not a path")
    return text


class _Number:
    """Parses a decimal number within bounds."""

    def __init__(self, least: int, most: int) -> None:
        self.least = least
        self.most = most

    def __call__(self, text: str) -> int:
        from argparse import ArgumentTypeError

        if not (text.isascii() and text.isdecimal() and len(text) <= 9 and self.least <= int(text) <= self.most):
            raise ArgumentTypeError(f"{text!r} is not a number from {self.least} to {self.most}")
        return int(text)


def _resolution(text: str) -> tuple[int, int]:
    from argparse import ArgumentTypeError

    side = _Number(16, MAX_SIDE)
    width, _, height = text.partition("x")
    try:
        return side(width), side(height)
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, each from 16 to {MAX_SIDE}") from None
