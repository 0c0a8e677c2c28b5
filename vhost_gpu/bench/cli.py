"""``vhost-gpu-bench``: measures a vhost-user-gpu back-end, alone or in alternation with another one."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from protocol.errors import ConfigError
from vhost_gpu import __version__
from vhost_gpu.bench.model import Program, Settings

PROGRAM = "vhost-gpu-bench"
PICTURES = (".png", ".svg", ".pdf")
PAIRS = 7
QUICK_PAIRS = 3
QUICK_SECONDS = 0.2
_INTERRUPTED = 130
_SETTINGS = Settings()
_OURS = Program("vhost-gpu", (sys.executable, "-m", "vhost_gpu"))


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. ``json``: "-" is standard output; ``read``: an earlier measurement's."""

    ours: Program = _OURS
    theirs: Program | None = None
    scenarios: tuple[str, ...] = ()
    pairs: int = PAIRS
    settings: Settings = _SETTINGS
    json: str | None = None
    plot: Path | None = None
    markdown: Path | None = None
    read: Path | None = None
    listing: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, 1 (ours failed at a scenario), 2 (wrong use), 130 (interrupted)."""
    from vhost_gpu.bench.measurement import execute

    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return execute(options)
        finally:
            signal.signal(signal.SIGTERM, before)
    except ConfigError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # there was nothing to report yet
        return _INTERRUPTED


def parse(arguments: Sequence[str]) -> Options:
    """The options of a command line; raises ConfigError."""
    chosen = _parser().parse_args(arguments)
    _check(chosen)
    ours = _ours(chosen)
    quick = chosen.quick
    return Options(
        ours=ours,
        theirs=chosen.versus and _apart(chosen.versus, ours),
        scenarios=tuple(chosen.scenario or ()),
        pairs=chosen.pairs or (QUICK_PAIRS if quick else PAIRS),
        settings=Settings(chosen.seconds or (QUICK_SECONDS if quick else _SETTINGS.seconds), quick),
        json=chosen.json,
        plot=chosen.plot,
        markdown=chosen.markdown,
        read=chosen.read,
        listing=chosen.list,
    )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        description="Measures a vhost-user-gpu back-end, alone or in alternation with another one.",
        allow_abbrev=False,
    )
    _what_to_run(parser)
    _what_to_write(parser)
    parser.add_argument("--list", action="store_true", help="list the scenarios and exit")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return parser


def _what_to_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--versus", metavar="PROGRAM", type=_program, help="measure this back-end too, in alternation")
    add("--program", metavar="PROGRAM", type=_program, help="measure this back-end (default: vhost-gpu)")
    add("--socket-path", metavar="PATH", type=_socket, help="measure the back-end that listens here")
    add("--poll-us", metavar="N", type=_Count(0), help="passed to our vhost-gpu")
    add(
        "--scenario",
        metavar="NAME",
        nargs="+",
        action="extend",
        help="only these; * and ? match (default: the standard ones)",
    )
    add("--pairs", metavar="N", type=_Count(1), help=f"runs of each scenario on each back-end ({PAIRS})")
    add("--seconds", metavar="S", type=_seconds, help=f"time for each figure ({_SETTINGS.seconds:g})")
    add("--quick", action="store_true", help=f"a first look: {QUICK_PAIRS} pairs, {QUICK_SECONDS:g} s, smaller counts")


def _what_to_write(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--json", metavar="FILE", type=_json, help="write all samples and results as JSON; -: to standard output")
    add("--plot", metavar="FILE", type=_picture, help="draw the results (png, svg or pdf)")
    add("--markdown", metavar="FILE", type=Path, help="write the table into a page's marked part, or a new file")
    add("--from", dest="read", metavar="FILE", type=Path, help="measure nothing: report what --json wrote earlier")


def _check(chosen: argparse.Namespace) -> None:
    """Options that do not go together."""
    if chosen.program and chosen.socket_path:
        raise ConfigError("--program and --socket-path exclude each other")
    if chosen.socket_path and chosen.poll_us is not None:
        raise ConfigError("--poll-us: what listens at --socket-path is running already")
    running = ("versus", "program", "socket_path", "poll_us", "scenario", "pairs", "seconds")
    given = [name for name in running if getattr(chosen, name) is not None]
    if chosen.read and (given or chosen.quick):
        raise ConfigError(
            f"--from measures nothing: --{(given or ['quick'])[0].replace('_', '-')} has no place beside it"
        )


def _ours(chosen: argparse.Namespace) -> Program:
    if chosen.socket_path:
        return Program(Path(chosen.socket_path).name, socket_path=chosen.socket_path)
    program: Program = chosen.program or _OURS
    if chosen.poll_us is None:
        return program
    return Program(program.name, (*program.argv, "--poll-us", str(chosen.poll_us)))


def _apart(theirs: Program, ours: Program) -> Program:
    """The rival under a name that is not ours'."""
    if theirs.name != ours.name:
        return theirs
    return Program(f"{theirs.name} (other)", theirs.argv)


def _program(text: str) -> Program:
    """A command line, without a shell; the program has to be there."""
    import shlex
    import shutil

    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not argv:
        raise argparse.ArgumentTypeError("the program is empty")
    if shutil.which(argv[0]) is None:
        raise argparse.ArgumentTypeError(f"there is no program {argv[0]}")
    return Program(Path(argv[0]).name, tuple(argv))


def _socket(text: str) -> str:
    if not Path(text).is_socket():
        raise argparse.ArgumentTypeError(f"there is no socket {text}")
    return text


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.name or path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file's name, or there is no folder for it")
    return path


def _json(text: str) -> str:
    return text if text == "-" else str(_folder(text))


def _picture(text: str) -> Path:
    path = _folder(text)
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(PICTURES)}")
    return path


class _Count:
    """Parses a decimal number of at least ``least``."""

    def __init__(self, least: int) -> None:
        self._least = least

    def __call__(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) >= self._least):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {self._least}")
        return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.001 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.001 to 3600")
    return value


if __name__ == "__main__":
    sys.exit(main())
