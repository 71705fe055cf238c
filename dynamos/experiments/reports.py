"""Reports: everything that a run tells, as one page that a reader can judge and repeat without anything else."""

from __future__ import annotations

import base64
import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dynamos.deploy import maps, profiles
from dynamos.deploy.states import explained
from dynamos.experiments import anatomy, evidence, pages, plots, wordings
from dynamos.experiments.analyses import Analysis, Effect, analyse, by_cell
from dynamos.experiments.claims import settle
from dynamos.experiments.crates import METADATA
from dynamos.experiments.environments import read as read_environment
from dynamos.experiments.factors import written
from dynamos.experiments.measures import Measure
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.plots import Plot, worded
from dynamos.experiments.records import Record
from dynamos.experiments.runs import PLOTS, PROFILES, Run
from dynamos.experiments.scripts import Experiment
from dynamos.experiments.statistics import RESAMPLES, Verdict
from dynamos.kit.errors import DynamosError

REPORT = "report.html"
_OPEN_ROWS, _MOST_BARS, _MOST_FINDINGS = 48, 40, 12
_LOG_FROM = 30.0
_FEW_QUIET = 2
_WORDS = {True: "held", False: "not held", None: "cannot be told"}
_TOLD_ELSEWHERE = ("form", "experiment", "plan", "seed")
_NOT_LISTED = (REPORT, METADATA)


@dataclass(frozen=True, slots=True)
class Shown:
    """A measure as the page shows it."""

    measure: Measure
    analysis: Analysis
    plot: Plot | None
    rows: Sequence[dict[str, Any]]
    effects: Sequence[dict[str, Any]]
    spreads: Sequence[dict[str, Any]]
    sentences: Sequence[str]


def write(run: Run, experiment: Experiment) -> Path:
    """Write the report of a run and the files of its plots, and give its path. Raises Full."""
    outcomes = Outcomes.of(run.records())
    folder = run.folder / PLOTS
    with explained(folder):
        folder.mkdir(exist_ok=True)
    main, environment = main_measures(experiment), read_environment(run) or {}
    shown = [_measure(run, experiment, outcomes, measure, drawn=measure in main) for measure in experiment.measures]
    return pages.write(
        run.folder / REPORT,
        "report.html.j2",
        run=run,
        name=run.folder.name,
        experiment=experiment,
        claims=_claims(experiment, outcomes),
        counts={"done": len(outcomes.done), "failed": len(outcomes.failed), "skipped": len(outcomes.skipped),
                "left": sum(not trial.warmup for trial in run.left())},
        main=[each for each in shown if each.measure in main],
        others=[each for each in shown if each.measure not in main],
        factors=_factors(experiment, outcomes),
        fixed=_fixed(experiment, outcomes),
        warmups=sum(trial.warmup for trial in run.plan.trials),
        span=_span(outcomes.records),
        reasons=_reasons(outcomes.records),
        maps=_maps(run),
        proofs=evidence.read(run.folder),
        stages=_stages(experiment, outcomes, folder),
        usage=_usage(outcomes.done.records),
        environment=_facts({name: told for name, told in environment.items() if name not in _TOLD_ELSEWHERE}),
        changed=[change for each in environment.get("sessions", ()) for change in each.get("changed", ())],
        resamples=RESAMPLES,
        commands=_commands(run, experiment),
        files=_files(run.folder),
        open_rows=_OPEN_ROWS,
    )  # fmt: skip


def main_measures(experiment: Experiment) -> list[Measure]:
    """Give the measures that a report begins with: the main ones, else the first."""
    return [measure for measure in experiment.measures if measure.main] or list(experiment.measures[:1])


def _claims(experiment: Experiment, outcomes: Outcomes) -> list[dict[str, Any]]:
    found = []
    for claim in experiment.claims:
        held, shown = settle(claim, outcomes)
        found.append({"words": claim.words, "held": _WORDS[held], "kind": _WORDS[held].split()[0], "shown": shown})
    return found


def _measure(run: Run, experiment: Experiment, outcomes: Outcomes, measure: Measure, *, drawn: bool) -> Shown:
    cells = drawn or len(by_cell(outcomes.done, experiment.factors)) <= _OPEN_ROWS
    analysis = analyse(outcomes, experiment.factors, measure, experiment.baseline, seed=run.plan.seed, cells=cells)
    plot = plots.draw(analysis, experiment.factors, run.folder / PLOTS) if drawn else None
    titles = {factor.name: factor.title or factor.name.replace("_", " ") for factor in experiment.factors}
    effects = [
        {
            "factor": titles[effect.factor.name],
            "level": written(effect.level),
            "reference": written(effect.reference),
            **_contrast(effect.contrast, measure),
        }
        for effect in analysis.effects
    ]
    spreads = [
        {"factor": titles.get(name, name), "p": each.p, "share": each.share} for name, each in analysis.spreads.items()
    ]
    return Shown(measure, analysis, plot, _rows(analysis), effects, spreads, _sentences(analysis)[:_MOST_FINDINGS])


def _sentences(analysis: Analysis) -> list[str]:
    """Say what the factors do; where several do nothing beyond noise, in one sentence."""
    measure, said, quiet = analysis.measure, [], []
    for effect in _telling(analysis):
        named = [_level(effect.factor.name, level) for level in (effect.level, effect.reference)]
        found = effect.contrast
        told = wordings.sentence(named[0], named[1], found, measure)
        if found.verdict is Verdict.NOISE and not found.leans:
            quiet.append((told, f"{named[0]} beside {named[1]} ({wordings.change(found, measure)[0]})"))
        else:
            said.append(told)
    if len(quiet) <= _FEW_QUIET:
        return said + [told for told, _ in quiet]
    what = measure.title or measure.name.replace("_", " ")
    return [*said, f"No difference in “{what}” beyond noise: {', '.join(short for _, short in quiet)}."]


def _telling(analysis: Analysis) -> list[Effect]:
    """Give the effects that an answer in short names: the baseline's factors first; of many numbers only the last."""
    last = {effect.factor.name: effect.level for effect in analysis.effects}
    kept = [e for e in analysis.effects if not e.factor.open or e.level == last[e.factor.name]]
    return sorted(kept, key=lambda effect: effect.factor.name not in analysis.baseline)


def _rows(analysis: Analysis) -> list[dict[str, Any]]:
    """Give the table's rows; `bar` is where interval and median stand, in hundredths of the table's whole range."""
    edges = [edge for row in analysis.rows if row.summary for edge in (row.summary.least, row.summary.most)]
    low, high = min(edges, default=0.0), max(edges, default=1.0)
    log = low > 0 and high / low >= _LOG_FROM

    def at(value: float) -> float:
        if low == high:
            return 50.0
        return 100 * (math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low))

    rows = []
    for row in analysis.rows:
        found = row.summary
        ends = found and (found.least, found.most, found.median.low, found.median.high, found.median.value)
        rows.append({
            "cell": row.cell,
            "baseline": row.baseline,
            "counts": row.counts,
            "summary": found,
            "note": wordings.note(found),
            "bar": [None if end is None else at(end) for end in ends or ()],
            "contrast": _contrast(row.contrast, analysis.measure),
        })  # fmt: skip
    return rows


def _contrast(found: Any, measure: Measure) -> dict[str, Any]:
    if found is None:
        return {"change": "", "within": "", "verdict": "", "kind": ""}
    change, within = wordings.change(found, measure)
    words, kind = wordings.verdict(found, measure)
    return {"change": change, "within": within, "verdict": words, "kind": kind, "p": found.adjusted,
            "delta": found.delta, "test": found.test, "pairs": found.pairs}  # fmt: skip


def _factors(experiment: Experiment, outcomes: Outcomes) -> list[dict[str, Any]]:
    found = []
    for factor in experiment.factors:
        ran = outcomes.levels(factor.name)
        ordered = [level for level in factor.all if level in ran] + [level for level in ran if level not in factor.all]
        told: dict[str, Any] = {"name": factor.name, "label": factor.label, "changes": factor.changes}
        told["levels"] = [(written(level), experiment.baseline.get(factor.name) == level) for level in ordered]
        told["left_out"] = [written(level) for level in factor.all if level not in ran]
        found.append(told)
    return found


def _fixed(experiment: Experiment, outcomes: Outcomes) -> dict[str, Any]:
    """Give the factors that have one level, the same in every cell."""
    found = {factor.name: outcomes.levels(factor.name) for factor in experiment.factors}
    return {
        name: levels[0]
        for name, levels in found.items()
        if len(levels) == 1 and all(name in record.cell for record in outcomes)
    }


def _span(records: Sequence[Record]) -> tuple[str, str] | None:
    if not records:
        return None
    first, last = min(each.began for each in records), max(each.began for each in records)
    return f"{first:%Y-%m-%d %H:%M:%S}", f"{last:%Y-%m-%d %H:%M:%S}"


def _reasons(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Give why trials failed or were skipped, with how many and in which cells."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.error:
            names = ("where", "message", "hint")
            told = " · ".join(str(record.error[name]) for name in names if record.error.get(name))
            found.setdefault((str(record.status), told), []).append(record)
    return [
        {
            "status": status,
            "reason": reason,
            "many": len(some),
            "cells": list(dict.fromkeys(worded(each.cell) for each in some)),
        }
        for (status, reason), some in sorted(found.items(), key=lambda item: -len(item[1]))
    ]


def _maps(run: Run) -> list[dict[str, Any]]:
    found = []
    for path in sorted((run.folder / PROFILES).glob("*.yaml")):
        try:
            drawn = maps.draw_map(profiles.load(path))
        except DynamosError as error:
            found.append({"name": path.stem, "picture": "", "reason": str(error)})
        else:
            data = base64.b64encode(drawn.encode()).decode()
            found.append({"name": path.stem, "picture": Markup(f"data:image/svg+xml;base64,{data}"), "reason": ""})  # noqa: S704
    return found


def _stages(experiment: Experiment, outcomes: Outcomes, folder: Path) -> dict[str, Any] | None:
    grouped = [(cell, anatomy.dissect(some)) for cell, some in by_cell(outcomes.done, experiment.factors)]
    fixed = _fixed(experiment, outcomes)
    found = [(worded(cell, fixed) or "all trials", each) for cell, each in grouped if each]
    if not found:
        return None
    names = anatomy.lumped([each for _, each in found], 1000)
    return {
        "plot": plots.draw_anatomy(found[:_MOST_BARS], folder),
        "cells": [(words, each.requests, each.total) for words, each in found],
        "rows": names,
    }


def _usage(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Give what each process used: CPU in the middle trial, and its peak of memory."""
    found: dict[str, list[Any]] = {}
    for record in records:
        for used in record.usage:
            found.setdefault(used.process, []).append(used)
    rows = [
        {
            "process": name,
            "cpu": statistics.median(each.cpu for each in some),
            "most": max(each.cpu for each in some),
            "peak": max(each.peak for each in some),
            "n": len(some),
        }
        for name, some in found.items()
    ]
    return sorted(rows, key=lambda row: -row["most"])


def _facts(told: Any, name: str = "") -> list[tuple[str, str]]:
    """Give what is nested as names and values, one by one."""
    if isinstance(told, dict):
        return [fact for each, value in told.items() for fact in _facts(value, f"{name} {each}".strip())]
    if isinstance(told, list) and any(isinstance(each, dict) for each in told):
        return [fact for at, each in enumerate(told, 1) for fact in _facts(each, f"{name} {at}")]
    if told in (None, "", []):
        return []
    return [(name.replace("_", " "), ", ".join(map(str, told)) if isinstance(told, list) else str(told))]


def _commands(run: Run, experiment: Experiment) -> list[tuple[str, str]]:
    """Give how to repeat it: from the checkout, and from the folder alone."""
    picked = run.choices.get("picks") or {}
    options = [f"--seed {run.plan.seed}"]
    options += ["--quick"] if run.choices.get("quick") else []
    options += [f"--repeat {run.choices['repetitions']}"] if run.choices.get("repetitions") else []
    options += [f"--profile {shlex.quote(Path(run.choices['profile']).name)}"] if run.choices.get("profile") else []
    options += [f"--set {shlex.quote(f'{name}=' + ','.join(levels))}" for name, levels in picked.items()]
    return [
        ("with the script as it is today", f"dynamos experiment run {experiment.name} {' '.join(options)}"),
        ("from this folder alone: same script, profiles, order", f"dynamos experiment run {run.folder.name}"),
        ("what would be run, without running it", f"dynamos experiment run {run.folder.name} --dry-run"),
        ("this page again, from the records", f"dynamos experiment report {run.folder.name}"),
    ]


def _files(folder: Path) -> list[dict[str, Any]]:
    """Give the files of a run, those of a folder as one."""
    found = []
    for path in sorted(folder.iterdir(), key=lambda each: (each.is_dir(), each.name)):
        if path.name in _NOT_LISTED or path.name.startswith("."):
            continue
        inner = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        name = f"{path.name}/" if path.is_dir() else path.name
        found.append({"name": name, "many": len(inner), "bytes": sum(each.stat().st_size for each in inner)})
    return found


def _level(factor: str, level: Any) -> str:
    return level if isinstance(level, str) else f"{factor.replace('_', ' ')} {wordings.level(level)}"
