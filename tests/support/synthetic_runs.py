"""Run folders whose readings have a known answer, made without running anything."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynamos.experiments.choices import Choices, prepare, start
from dynamos.experiments.designs import Trial
from dynamos.experiments.records import Record, Stage, Status, Usage
from dynamos.experiments.runs import Run
from dynamos.experiments.scripts import Experiment

SCRIPT = '''
from dynamos.experiments import Experiment, Factor, Measure

experiment = Experiment(
    "tunnels",
    "What does a tunnel cost, <b>beside</b> none?",
    factors=[
        Factor("driver", ["none", "wireguard", "ipsec"], title="overlay"),
        Factor("rows", [100, 1000, 10000, 100000]),
        Factor("cold", [True, False]),
    ],
    measures=[
        Measure("total", "s", "from request to last row", better="less", main=True),
        Measure("rate", "Mbit/s", better="more"),
        Measure("exact", "yes/no", "the sum is right"),
        Measure("outcome", "word"),
    ],
    needs="nothing",
    baseline={"driver": "none"},
    background="""
Others found this **before** us:

| who | what |
| --- | --- |
| A & B | 3 % |

- it depends <script>alert(1)</script>
""",
    limits=["One machine; its clock is that of all sites.", "No loss on the links."],
)


@experiment.trial
def trial(bed, driver, rows, cold):
    return {"total": 1.0}


@experiment.claim("Every sum is right")
def right(trials):
    return trials.all("exact"), f"{len(trials.done)} answers compared"


@experiment.claim("A tunnel costs nothing")
def free(trials):
    slow = trials.where(driver="ipsec").median("total")
    plain = trials.where(driver="none").median("total")
    if slow is None or plain is None:
        return None
    return slow <= plain * 1.02, f"{slow / plain:.2f} times the time"


@experiment.claim("The moon does not matter")
def moon(trials):
    return None, "nobody looked"


if __name__ == "__main__":
    experiment.main()
'''

COST = {"none": 1.0, "wireguard": 1.0, "ipsec": 1.5}
"""What a driver multiplies the time of a request with."""

Reader = Callable[[Trial, random.Random], Mapping[str, Any]]


def reading(trial: Trial, dice: random.Random) -> Mapping[str, Any]:
    """Give what a trial of SCRIPT reads: time that grows with the rows, times the driver's cost, with 3 % noise."""
    rows, driver = float(trial.cell["rows"]), str(trial.cell["driver"])
    seconds = (0.02 + rows * 2e-5) * COST[driver] * (1.2 if trial.cell["cold"] else 1.0)
    total = seconds * dice.lognormvariate(0, 0.03)
    return {"total": total, "rate": rows / total / 1e4, "exact": True, "outcome": "answered"}


def make_run(
    base: Path,
    *,
    text: str = SCRIPT,
    read: Reader = reading,
    ends: Callable[[Trial], tuple[Status, str]] = lambda _: (Status.DONE, ""),
    traced: bool = True,
    **choices: Any,
) -> tuple[Run, Experiment]:
    """Make a run of a script, every trial ended as `ends` says with what `read` gives."""
    base.mkdir(parents=True, exist_ok=True)
    script = base / "script.py"
    script.write_text(text, encoding="utf-8")
    prepared = prepare(script, Choices.model_validate({"seed": 7, **choices}))
    run = start(base / "runs", prepared)
    dice = random.Random(5)
    for trial in prepared.plan.trials:
        status, reason = ends(trial)
        measures = dict(read(trial, dice)) if status is Status.DONE else {}
        run.keep(
            Record(
                number=trial.number,
                repetition=trial.repetition,
                cell=dict(trial.cell),
                warmup=trial.warmup,
                baseline=trial.baseline,
                status=status,
                measures=measures,
                stages=stages(float(measures.get("total", 1.0))) if traced and measures else (),
                usage=(
                    Usage(process="orchestrator", cpu=0.02 + 0.001 * dice.random(), peak=120 << 20),
                    Usage(process="united", cpu=0.05 + 0.001 * dice.random(), peak=177 << 20),
                ),
                error={"code": "unavailable", "message": reason} if reason else None,
                began=datetime(2026, 1, 1, tzinfo=UTC),
                seconds=1.0,
            )
        )
    return run, prepared.experiment


def stages(seconds: float) -> tuple[Stage, ...]:
    """Give a trace of so many seconds: an eighth at the API, an eighth to decide, the rest at a party."""
    told = [
        ("POST /api/v1/jobs", "api", 0.0, 1.0, 0),
        ("submit", "orchestrator", 0.125, 0.875, 0),
        ("part", "united", 0.25, 0.75, 0),
        ("sql-query", "united", 0.5, 0.5, 1),
    ]
    return tuple(
        Stage(request=0, name=name, unit=unit, start=start * seconds, seconds=long * seconds, depth=depth)
        for name, unit, start, long, depth in told
    )
