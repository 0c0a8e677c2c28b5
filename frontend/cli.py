"""The command `vhost-gpu-viewer`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import FrameType

from frontend.client import Client, VersionError
from frontend.discovery import display_socket
from frontend.display import open_display
from frontend.geometry import Scale
from frontend.options import Options
from protocol.errors import ConfigError

PROGRAM = "vhost-gpu-viewer"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the viewer. Exit codes: 0 the window was closed, 1 the daemon speaks another version, 2 usage."""
    arguments = parser().parse_args(argv)
    try:
        return _run(arguments)
    except ConfigError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except VersionError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(PROGRAM, description="Shows the screens of a vhost-gpu session in windows.")
    result.add_argument("socket", nargs="?", help="the daemon's display socket; by default the only running daemon's")
    result.add_argument("--session", default="", metavar="NAME", help="the session to show; by default the newest")
    result.add_argument("--fullscreen", action="store_true", help="begin in fullscreen")
    result.add_argument("--scale", choices=[str(scale) for scale in Scale], default=str(Scale.FIT))
    result.add_argument("--filter", choices=["nearest", "linear"], default="linear", help="how a picture is scaled")
    result.add_argument("--scanout", type=scanout_number, metavar="N", help="show only this scanout (0 is the first)")
    result.add_argument("--stats", action="store_true", help="begin with the statistics overlay")
    result.add_argument("--version", action="version", version=f"{PROGRAM} {program_version()}")
    return result


def scanout_number(text: str) -> int:
    """An argument's scanout, 0 to 15."""
    if not text.isascii() or not text.isdigit() or int(text) > 15:
        raise argparse.ArgumentTypeError(f"{text!r} is not a scanout's number, 0 to 15")
    return int(text)


def program_version() -> str:
    """The installed version."""
    try:
        return version("vhost-gpu")
    except PackageNotFoundError:
        return "unknown"


def _run(arguments: argparse.Namespace) -> int:
    open_display()
    client = Client(display_socket(arguments.socket), arguments.session)
    options = Options(
        fullscreen=arguments.fullscreen,
        scale=Scale(arguments.scale),
        linear=arguments.filter == "linear",
        scanout=arguments.scanout,
        statistics=arguments.stats,
    )
    from frontend.viewer import Viewer  # needs a display as soon as it is imported

    signal.signal(signal.SIGTERM, _on_terminate)
    Viewer(client, options).run()
    return 0


def _on_terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
