"""The command `vhost-gpu-screenshot`: saves what a scanout shows, through the viewer protocol. Needs no display."""

from __future__ import annotations

import argparse
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from frontend.cli import program_version, scanout_number
from frontend.client import Client, VersionError
from frontend.discovery import display_socket
from frontend.pixels import Pixels, blend_cursor, to_rgba
from frontend.saving import save_png
from protocol.errors import ConfigError

PROGRAM = "vhost-gpu-screenshot"
TIMEOUT = 5.0
QUIET = 0.05
"""Seconds without a message after which the cursor, if there is one, has come."""
SETTLE = 0.5
"""Seconds of waiting for that, at most."""


class NothingShownError(Exception):
    """There was no picture in time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Saves a screenshot. Exit codes: 0 saved, 1 no picture in time or not writable, 2 usage."""
    arguments = parser().parse_args(argv)
    try:
        if not arguments.file.name:
            raise ConfigError(f"{arguments.file} is not a file's name")
        client = Client(display_socket(None if arguments.socket == "-" else arguments.socket), arguments.session)
        pixels = capture(client, arguments.scanout, arguments.cursor, arguments.timeout)
        save_png(pixels, arguments.file)
    except (NothingShownError, VersionError) as error:
        return _fail(str(error), 1)
    except ConfigError as error:
        return _fail(str(error), 2)
    except OSError as error:
        return _fail(f"can't write {arguments.file}: {error.strerror or error}", 1)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(PROGRAM, description="Saves what a vhost-gpu session shows as a PNG file.")
    result.add_argument("socket", help="the daemon's display socket; - for the only running daemon's")
    result.add_argument("file", type=Path, help="the PNG file to write")
    result.add_argument("--scanout", type=scanout_number, default=0, metavar="N", help="which scanout (default 0)")
    result.add_argument("--session", default="", metavar="NAME", help="the session to show; by default the newest")
    result.add_argument("--cursor", action="store_true", help="draw the cursor too")
    result.add_argument(
        "--timeout", type=_seconds, default=TIMEOUT, metavar="S", help=f"wait for a picture (default {TIMEOUT:g} s)"
    )
    result.add_argument("--version", action="version", version=f"{PROGRAM} {program_version()}")
    return result


def capture(client: Client, scanout: int, cursor: bool, timeout: float) -> Pixels:
    """The picture of a scanout as R G B 255, waited for up to timeout seconds. NothingShownError: none came."""
    deadline = time.monotonic() + timeout
    try:
        while True:
            if cursor and _has_frame(client, scanout):
                _settle(client)
            pixels = _picture(client, scanout, cursor)
            if pixels is not None:
                return pixels
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise NothingShownError(_why(client, scanout))
            _wait(client, remaining)
    finally:
        client.close()


def _has_frame(client: Client, scanout: int) -> bool:
    return any(screen.index == scanout and screen.pending is not None for screen in client.screens.screens)


def _picture(client: Client, scanout: int, cursor: bool) -> Pixels | None:
    picture = client.screens.take(scanout)
    if picture is None:
        return None
    pixels = to_rgba(picture.pixels, picture.format)
    screen = client.screens.screens[scanout]
    if cursor and screen.cursor is not None:
        blend_cursor(pixels, screen.cursor.pixels, *screen.cursor_at)
    client.screens.give_back(scanout, picture)
    return pixels


def _settle(client: Client) -> None:
    """Reads on until the daemon is quiet: a new viewer's cursor follows its first frame, and nothing marks the end."""
    deadline = time.monotonic() + SETTLE
    while client.connected and select.select([client], [], [], QUIET)[0] and time.monotonic() < deadline:
        client.receive()


def _wait(client: Client, remaining: float) -> None:
    """Waits for news, or for the time of the next attempt to connect."""
    connected = client.connected or client.connect()
    if connected and select.select([client], [], [], remaining)[0]:
        connected = client.receive()
    if not connected:
        time.sleep(min(remaining, client.retry_in))


def _why(client: Client, scanout: int) -> str:
    screens = client.screens.screens
    if client.reason or not screens:
        return f"no picture: {client.reason or 'no answer'}"
    if scanout >= len(screens):
        return f"no scanout {scanout}: the session has {len(screens)}"
    return f"nothing is scanned out on scanout {scanout}"


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _fail(text: str, code: int) -> int:
    print(f"{PROGRAM}: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
