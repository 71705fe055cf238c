"""Plots: which picture shows what a measure tells, by its factors, and the picture itself.

Numbers go along axes, names down the side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, TypeAlias

import numpy as np
from matplotlib.figure import Figure

from dynamos.experiments import anatomy, wordings
from dynamos.experiments.analyses import Analysis, Row
from dynamos.experiments.canvases import COLOURS, LINES, MARKERS, canvas, number, plain_ticks, save
from dynamos.experiments.factors import Cell, Factor, Level, written

_MOST_SIDES, _MOST_PANELS = 8, 12
_LOG_FROM = 30.0
_NUMERIC_FROM = 3
_STAGES = 8
_SHARES_FROM = 6
_HATCHES = ("", "///")
_SHADES = ("#0072B2", "#8CC5E3", "#D55E00", "#F0C27B", "#009E73", "#A6DDC8", "#8A5A83", "#B8BCC2")


Side: TypeAlias = tuple[Level | None, ...]
"""Levels of the factors that are told apart by colour; None where a cell does not have one."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture in the plots of a run: its files' name, what it shows, and itself as an element of a page."""

    name: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What goes where: `x` is a numeric factor along the axis, `rows` are categories; `sides` are told apart by colour
    and marker, with what only some of them have; `panels` are small multiples. Factors in `pooled` are not told
    apart."""

    x: Factor | None
    rows: Factor | None
    sides: tuple[Factor, ...]
    panels: tuple[Factor, ...]
    pooled: tuple[Factor, ...]


def choose(analysis: Analysis, factors: Sequence[Factor]) -> Layout:
    """Choose by kinds and levels of the factors that vary: those of the baseline first, then the most telling."""
    levels = {factor.name: _levels(analysis, factor) for factor in factors}
    varied = [factor for factor in factors if len(levels[factor.name]) > 1]
    varied.sort(key=lambda factor: (factor.name not in analysis.baseline, -_weight(analysis, factor)))
    numeric = [f for f in varied if f.open and len(levels[f.name]) >= _NUMERIC_FROM]
    x = max(numeric, key=lambda factor: len(levels[factor.name]), default=None)
    rest = [factor for factor in varied if factor is not x]
    alone = x is None and len(rest) == 1
    sides = [each for each in rest if len(levels[each.name]) <= _MOST_SIDES and not alone][:1]
    for factor in [each for each in rest if sides and _conditional(analysis, each)]:
        if factor not in sides and len(_combined(analysis, (*sides, factor))) <= _MOST_SIDES:
            sides.append(factor)
    rest = [factor for factor in rest if factor not in sides]
    rows = max(rest, key=lambda factor: len(levels[factor.name])) if x is None and rest else None
    rest = [factor for factor in rest if factor is not rows]
    panels: list[Factor] = []
    many = 1
    for factor in rest:
        if many * len(levels[factor.name]) <= _MOST_PANELS:
            panels.append(factor)
            many *= len(levels[factor.name])
    return Layout(x, rows, tuple(sides), tuple(panels), tuple(factor for factor in rest if factor not in panels))


def draw(analysis: Analysis, factors: Sequence[Factor], folder: Path) -> Plot | None:
    """Draw a measure in a run's folder of plots; None where nothing was read."""
    if not analysis.n:
        return None
    name = f"measure-{analysis.measure.name}"
    if not analysis.measure.numeric:
        with canvas(0.9 + 0.27 * len(analysis.rows)) as figure:
            _shares(figure, analysis)
            return Plot(name, analysis.measure.label, "How often each was read, by cell.", save(figure, folder, name))
    layout = choose(analysis, factors)
    panels = _panels(analysis, layout)
    columns = min(len(panels), 3 if len(panels) != 4 else 2)  # noqa: PLR2004  two rows of two
    lines = -(-len(panels) // columns)
    height = 3.1 if layout.x else 0.75 + 0.3 * max(_height(rows, layout) for _, rows in panels)
    with canvas(0.55 + lines * height * (0.85 if lines > 1 and layout.x else 1.0)) as figure:
        _measure(figure, analysis, layout, panels, (lines, columns))
        svg = save(figure, folder, name)
    return Plot(name, analysis.measure.label, _caption(analysis, layout), svg)


def draw_anatomy(found: Sequence[tuple[str, anatomy.Anatomy]], folder: Path) -> Plot | None:
    """Draw where the time of a request goes, a bar for each cell; None where nobody kept a trace. Where some take
    many times as long as others, in shares of each."""
    if not found:
        return None
    name, shown = "stages", anatomy.lumped([each for _, each in found], _STAGES)
    totals = np.array([each.total for _, each in found])
    shares = bool(totals.min() * _SHARES_FROM < totals.max())
    unit = 100 / np.maximum(totals, 1e-12) if shares else np.full(len(totals), 1000.0)
    with canvas(1.2 + 0.3 * len(found)) as figure:
        axes, at = figure.add_subplot(), np.arange(len(found))
        left = np.zeros(len(found))
        for place, (stage, seconds) in enumerate(shown):
            long = np.array(seconds) * unit
            axes.barh(at, long, left=left, height=0.7, label=stage, linewidth=0.5, color=_SHADES[place],
                      edgecolor="white", hatch=_HATCHES[place % 2])  # fmt: skip
            left += long
        for place, total in enumerate(totals):
            axes.annotate(f"{number(float(f'{total * 1000:.3g}'))} ms", (left[place], place), (4, 0), va="center",
                          textcoords="offset points")  # fmt: skip
        axes.set(yticks=at, yticklabels=[_wrapped(words) for words, _ in found])
        axes.set_xlim(0, float(left.max()) * 1.13 or 1)
        axes.set_xlabel("share of a request's time (%)" if shares else "time of a request (ms)")
        _bare_rows(axes, len(found))
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.4)
        svg = save(figure, folder, name)
    many = sum(each.requests for _, each in found)
    caption = (
        f"Mean of {many} requests. Stages overlap, so every moment counts for the stage that began last of those under "
        "way: the parts add up to the whole."
    )
    return Plot(name, "Where the time of a request goes", caption, svg)


def _measure(
    figure: Figure,
    analysis: Analysis,
    layout: Layout,
    panels: Sequence[tuple[str, Sequence[Row]]],
    grid: tuple[int, int],
) -> None:
    shared: dict[str, Any] = {"sharex": True, "sharey": True} if layout.x else {"sharex": True, "sharey": False}
    every = figure.subplots(*grid, squeeze=False, **shared)
    values = [value for row in analysis.rows for value in row.values]
    log = min(values) > 0 and max(values) / min(values) >= _LOG_FROM
    for axes in every.flat[len(panels) :]:
        axes.set_visible(False)
    for at, (axes, (title, rows)) in enumerate(zip(every.flat, panels, strict=False)):
        below, first = at + grid[1] >= len(panels), at % grid[1] == 0
        axes.set_title(fill(title, 90 // grid[1]))
        (_lines if layout.x else _dots)(axes, rows, layout, _sides(analysis, layout))
        axis = axes.yaxis if layout.x else axes.xaxis
        if log:
            (axes.set_yscale if layout.x else axes.set_xscale)("log")
        plain_ticks(axis, values, log=log)
        axes.tick_params(labelbottom=below)
        if layout.x:
            _x_axis(axes, layout.x, [row for _, some in panels for row in some])
            axes.set_xlabel(layout.x.label if below else "")
            axes.set_ylabel(analysis.measure.label if first and grid[0] == 1 else "")
        elif grid[1] == 1:
            axes.set_xlabel(analysis.measure.label if below else "")
    if layout.x and grid[0] > 1:
        figure.supylabel(analysis.measure.label, fontsize="medium")
    if not layout.x and grid[1] > 1:
        figure.supxlabel(analysis.measure.label, fontsize="medium")
    _legend(figure, analysis, layout)


def _lines(axes: Any, rows: Sequence[Row], layout: Layout, sides: Mapping[Side, int]) -> None:
    assert layout.x is not None
    for level, at in sides.items():
        own = [row for row in rows if _side(row, layout.sides) == level and layout.x.name in row.cell and row.summary]
        own.sort(key=lambda row: float(row.cell[layout.x.name]))  # type: ignore[union-attr]
        colour, marker, line = COLOURS[at], MARKERS[at], LINES[at]
        for x, some in _by_x(own, layout.x):
            axes.plot([x] * len(some), some, marker, color=colour, markersize=2.4, alpha=0.35, markeredgewidth=0)
        xs = [float(row.cell[layout.x.name]) for row in own]
        medians = [row.summary.median for row in own if row.summary]
        banded = [(x, m.low, m.high) for x, m in zip(xs, medians, strict=True) if m.low is not None]
        if len(banded) > 1:
            axes.fill_between(*zip(*banded, strict=True), color=colour, alpha=0.16, linewidth=0)
        axes.plot(xs, [m.value for m in medians], marker=marker, linestyle=line, color=colour)


def _dots(axes: Any, rows: Sequence[Row], layout: Layout, sides: Mapping[Side, int]) -> None:
    """Draw a dot with its interval for each cell, the raw readings behind it, the categories down the side."""
    names = list(dict.fromkeys(_level(row, layout.rows) for row in rows))
    present = [level for level in sides if any(_side(row, layout.sides) == level for row in rows)]
    step = 0.62 / max(len(present), 1)
    for row in rows:
        if row.summary is None:
            continue
        at = sides[_side(row, layout.sides)]
        place = present.index(_side(row, layout.sides))
        y = names.index(_level(row, layout.rows)) + (place - (len(present) - 1) / 2) * step
        median, colour = row.summary.median, COLOURS[at]
        axes.plot(row.values, [y] * len(row.values), "|", color=colour, markersize=6, alpha=0.45, markeredgewidth=0.9)
        if median.low is not None:
            axes.plot([median.low, median.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot([median.value], [y], MARKERS[at], color=colour, markersize=5.4)
    axes.set(yticks=range(len(names)), yticklabels=[_named(level, layout.rows) for level in names])
    _bare_rows(axes, len(names))


def _shares(figure: Figure, analysis: Analysis) -> None:
    """Draw what share of each cell's readings was which word."""
    axes = figure.add_subplot()
    rows = [row for row in analysis.rows if row.counts]
    words = sorted({word for row in rows for word in row.counts})
    left, at = np.zeros(len(rows)), np.arange(len(rows))
    for place, word in enumerate(words):
        share = np.array([100 * row.counts.get(word, 0) / sum(row.counts.values()) for row in rows])
        shade = place % len(_SHADES)
        axes.barh(at, share, left=left, height=0.68, label=word, color=_SHADES[shade], edgecolor="white",
                  hatch=_HATCHES[shade % 2], linewidth=0.5)  # fmt: skip
        left += share
    axes.set(yticks=at, yticklabels=[_wrapped(worded(row.cell)) for row in rows], xlim=(0, 100),
             xlabel=f"{analysis.measure.label}: share of trials (%)")  # fmt: skip
    _bare_rows(axes, len(rows))
    figure.legend(loc="outside upper left", ncols=4, handlelength=1.4)


def _bare_rows(axes: Any, many: int) -> None:
    axes.set_ylim(many - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _x_axis(axes: Any, factor: Factor, rows: Sequence[Row]) -> None:
    values = [float(row.cell[factor.name]) for row in rows if factor.name in row.cell]
    log = min(values) > 0 and max(values) / min(values) >= _LOG_FROM / 2
    if log:
        axes.set_xscale("log")
    plain_ticks(axes.xaxis, values, log=log, levels=True)


def _legend(figure: Figure, analysis: Analysis, layout: Layout) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415  beside its only use

    if not layout.sides:
        return
    handles = [
        Line2D([], [], color=COLOURS[at], marker=MARKERS[at], label=_said_side(side, layout.sides),
               linestyle=LINES[at] if layout.x else "none")
        for side, at in _sides(analysis, layout).items()
    ]  # fmt: skip
    title = layout.sides[0].title or layout.sides[0].name.replace("_", " ")
    columns = min(len(handles), 4 if len(layout.sides) == 1 else 3)
    look: dict[str, Any] = {"columnspacing": 1.6, "alignment": "left", "title": title}
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, **look)


def _panels(analysis: Analysis, layout: Layout) -> list[tuple[str, list[Row]]]:
    """Give the rows of each small multiple with its title, in the order of the levels."""
    found: dict[str, list[Row]] = {}
    for row in analysis.rows:
        if row.summary is not None and (layout.x is None or layout.x.name in row.cell):
            told = [_said(factor, row.cell[factor.name]) for factor in layout.panels if factor.name in row.cell]
            found.setdefault(", ".join(told), []).append(row)
    return list(found.items())


def _sides(analysis: Analysis, layout: Layout) -> dict[Side, int]:
    return {side: at % len(COLOURS) for at, side in enumerate(_combined(analysis, layout.sides))}


def _combined(analysis: Analysis, factors: Sequence[Factor]) -> list[Side]:
    """Give the combinations of these factors' levels that were measured, in the order of the cells."""
    return list(dict.fromkeys(_side(row, factors) for row in analysis.rows if row.summary))


def _side(row: Row, factors: Sequence[Factor]) -> Side:
    return tuple(row.cell.get(factor.name) for factor in factors)


def _conditional(analysis: Analysis, factor: Factor) -> bool:
    """Tell whether some cells do not have a factor."""
    return any(factor.name not in row.cell for row in analysis.rows)


def _levels(analysis: Analysis, factor: Factor) -> list[Level]:
    """Give the levels of a factor that were measured; the cells are in order of levels already."""
    found = dict.fromkeys(row.cell[factor.name] for row in analysis.rows if factor.name in row.cell)
    known = [level for level in factor.all if level in found]
    return sorted(found, key=float) if factor.open else [*known, *(each for each in found if each not in known)]


def _weight(analysis: Analysis, factor: Factor) -> float:
    found = analysis.spreads.get(factor.name)
    return found.share if found else 0.0


def _by_x(rows: Sequence[Row], x: Factor) -> list[tuple[float, Sequence[float]]]:
    return [(float(row.cell[x.name]), row.values) for row in rows]


def _height(rows: Sequence[Row], layout: Layout) -> float:
    """Give how many lines of text the rows of a panel of dots are high."""
    names = {_level(row, layout.rows) for row in rows}
    sides = {_side(row, layout.sides) for row in rows}
    return len(names) * max(1.0, 0.5 * len(sides) + 0.4)


def _level(row: Row, factor: Factor | None) -> Level | None:
    return row.cell.get(factor.name) if factor else None


def _named(level: Level | None, factor: Factor | None) -> str:
    if factor is None:
        return ""
    if level is None:
        return f"no {factor.name.replace('_', ' ')}"
    return _said(factor, level) if isinstance(level, bool | int | float) else written(level)


def _said_side(side: Side, factors: Sequence[Factor]) -> str:
    """Give the level of the first factor by itself, since a title names it, and of others with their names."""
    first = "without" if side[0] is None else number(side[0]) if isinstance(side[0], float) else written(side[0])
    return ", ".join(
        [first, *(_said(f, level) for f, level in zip(factors[1:], side[1:], strict=True) if level is not None)]
    )


def _said(factor: Factor, level: Level) -> str:
    shown = number(level) if isinstance(level, float) else written(level)
    named = factor.title or factor.name.replace("_", " ")
    return f"{named} {shown} {factor.unit}".rstrip()


def worded(cell: Cell, but: Collection[str] = ()) -> str:
    """Give a cell as a row of a plot or table says it: names by themselves, numbers with what they are of. Factors in
    `but`, which are the same everywhere, are left out."""
    return ", ".join(
        written(level) if isinstance(level, str) else f"{name.replace('_', ' ')} {wordings.level(level)}"
        for name, level in cell.items()
        if name not in but
    )


def _wrapped(words: str, width: int = 44) -> str:
    return fill(words, width, max_lines=2, placeholder=" …")


def _caption(analysis: Analysis, layout: Layout) -> str:
    few = all(row.summary is None or row.summary.median.low is None for row in analysis.rows)
    if few:
        told = "Medians; too few readings for intervals."
    elif layout.x:
        told = "Medians; the bands are 95 % bootstrap intervals of the median; small marks are single readings."
    else:
        told = "Medians with 95 % bootstrap intervals; short strokes are single readings."
    better = {"less": " Less is better.", "more": " More is better.", "": ""}[analysis.measure.better]
    pooled = ", ".join(factor.name for factor in layout.pooled)
    return told + better + (f" Not told apart here: {pooled}." if pooled else "")
