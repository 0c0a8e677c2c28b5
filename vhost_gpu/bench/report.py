"""The report as text: the table for a terminal, the same in Markdown, and the JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from vhost_gpu.bench.results import Results, Side, to_json
from vhost_gpu.bench.summary import Row, Section, Summary, Verdict, verdicts

_GREEN, _RED, _BOLD, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"
_WORDS = {True: "pass", False: "MISS", None: "not measured"}


def number(value: float) -> str:
    """Three significant digits at least, without an exponent; nothing between 0 and 0.001."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    if abs(value) < 0.0005:
        return "< 0.001" if value else "0"
    if abs(value) < 0.1:
        return f"{value:.3f}"
    return f"{value:#.3g}".rstrip(".")


def quantity(value: float, unit: str) -> str:
    """A number with its unit."""
    return f"{number(value)} {unit}".strip()


def table(results: Results, content: Sequence[Section], colour: bool = False) -> str:
    """The report for a terminal, with machine and remarks; ends with a newline."""
    paint = _Paint(colour)
    lines = [*_heading(results), "", *_columns(results, content, paint), *_failures(results, content)]
    ending = _ending(results, content, paint)
    return "\n".join([*lines, "", *ending]).rstrip() + "\n"


def markdown(results: Results, content: Sequence[Section], picture: str | None = None) -> str:
    """The report for a page; ``picture``: the plot's path, from where the page is."""
    lines = [f"{line}  " for line in _heading(results)]
    if picture is not None:
        lines += ["", f"![Ratios and frame rates of the table below]({picture})"]
    head = _head(results)
    lines += ["", _markdown_row(head), "|---|" + "---:|" * (len(head) - 2) + "---|"]
    for section in content:
        lines.append(_markdown_row([f"**{section.measured.title}**", *[""] * (len(head) - 1)]))
        lines += [_markdown_row(_cells(results, row)) for row in section.rows]
    if failures := _failures(results, content):
        lines += ["", *(f"- {line}" for line in failures)]
    lines += ["", *_ending(results, content, _Paint(False))]
    return "\n".join(lines).strip() + "\n"


def document(results: Results, content: Sequence[Section]) -> dict[str, Any]:
    """What ``--json`` writes: the samples and all that follows from them."""
    summary = {section.measured.name: {row.figure.name: _values(row) for row in section.rows} for section in content}
    return {**to_json(results), "summary": summary}


class _Paint:
    def __init__(self, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, code: str) -> str:
        return f"{code}{text}{_PLAIN}" if self._on else text

    def verdict(self, text: str) -> str:
        """A cell or line of verdicts."""
        for word, code in (("pass", _GREEN), ("MISS", _RED)):
            text = text.replace(word, self(word, code))
        return text


def _heading(results: Results) -> list[str]:
    machine, settings = results.machine, results.settings
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    runs = f"{'alternating pairs' if results.versus else 'runs'}: {settings['pairs']}"
    return [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory'] / 2**30:.0f} GiB",
        f"{machine['system']}, {machine['kernel']}, {versions}",
        *(f"{_role(results, side)}: {_origin(results, side)}" for side in results.programs),
        f"{results.date}, load {machine['load'][0]:.2f}, {runs}, {settings['seconds']:g} s a figure"
        + (", quick" if settings["quick"] else ""),
    ]


def _role(results: Results, side: Side) -> str:
    return results.name(side) if not results.versus else f"{side} = {results.name(side)}"


def _origin(results: Results, side: Side) -> str:
    program = results.programs[side]
    origin = " ".join(program["argv"]) or f"listens at {program['socket_path']}"
    return origin + (f" ({program['version']})" if program["version"] else "")


def _head(results: Results) -> list[str]:
    if results.versus:
        return ["", results.name("ours"), results.name("theirs"), "ratio", "spread", "limit", "target"]
    return ["", results.name("ours"), "spread", "limit", "target"]


def _cells(results: Results, row: Row) -> list[str]:
    unit = row.figure.unit
    after = [_limit(row), ", ".join(_verdict(verdict, unit) for verdict in row.verdicts)]
    name = row.figure.title
    if results.versus:
        ratio = number(row.ratio.median) if row.ratio else "-"
        return [name, _median(row.ours, unit), _median(row.theirs, unit), ratio, _spread(row.ratio), *after]
    return [name, _median(row.ours, unit), _spread(row.ours), *after]


def _median(summary: Summary | None, unit: str) -> str:
    return "-" if summary is None else quantity(summary.median, unit)


def _spread(summary: Summary | None) -> str:
    if summary is None or summary.count < 2:
        return "-"
    return f"{number(summary.low)} to {number(summary.high)}"


def _limit(row: Row) -> str:
    if row.limit is None:
        return ""
    share = f" ({number(row.share.median)}x)" if row.share else ""
    return quantity(row.limit.median, row.limit_unit) + share


def _verdict(verdict: Verdict, unit: str) -> str:
    return f"{verdict.goal.text(unit)} {_WORDS[verdict.met]}"


def _columns(results: Results, content: Sequence[Section], paint: _Paint) -> Iterator[str]:
    """The table's lines, as wide as what is in them."""
    rows = [_cells(results, row) for section in content for row in section.rows]
    head = _head(results)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    widths[0] += 2
    yield paint(_line(head, widths), _BOLD)
    waiting = iter(rows)
    for section in content:
        yield paint(section.measured.title, _BOLD)
        for name, *cells in islice(waiting, len(section.rows)):
            yield paint.verdict(_line([f"  {name}", *cells], widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = zip(cells, widths, strict=True)
    parts = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in middle), last[0]]
    return "  ".join(parts).rstrip()


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _failures(results: Results, content: Sequence[Section]) -> list[str]:
    """Who could not be measured, and why."""
    return [
        f"{results.name(side)} failed at {section.measured.name}: {reason}"
        for section in content
        for side, reason in section.measured.failures.items()
    ]


def _ending(results: Results, content: Sequence[Section], paint: _Paint) -> list[str]:
    judged = [verdict.met for verdict in verdicts(content)]
    lines = []
    if judged:
        counts = [f"{judged.count(True)} met", f"{judged.count(False)} missed", f"{judged.count(None)} not measured"]
        lines.append(paint("Targets: ", _BOLD) + ", ".join(text for text in counts if not text.startswith("0 ")))
    if not results.complete:
        lines.append("The measurement was cut short: what is here is what was measured until then.")
    return lines


def _values(row: Row) -> dict[str, Any]:
    names = ("ours", "theirs", "ratio", "limit", "share")
    found = {name: getattr(row, name) and asdict(getattr(row, name)) for name in names}
    judged = [{**asdict(verdict.goal), "met": verdict.met} for verdict in row.verdicts]
    return {**found, "targets": judged}


def legend(results: Results) -> str:
    """What the columns mean, in a few lines."""
    if not results.versus:
        return "Medians of all runs; spread: half of the runs lie within; limit: what the machine itself can do.\n"
    return (
        "Medians of all runs. ratio: the median of the ratios of pairs, ours by theirs; spread: half of them lie\n"
        "within. limit: what the machine itself can do, and ours by it in brackets.\n"
    )
