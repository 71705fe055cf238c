"""Wordings: how figures, changes and verdicts are said, the same in a report, a comparison and a terminal. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from dynamos.experiments.factors import Cell, Level, written
from dynamos.experiments.measures import Measure
from dynamos.experiments.statistics import FEW, Contrast, Estimate, Summary, Verdict

NOTHING, MINUS, TIMES = "\u2013", "\u2212", "\u00d7"
_RATIOS_FROM = 3.0
_SMALLEST_P = 0.0001
_ROOTS = "home|root|tmp|work|Users|var|opt|mnt|srv|private|usr|run|etc|data"


def figure(value: float | None) -> str:
    """Give a number with three digits that matter, never in powers of ten where people would not."""
    if value is None:
        return NOTHING
    if value and not 1e-4 <= abs(value) < 1e9:  # noqa: PLR2004  where zeros are counted
        return f"{value:.2e}"
    if float(value).is_integer() or abs(value) >= 100:  # noqa: PLR2004
        plain = f"{float(f'{value:.3g}') if abs(value) < 1000 else value:,.0f}"  # noqa: PLR2004
    else:
        plain = f"{value:#.3g}".rstrip(".")
    return plain.replace(",", "\u202f").replace("-", MINUS)


def interval(found: Estimate) -> str:
    """Give an interval; a dash where there are too few readings for one."""
    return NOTHING if found.low is None else f"{figure(found.low)} to {figure(found.high)}"


def change(found: Contrast, measure: Measure) -> tuple[str, str]:
    """Give the change from the baseline and its interval: as a share or a multiple, else as a difference."""
    if found.ratio is None:
        told = _signed(found.difference.value) + f" {measure.unit}"
        low, high = found.difference.low, found.difference.high
        return told, NOTHING if low is None or high is None else f"{_signed(low)} to {_signed(high)}"
    value, low, high = found.ratio
    if 1 / _RATIOS_FROM < value < _RATIOS_FROM:
        share = _share(value) + "\u202f%"
        return share, NOTHING if low is None or high is None else f"{_share(low)} to {_share(high)}\u202f%"
    return (
        f"{TIMES} {figure(value)}",
        NOTHING if low is None or high is None else f"{TIMES} {figure(low)} to {figure(high)}",
    )


def verdict(found: Contrast | None, measure: Measure) -> tuple[str, str]:
    """Give a verdict in words, and its kind: better, worse, other, noise, few. Both are empty where there is none."""
    if found is None:
        return "", ""
    if found.verdict is Verdict.NOISE:
        return ("may be noise" if found.leans else str(Verdict.NOISE)), "noise"
    if found.verdict is Verdict.FEW:
        apart = found.apart and min(found.n, found.other) >= FEW
        return ("apart, but too few readings" if apart else str(Verdict.FEW)), "few"
    less = found.verdict is Verdict.LESS
    if not measure.better:
        return ("less" if less else "more"), "other"
    better = (measure.better == "less") == less
    word = {"time": ("faster", "slower"), "rate": ("faster", "slower")}.get(measure.kind, ("better", "worse"))
    return word[0 if better else 1], "better" if better else "worse"


def chance(p: float | None) -> str:
    """Give a p value."""
    if p is None:
        return NOTHING
    return f"< {_SMALLEST_P:g}" if p < _SMALLEST_P else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"  # noqa: PLR2004


def sentence(name: str, reference: str, found: Contrast, measure: Measure) -> str:
    """Say what a level does to a measure beside the reference level, and no more than the figures support."""
    what = measure.title or measure.name.replace("_", " ")
    by, within = change(found, measure)
    told = f" (95 % interval {within})" if within != NOTHING else ""
    evidence = (
        f"{found.pairs} pairs, {found.test} p {_equals(found.adjusted)}" if found.test else f"{found.pairs} pairs"
    )
    match found.verdict:
        case Verdict.FEW:
            apart = "; every pair differs the same way" if found.apart and found.pairs > 1 else ""
            return f"{name} beside {reference}: {by} in “{what}”, but too few readings to tell from noise{apart}."
        case Verdict.NOISE if found.leans:
            head = f"{name} beside {reference}: {by} in “{what}”{told}"
            return f"{head}, which may be noise, with as many comparisons; {evidence}."
        case Verdict.NOISE:
            return f"{name} beside {reference}: no difference in “{what}” beyond noise: {by}{told}; {evidence}."
        case _:
            return f"{name} beside {reference}: {by} in “{what}”{told}, beyond noise; {evidence}."


def note(found: Summary | None) -> str:
    return found.note if found else "nothing was read"


def counts(found: Mapping[str, int]) -> str:
    """Give words with how often each was read."""
    return ", ".join(f"{word} {many}" for word, many in found.items()) or NOTHING


def levels(cell: Cell) -> str:
    """Give a cell as its levels."""
    return ", ".join(f"{name} {level(each)}" for name, each in cell.items()) or "the only cell"


def level(found: Level) -> str:
    """Give a level as a table says it: numbers in groups of three digits."""
    if isinstance(found, int) and not isinstance(found, bool) and abs(found) >= 10_000:  # noqa: PLR2004
        return f"{found:,}".replace(",", "\u202f")
    return written(found)


def size(amount: float) -> str:
    """Give a number of bytes."""
    for factor, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if amount >= factor:
            return f"{figure(amount / factor)} {unit}"
    return f"{amount:.0f} B"


def without_places(text: str) -> str:
    """Give a text in which paths of this machine are only the names at their end."""
    return re.sub(
        rf"(?<![\w.:/~-])/(?:{_ROOTS})(?:/[^\s\"'<>()\[\]{{}},;:]+)+", lambda m: PurePosixPath(m.group()).name, text
    )


def _share(ratio: float) -> str:
    percent = (ratio - 1) * 100
    told = f"{percent:+.0f}" if abs(percent) >= 10 else f"{percent:+.1f}"  # noqa: PLR2004
    return "0" if told in ("+0.0", "-0.0") else told.replace("-", MINUS)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + figure(value)


def _equals(p: float | None) -> str:
    told = chance(p)
    return told if told.startswith("<") else f"= {told}"
