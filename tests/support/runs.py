"""Run folders for tests: a script of a few lines, its plan, and records as a sweep would leave them."""

from datetime import UTC, datetime
from pathlib import Path

from dynamos.experiments.choices import Choices, prepare, start
from dynamos.experiments.records import Record, Request, Stage, Status, Usage

SCRIPT = '''#!/usr/bin/env python3
"""Is it quick?"""

from dynamos.experiments import Experiment, Factor, Measure

experiment = Experiment(
    "quickness",
    "Is a larger one slower?",
    factors=[
        Factor("size", [1, 10], unit="B", title="size of it"),
        Factor("how", ["plain", 3]),
        Factor("load", [0.5], when={"how": 3}),
    ],
    measures=[
        Measure("took", "ms", "until it was there", "less", main=True),
        Measure("right", "yes/no"),
        Measure("said", "word"),
    ],
    needs="nothing",
    baseline={"size": 1},
)


@experiment.trial
def trial(bed, size, how, load):
    return {"took": size * 1.5, "right": True, "said": how}


@experiment.claim("A larger one takes longer")
def larger(trials):
    return trials.where(size=10).median("took") > trials.where(size=1).median("took")


if __name__ == "__main__":
    experiment.main()
'''


def make(folder: Path, *, script: str = SCRIPT, seed: int = 7, repetitions: int = 2):
    """Make the run folder of a script below `folder`, without records, and give it with what is prepared."""
    path = folder / "quickness.py"
    path.write_text(script, encoding="utf-8")
    prepared = prepare(path, Choices(seed=seed, repetitions=repetitions))
    return start(folder / "runs", prepared), prepared


def record(trial, **changed):
    """Give the record of a trial that is done, unless something else is said."""
    size = trial.cell.get("size", 1)
    told = {
        "number": trial.number,
        "repetition": trial.repetition,
        "cell": dict(trial.cell),
        "warmup": trial.warmup,
        "baseline": trial.baseline,
        "status": Status.DONE,
        "measures": {"took": size * 1.5, "right": True, "said": 'a, "b"'},
        "samples": {"took": [1.0, 2.0]},
        "requests": (Request(number=0, job="a-1", revision="r1", rows=3, job_seconds=0.1, seconds=0.2),),
        "stages": (Stage(request=0, name="decide", unit="orchestrator", start=0.0, seconds=0.01),),
        "happened": (
            {"fault": {"action": "cut", "link": "a-b"}, "planned": 0.5, "began": 0.51, "done": 0.52},
            {"party": "united", "amendment": "nobody may", "planned": 1.0, "began": 1.0, "done": 1.1, "error": "no"},
        ),
        "usage": (Usage(process="bus", cpu=0.01, peak=1000),),
        "began": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        "seconds": 0.25,
        "testbed": "laptop-12345678",
    }
    return Record(**(told | changed))


def fill(run):
    """Keep records of all trials of a run: the first that is no warm-up has failed, the second was skipped."""
    plan = run.plan.trials
    bad = [trial.number for trial in plan if not trial.warmup][:2]
    for trial in plan:
        changed = {}
        if trial.number in bad:
            status = (Status.FAILED, Status.SKIPPED)[bad.index(trial.number)]
            error = {"code": "trial-raised", "message": f"it {status}"}
            changed = {"status": status, "error": error, "measures": {}, "samples": {}}
        run.keep(record(trial, **changed))
    return run
