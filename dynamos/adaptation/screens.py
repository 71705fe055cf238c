"""Screens: one adaptation decision in words, on one screen: what was known, what was possible, why this, what came of
it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime

from dynamos.adaptation.decisions import Decision
from dynamos.adaptation.situations import Option, Prediction

WIDTH = 100
LINES = 40
"""What one screen has."""
_OPTIONS, _READINGS, _SYMPTOMS = 8, 6, 4


def explain(decision: Decision) -> list[str]:
    """Give the lines of a decision: at most LINES of WIDTH characters."""
    lines = [line for part in _parts(decision) for line in part]
    return [line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines][:LINES]


def _parts(decision: Decision) -> Iterator[list[str]]:
    situation, judgement = decision.situation, decision.judgement
    again = ", planned again while it waited" if decision.again else ""
    yield [
        f"job {decision.job} of {decision.user}, {clock(decision.at)}{again}",
        f"planner {decision.planner} {decision.version}, knowing {decision.memory}; took {decision.took_ms:.2f} ms",
        f"policy revision {decision.revision}",
        "",
        "KNOWN",
    ]
    yield _cut([_reading(name, decision) for name in situation.parties] or ["nothing of any party's load"], _READINGS)
    yield _cut(
        [
            f"way {name}: {each.rate * 8 / 1e6:.0f} Mbit/s, {each.age:.1f} s old{_stale(each.stale)}"
            for name, each in situation.links.items()
        ],
        _READINGS,
    )
    yield _cut([f"symptom {s.kind} of {s.subject}: {s.fact}" for s in situation.symptoms], _SYMPTOMS)
    yield ["", f"POSSIBLE ({len(situation.options)})"]
    yield _cut([_option(option, decision) for option in _sorted(decision)], _OPTIONS)
    yield ["", "DECIDED", *_wrapped(f"{judgement.option.name}: {judgement.why}")]
    if decision.refused:
        yield _wrapped(f"refused: {decision.refused}")
    if decision.compression:
        compressed = ", ".join(f"{edge} with {how}" for edge, how in decision.compression.items())
        yield _wrapped(f"compressed: {compressed}")
    yield [f"  expected {_prediction(decision.expected)}" if decision.expected else "  nothing was expected of it"]
    yield ["", "CAME OF IT", *_effect(decision)]


def _effect(decision: Decision) -> list[str]:
    effect = decision.effect
    if effect is None:
        return ["  nothing yet"]
    took = f"  {effect.state} at {clock(effect.at)}"
    if effect.experience is None:
        return [took, *_wrapped(effect.error)] if effect.error else [took]
    came = effect.experience
    told = f"{took}: {_seconds(came.seconds)}, {_bytes(came.moved)} between parties, {came.joules:.2f} J"
    if decision.expected is None:
        return [told]
    off = came.seconds / max(decision.expected.seconds, 1e-9)
    within = "within" if decision.expected.low <= came.seconds <= decision.expected.high else "outside"
    return [told, f"  {off:.2f} x the time that was expected, {within} the interval"]


def _sorted(decision: Decision) -> list[Option]:
    """Give the options, the picked one first."""
    picked = decision.judgement.option.name
    return sorted(decision.situation.options, key=lambda option: option.name != picked)


def _option(option: Option, decision: Decision) -> str:
    mark = "*" if option.name == decision.judgement.option.name else " "
    prediction = decision.judgement.predictions.get(option.name)
    expects = f"  [{_prediction(prediction)}]" if prediction else ""
    reason = decision.judgement.rejected.get(option.name, "")
    return f"{mark} {option.name}{expects}{f'  {reason}' if reason else ''}"


def _reading(name: str, decision: Decision) -> str:
    each = decision.situation.parties[name]
    return (
        f"{name}: load {each.level:.0%} (parts {max(each.parts, each.ours)} of {each.capacity}, cpu {each.cpu:.0%}), "
        f"memory {each.memory:.0%}, {each.age:.1f} s old{_stale(each.stale)}"
    )


def _prediction(prediction: Prediction) -> str:
    told = f"{_seconds(prediction.seconds)} ({_seconds(prediction.low)} to {_seconds(prediction.high)})"
    return f"{told}, {_bytes(prediction.bytes)}, {prediction.joules:.2f} J, cost {prediction.cost:.3g}"


def _cut(lines: list[str], most: int) -> list[str]:
    shown = [f"  {line}" for line in lines[:most]]
    return [*shown, f"  and {len(lines) - most} more"] if len(lines) > most else shown


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ", max_lines=3, placeholder=" …")


def _stale(stale: bool) -> str:
    return ": STALE, not used" if stale else ""


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def clock(at: float) -> str:
    """Give a moment in words."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
