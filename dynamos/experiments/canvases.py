"""Canvases: the look of every plot, and its files: SVG, PNG and PDF for papers, and an SVG that fits into a page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from dynamos.experiments.runs import write_whole

WIDTH: Final = 7.1
"""Inches: two columns of a paper."""
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7F7F7F", "#1b1f24")
"""M. Okabe and K. Ito, *Color Universal Design*, 2008; told apart without colour by marker and line too."""
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES: Final = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.4)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1.5)),
    (0, (8, 2)),
    (0, (2, 3)),
    (0, (4, 1, 1, 1, 1, 1)),
)
INK: Final = "#1b1f24"
GRID: Final = "#7d8590"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # texts stay texts: small, to be found and read aloud
    "pdf.fonttype": 42,  # as journals want them
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.alpha": 0.28,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.title_fontsize": 8.5,
    "legend.handlelength": 2.4,
    "hatch.linewidth": 0.6,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}
_FACES = "'DejaVu Sans', Verdana, 'Helvetica Neue', Arial, sans-serif"


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Give an empty figure of so many inches in the style of all."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write a figure as NAME.svg, .png and .pdf, the same bytes for the same figure, and give it as SVG for a page."""
    svg = b""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        for form, more in (
            ("svg", {"metadata": {"Date": None, "Creator": None}}),
            ("png", {"dpi": 200}),
            ("pdf", {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}}),
        ):
            target = io.BytesIO()
            figure.savefig(target, format=form, facecolor="white", **more)
            write_whole(folder / f"{name}.{form}", target.getvalue())
            svg = svg or target.getvalue()
            figure.set_layout_engine("none")  # it is laid out now
    return inline(svg.decode(), name)


def inline(svg: str, name: str) -> str:
    """Give an SVG document as an element of a page: without a background, texts and axes in the page's colour, its
    ids beside no other's."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="patch_1">.*?</g>\s*', "", body, count=1, flags=re.DOTALL)
    body = re.sub(re.escape(INK), "currentColor", body, flags=re.IGNORECASE)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", body)
    body = re.sub(r"font: ([\d.]+px) [^;\"]*", rf"font: \1 {_FACES}", body)
    body = re.sub(r'\s(?:width|height)="[\d.]+pt"', "", body, count=2)
    return re.sub(r"\n\s*\n+", "\n", body)


def plain_ticks(axis: Any, values: list[float], *, log: bool, levels: bool = False) -> None:
    """Have an axis say numbers as people write them; at the levels themselves where these are few."""
    few = 8
    if log:
        decades = max(values) / max(min(values), 1e-300) >= 50  # noqa: PLR2004  several ticks then anyway
        axis.set_major_locator(LogLocator(10, subs=(1.0,) if decades else (1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(6))
    if levels and len(set(values)) <= few:
        axis.set_ticks(sorted(set(values)))
        axis.set_minor_locator(NullLocator())
    thousands = max(values) >= 1e4  # noqa: PLR2004  then all of the axis says k
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value, 1e3 if thousands else 1e4)))


def number(value: float, thousands: float = 1e4) -> str:
    """Give a number with as many digits as matter: 0.0123, 1.5, 120, 10 k."""
    for least, factor, suffix in ((1e9, 1e9, " G"), (1e6, 1e6, " M"), (thousands, 1e3, " k")):
        if abs(value) >= least:
            return f"{value / factor:.4g}{suffix}"
    return f"{value:.4g}"
