"""What ``vhost-gpu-bench`` does: choose scenarios, measure them or read an earlier measurement, report."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from protocol.errors import ConfigError
from vhost_gpu.bench.machine import busy, describe_machine, describe_program
from vhost_gpu.bench.model import Program, Scenario, Settings
from vhost_gpu.bench.page import check_page, picture_from, update_page
from vhost_gpu.bench.progress import Progress
from vhost_gpu.bench.report import document, legend, markdown, table
from vhost_gpu.bench.results import Results, Side, from_json
from vhost_gpu.bench.runner import Runner, count_runs
from vhost_gpu.bench.summary import sections

if TYPE_CHECKING:
    from vhost_gpu.bench.cli import Options

_FAILED = 1
_INTERRUPTED = 130


def execute(options: Options, scenarios: Sequence[Scenario] | None = None) -> int:
    """Does what the options say with all that there are, or these scenarios; returns the exit code.

    Raises ConfigError, OSError.
    """
    known = _scenarios() if scenarios is None else scenarios
    if options.listing:
        print(listing(known), end="")
        return 0
    check_outputs(options)
    results = read(options.read) if options.read else measured(options, select(known, options.scenarios))
    report(results, options)
    if not results.complete and not options.read:
        return _INTERRUPTED
    return _FAILED if results.failed else 0


def listing(scenarios: Sequence[Scenario]) -> str:
    """The scenarios and their figures, for a person."""
    width = max((len(scenario.name) for scenario in scenarios), default=0)
    lines = []
    for scenario in scenarios:
        remarks = [] if scenario.rival else ["vhost-gpu only"]
        remarks += [] if scenario.standard else ["only when asked for"]
        lines.append(f"{scenario.name:{width}}  {scenario.title}{' (' + ', '.join(remarks) + ')' if remarks else ''}")
        limits = {figure.limit for figure in scenario.figures}
        lines += [
            f"{'':{width}}    {figure.title}{figure.unit and f' ({figure.unit})'}, {figure.better} is better"
            for figure in scenario.figures
            if figure.name not in limits
        ]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def select(scenarios: Sequence[Scenario], patterns: Sequence[str]) -> list[Scenario]:
    """Those that a pattern names, in their own order; without patterns the standard ones. Raises ConfigError."""
    if not patterns:
        return [scenario for scenario in scenarios if scenario.standard]
    names = [scenario.name for scenario in scenarios]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(f"--scenario: there is no {pattern}; there are {', '.join(names)}")
    return [each for each in scenarios if any(fnmatch.fnmatchcase(each.name, pattern) for pattern in patterns)]


def check_outputs(options: Options) -> None:
    """Finds out before the measurement what would fail after it. Raises ConfigError."""
    if options.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs matplotlib: pip install 'vhost-gpu[bench]'")
    if options.markdown is not None:
        check_page(options.markdown)


def read(path: Path) -> Results:
    """An earlier measurement. Raises ConfigError."""
    try:
        return from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def measured(options: Options, scenarios: Sequence[Scenario]) -> Results:
    """Measures; Ctrl-C ends it with what there is."""
    programs: dict[Side, Program] = {"ours": options.ours}
    if options.theirs is not None:
        programs["theirs"] = options.theirs
    results = Results(
        date=datetime.now(UTC).isoformat(" ", "minutes").replace("+00:00", " UTC"),
        machine=describe_machine(),
        programs={side: describe_program(program) for side, program in programs.items()},
        settings={"pairs": options.pairs, **asdict(options.settings)},
    )
    total = count_runs(scenarios, results.versus, options.pairs)
    progress = Progress(sys.stderr, total, sys.stderr.isatty())
    if remark := busy(results.machine):
        progress.says(remark)
    runner = Runner(results, programs, options.settings, options.pairs, measure_once, progress)
    try:
        runner.run(scenarios)
    except KeyboardInterrupt:
        progress.says("interrupted")
    finally:
        progress.close()
    results.scenarios = [each for each in results.scenarios if each.runs or each.failures]
    return results


def measure_once(scenario: Scenario, program: Program, settings: Settings) -> Mapping[str, float]:
    """One run on a back-end of its own. Raises BenchError."""
    from vhost_gpu.bench.target import Target

    with Target.start(program, scenario.options) as target:
        return scenario.run(target, settings)


def report(results: Results, options: Options) -> None:
    """Writes all that was asked for; the table goes to standard output unless JSON does. Raises OSError."""
    content = sections(results)
    out: TextIO = sys.stderr if options.json == "-" else sys.stdout
    print(f"{table(results, content, out.isatty())}\n{legend(results)}", end="", file=out, flush=True)
    if options.json is not None:
        text = json.dumps(document(results, content), indent=1) + "\n"
        _write(options.json, text)
    if options.plot is not None:
        from vhost_gpu.bench.plot import draw

        draw(results, content, options.plot)
    if options.markdown is not None:
        picture = picture_from(options.markdown, options.plot) if options.plot else None
        update_page(options.markdown, markdown(results, content, picture))


def _write(file: str, text: str) -> None:
    if file == "-":
        sys.stdout.write(text)
    else:
        Path(file).write_text(text)


def _scenarios() -> Sequence[Scenario]:
    from vhost_gpu.bench.scenarios import SCENARIOS

    return SCENARIOS
