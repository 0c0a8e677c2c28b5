"""The results as a picture: how many times better than the rival, and frame rates as shares of what memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from vhost_gpu.bench.model import Figure
from vhost_gpu.bench.report import number, quantity
from vhost_gpu.bench.results import Results
from vhost_gpu.bench.summary import Row, Section, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

OURS, THEIRS, WORSE = "#1f77a4", "#b3b9c2", "#d1652f"
_INK, _FAINT = "#22262b", "#e3e6ea"
_WIDTH = 10.0  # inches
_EDGES = 1.35  # inches for title, axis and legend of a panel
_MARK: dict[str, Any] = {"marker": "D", "markersize": 4.5, "color": _INK, "markerfacecolor": "white"}
_REACH = 60.0
"""The ratio at which the first panel ends; what is beyond has its number at the edge."""

Line = tuple[str, Row]
"""A line of a panel: the scenario's name, and a row of it."""


def draw(results: Results, content: Sequence[Section], path: Path) -> None:
    """Writes the picture in the format that the file's name ends in. Raises OSError."""
    panels = [
        (_ratio_panel, chosen(content, has_ratio, "rival"), 0.27),
        (_share_panel, chosen(content, has_share, "limit"), 0.4),
    ]
    shown = [(paint, lines, height * len(lines) + _EDGES) for paint, lines, height in panels if lines]
    heights = [height for _, _, height in shown] or [_EDGES]
    drawing = Drawing(figsize=(_WIDTH, sum(heights)), facecolor="white")
    drawing.set_layout_engine("constrained", w_pad=0.12, h_pad=0.06)
    places = drawing.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (paint, lines, _), place in zip(shown, places, strict=False):
        paint(place, lines, results)
    if not shown:
        drawing.text(0.5, 0.5, "nothing to draw: no ratios and no limits", ha="center", color=_INK)
    drawing.savefig(path, dpi=150)


def chosen(content: Sequence[Section], wanted: Callable[[Row], bool], against: str) -> list[Line]:
    """What is drawn: of each scenario the first row that is wanted, and those with such a target. The table has all."""
    lines = []
    for section in content:
        rows = [row for row in section.rows if wanted(row)]
        lines += [(section.measured.name, row) for row in rows if row is rows[0] or bounds(row, against)]
    return lines


def advantage(figure: Figure, ratio: float) -> float:
    """How many times better than the rival a ratio is; below 1: worse. 0 counts as a millionth."""
    ratio = max(ratio, 1e-6)
    return ratio if figure.better == "higher" else 1 / ratio


def has_share(row: Row) -> bool:
    """Whether a figure is a rate with a limit in the same unit."""
    return row.share is not None and row.figure.better == "higher"


def has_ratio(row: Row) -> bool:
    """Whether a figure can be set against the rival's."""
    return row.ratio is not None


def _panel(place: SubFigure, lines: Sequence[Line], title: str) -> Axes:
    """What both panels share: a line a figure, no frame."""
    place.suptitle(title, x=0.012, ha="left", color=_INK, fontsize=11, fontweight="bold")
    axes = place.subplots()
    axes.set_ylim(len(lines) - 0.45, -0.6)
    axes.set_yticks(range(len(lines)), [f"{name}:  {row.figure.title}" for name, row in lines], fontsize=8)
    axes.tick_params(length=0, labelcolor=_INK)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=_FAINT, linewidth=0.8)
    return axes


def _ratio_panel(place: SubFigure, lines: Sequence[Line], results: Results) -> None:
    axes = _panel(place, lines, f"{results.name('ours')}: times better than {results.name('theirs')}, median of pairs")
    axes.set_xscale("log")
    reach = [1.0, *(value for _, row in lines for value in _span(row))]
    axes.set_xlim(max(min(reach), 1 / _REACH) / 1.6, min(max(reach), _REACH) * 2.2)
    axes.axvline(1, color=_INK, linewidth=1.2)
    for y, (_, row) in enumerate(lines):
        _ratio_bar(axes, y, row)
    _log_ticks(axes)
    _legend(
        place,
        Patch(color=OURS, label="better"),
        Patch(color=WORSE, label="worse"),
        Line2D([], [], color=_INK, linewidth=1, label="half of the pairs"),
        Line2D([], [], **_MARK, linestyle="", label="target"),
    )


def _ratio_bar(axes: Axes, y: int, row: Row) -> None:
    assert row.ratio is not None
    low, value, high = sorted(advantage(row.figure, ratio) for ratio in _of(row.ratio))
    axes.barh(y, min(value, _REACH) - 1, 0.62, left=1, color=OURS if value >= 1 else WORSE)
    axes.plot([min(low, _REACH), min(high, _REACH)], [y, y], color=_INK, linewidth=1)
    targets = [advantage(row.figure, bound) for bound in bounds(row, "rival")]
    _targets(axes, targets, y)
    right = min(max(1, high, *targets), _REACH)
    _note(axes, f"{'... ' if value > _REACH else ''}{number(value)}x", right, y, 8)


def _share_panel(place: SubFigure, lines: Sequence[Line], results: Results) -> None:
    axes = _panel(place, lines, "Rates, as shares of what memory allows (memcpy of the same pixels: 100 %)")
    reach = [1.0]
    for y, (_, row) in enumerate(lines):
        sides = _shares(row)
        _share_bars(axes, y, sides, row.figure.unit)
        reach += [share for _, share, _ in sides]
        _targets(axes, bounds(row, "limit"), y)
    axes.set_xlim(0, max(reach) * 1.14)
    axes.axvline(1, color=_INK, linewidth=1.2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.tick_params(axis="x", labelsize=8)
    names = [(results.name("ours"), OURS), *([(results.name("theirs"), THEIRS)] if results.versus else [])]
    _legend(place, *(Patch(color=colour, label=name) for name, colour in names))


def _shares(row: Row) -> list[tuple[Summary | None, float, str]]:
    """For each side what it reached, that by the limit, and its colour."""
    assert row.share is not None
    assert row.limit is not None
    sides = [(row.ours, row.share.median, OURS)]
    if row.theirs is not None and row.limit.median:
        sides.append((row.theirs, row.theirs.median / row.limit.median, THEIRS))
    return sides


def _share_bars(axes: Axes, y: int, sides: Sequence[tuple[Summary | None, float, str]], unit: str) -> None:
    height = 0.78 / max(len(sides), 1.4)
    for index, (summary, share, colour) in enumerate(sides):
        at = y + (index - (len(sides) - 1) / 2) * height
        axes.barh(at, share, height * 0.9, color=colour)
        _note(axes, quantity(summary.median, unit) if summary else "", share, at, 7)


def _targets(axes: Axes, values: Sequence[float], y: int) -> None:
    axes.plot(values, [y] * len(values), **_MARK, linestyle="")


def _note(axes: Axes, text: str, x: float, y: float, size: float) -> None:
    """A number at the end of a bar; white behind it keeps lines off."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    axes.annotate(text, (x, y), (6, 0), textcoords="offset points", va="center", fontsize=size, color=_INK, bbox=box)


def _span(row: Row) -> Iterator[float]:
    """All that is drawn for a ratio."""
    assert row.ratio is not None
    yield from (advantage(row.figure, ratio) for ratio in (*_of(row.ratio), *bounds(row, "rival")))


def _of(summary: Summary) -> tuple[float, float, float]:
    return summary.low, summary.median, summary.high


def bounds(row: Row, against: str) -> list[float]:
    """The figure's targets against the rival or the limit."""
    return [verdict.goal.bound for verdict in row.verdicts if verdict.goal.against == against]


def _log_ticks(axes: Axes) -> None:
    """Ticks that a person would choose, in plain numbers."""
    low, high = axes.get_xlim()
    steps = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [base * 10.0**power for power in range(-3, 3) for base in steps]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(shown, [f"{tick:g}x" for tick in shown], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _legend(place: SubFigure, *handles: Patch | Line2D) -> None:
    place.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
