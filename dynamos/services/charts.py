"""Charts as SVG. The same chart is the same bytes. Matplotlib is imported here only, and only when a chart is drawn."""

from __future__ import annotations

import io
import os
import tempfile
from typing import Any

from dynamos.kit.errors import JobFailed
from dynamos.services.series import Chart

_INK, _PALE, _GRID = "#1f2933", "#616e7c", "#e4e7eb"
_COLOURS = ("#2f6db5", "#e07b39", "#4f9d69", "#8e5ea2", "#c0504d", "#7a8793")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "dynamos",
    "svg.fonttype": "none",  # texts stay texts: small, and to be found and read aloud
    "text.parse_math": False,  # a dollar in a name is a dollar
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _PALE,
    "xtick.color": _PALE,
    "ytick.color": _PALE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}
_LYING_FROM, _LONG_LABEL, _VALUES_UP_TO, _TICKS_UP_TO = 12, 10, 12, 31
_BAND, _FEWEST_SLOTS = 0.8, 4


def draw(chart: Chart, *, form: str = "svg") -> bytes:
    """Draw a chart. Raises JobFailed that names the extra `charts` where matplotlib is not installed."""
    # Matplotlib wants a folder for its cache; the scratch folder is the only one that a service may write in.
    os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())
    try:
        import matplotlib as mpl  # noqa: PLC0415  60 MB that only charts need
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise JobFailed(
            "charts need matplotlib, which is not installed here",
            code="missing-extra",
            hint="install dynamos with its extra: pip install 'dynamos[charts]'",
        ) from None
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_size(chart), layout="constrained")
        axes = figure.add_subplot()
        {"bar": _bars, "line": _lines, "bins": _bins}[chart.kind](axes, chart)
        _finish(axes, chart)
        target = io.BytesIO()
        figure.savefig(target, format=form, metadata={"Date": None} if form == "svg" else None, dpi=110)
    return target.getvalue()


def _size(chart: Chart) -> tuple[float, float]:
    if _lies(chart):
        return 8.0, max(3.0, 1.2 + len(chart.labels) * (0.2 + 0.12 * len(chart.series)))
    return 8.0, 4.5


def _lies(chart: Chart) -> bool:
    """Whether bars lie, so that many or long names can be read."""
    return chart.kind == "bar" and (
        len(chart.labels) > _LYING_FROM or max(map(len, map(str, chart.labels))) > _LONG_LABEL
    )


def _bars(axes: Any, chart: Chart) -> None:
    lies, width = _lies(chart), _BAND / len(chart.series)
    for number, (name, values) in enumerate(chart.series.items()):
        places = [place - _BAND / 2 + (number + 0.5) * width for place in range(len(chart.labels))]
        heights = [value or 0.0 for value in values]
        put = axes.barh if lies else axes.bar
        bars = put(places, heights, width * 0.92, color=_COLOURS[number], label=name)
        if len(heights) * len(chart.series) <= _VALUES_UP_TO or lies:
            texts = ["" if value is None else _number(value) for value in values]
            axes.bar_label(bars, texts, padding=3, fontsize=9, color=_PALE)
    ticks = list(range(len(chart.labels)))
    if lies:
        axes.set_yticks(ticks, chart.labels)
        axes.set_ylim(len(ticks) - 0.4, -0.6)
        axes.margins(x=0.1)
    else:
        axes.set_xticks(ticks, chart.labels)
        room = max(0.6, (_FEWEST_SLOTS - len(ticks)) / 2 + 0.5)  # two bars are no wall
        axes.set_xlim(-room, len(ticks) - 1 + room)
        axes.margins(y=0.1)
    (axes.axvline if lies else axes.axhline)(0, color=_PALE, linewidth=0.8)


def _lines(axes: Any, chart: Chart) -> None:
    marker = "o" if len(chart.labels) <= _TICKS_UP_TO else ""
    gap = float("nan")
    for number, (name, values) in enumerate(chart.series.items()):
        heights = [gap if value is None else value for value in values]
        axes.plot(chart.labels, heights, color=_COLOURS[number], label=name, marker=marker, markersize=4, linewidth=1.8)
    if len(chart.labels) <= _TICKS_UP_TO and all(isinstance(label, int) for label in chart.labels):
        axes.set_xticks(chart.labels)


def _bins(axes: Any, chart: Chart) -> None:
    several = len(chart.series) > 1
    for number, (name, counts) in enumerate(chart.series.items()):
        edges = [*chart.labels, chart.labels[-1] + chart.widths[-1]]
        if several:
            axes.stairs(counts, edges, color=_COLOURS[number], label=name, linewidth=1.8)
        else:
            widths = [width or 1.0 for width in chart.widths]
            axes.bar(chart.labels, counts, widths, align="edge", color=_COLOURS[0], edgecolor="white", label=name)


def _finish(axes: Any, chart: Chart) -> None:
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415

    lies = _lies(chart)
    numbers = axes.xaxis if lies else axes.yaxis
    numbers.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))
    axes.grid(visible=True, axis="x" if lies else "y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left" if not lies else "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    if chart.x and not lies:
        axes.set_xlabel(chart.x)
    if chart.kind == "bins":
        axes.set_ylabel("count")
    axes.set_title(chart.title, loc="left", fontsize=12, fontweight="bold", pad=14)
    if len(chart.series) > 1:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if chart.note:
        axes.annotate(
            chart.note, (1.0, 1.0), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
            ha="right", fontsize=8, color=_PALE,
        )  # fmt: skip


def _number(value: float) -> str:
    """Write a number as people read it: 1,234 and 0.125 and 1.2e+09."""
    if value and not 1e-3 <= abs(value) < 1e9:  # noqa: PLR2004  beyond these, digits say less than the power of ten
        return f"{value:.3g}"
    return f"{value:,.3f}".rstrip("0").rstrip(".")
