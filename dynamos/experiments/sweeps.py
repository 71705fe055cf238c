"""Sweeps: walk a plan's trials, on testbeds that are made anew where the design says so, and keep what each gave."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynamos.deploy.states import StateFolder
from dynamos.experiments import proofs, usage, venues
from dynamos.experiments.choices import Prepared
from dynamos.experiments.designs import Trial, shown
from dynamos.experiments.factors import Change, Level
from dynamos.experiments.records import Record, Status
from dynamos.experiments.runs import LOGS, PROFILES, PROOFS, Run
from dynamos.experiments.scripts import levels_for
from dynamos.experiments.venues import Venue
from dynamos.experiments.workers import Worker
from dynamos.kit.errors import Conflict, DynamosError, Full, Unavailable
from dynamos.model.profiles import Profile
from dynamos.model.units import Duration

DEATHS = 3
"""So many testbeds in a row may end under a trial; then the machine is at fault and the sweep stops."""
TESTBED_SECONDS = 5.0
"""What a testbed takes to be there, for the estimate before one was made."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep is. `record` is what has just ended, `note` what goes on instead."""

    done: int
    total: int
    left_seconds: float
    record: Record | None = None
    note: str = ""


Told = Callable[[Progress], None]


@dataclass
class Forecast:
    """How long what is left will take: by what was seen so far, else by what the script says is typical."""

    typical: float
    testbeds: list[float] = field(default_factory=list)
    seen: dict[tuple[tuple[str, Level], ...], list[float]] = field(default_factory=dict)

    def saw(self, record: Record) -> None:
        self.seen.setdefault(tuple(record.cell.items()), []).append(record.seconds)

    def seconds(self, trials: list[Trial], openings: int) -> float:
        everything = [value for values in self.seen.values() for value in values]
        usual = statistics.median(everything) if everything else self.typical
        each = sum(statistics.median(self.seen.get(tuple(trial.cell.items()), [usual])) for trial in trials)
        return each + openings * (statistics.median(self.testbeds) if self.testbeds else TESTBED_SECONDS)


class Sweep:
    """Goes over the trials of a run that have no record yet."""

    def __init__(self, run: Run, prepared: Prepared, venue: Venue, told: Told = lambda _: None) -> None:
        self._run = run
        self._prepared = prepared
        self._experiment = prepared.experiment
        self._venue = venue
        self._told = told
        self._bound = float(Duration.parse(self._experiment.bound))
        self._forecast = Forecast(float(Duration.parse(self._experiment.typical)))
        self._made: dict[Change, tuple[Any, ...]] = {}
        self._place: Mapping[str, Any] = {}
        self._deaths = 0
        self._barred: tuple[Any, Status, DynamosError] | None = None
        self._left: list[Trial] = []

    def go(self) -> None:
        """Make every trial that is left, and take down what was made for them, also when interrupted.

        Raises Full and Conflict where records cannot be kept, Unavailable where testbeds end again and again. What
        has a record stays, and another sweep goes on from there.
        """
        with self._run.held():
            self._left = self._run.left()
            try:
                if self._experiment.parallel > 1:
                    self._go_together()
                else:
                    with self._worker("worker.log") as worker:
                        while self._left:
                            self._keep(self._one(worker, self._left[0]))
            finally:
                self._venue.close()

    def _go_together(self) -> None:
        """Make trials beside each other: nothing that they measure is a matter of time."""
        many = self._experiment.parallel
        workers = [self._worker(f"worker-{number}.log") for number in range(many)]
        place = self._venue.open(*self._profile(self._left[0])) if self._left else {}

        def lane(number: int) -> None:
            for trial in trials[number::many]:
                self._keep(self._perform(workers[number], trial, place))

        trials = list(self._left)
        try:
            with ThreadPoolExecutor(many) as pool:
                for done in [pool.submit(lane, number) for number in range(many)]:
                    done.result()
        finally:
            for worker in workers:
                worker.end()

    def _one(self, worker: Worker, trial: Trial) -> Record:
        """Make what the trial's cell needs, and the trial. What could not be made once is not tried again for the
        next trial that needs it."""
        group = (trial.repetition, self._group(trial))
        if self._barred and self._barred[0] == group:
            return _without(trial, *self._barred[1:])
        try:
            self._make(worker, trial)
        except (Full, Conflict):
            raise
        except DynamosError as error:
            self._made.clear()
            status = Status.SKIPPED if isinstance(error, Unavailable) else Status.FAILED
            self._barred = (group, status, error)
            return _without(trial, status, error)
        record = self._perform(worker, trial, self._place)
        if record.status is not Status.FAILED or self._venue.alive():
            self._deaths = 0
            return record
        self._made.clear()
        self._deaths += 1
        if self._deaths >= DEATHS:
            raise Unavailable(
                f"{DEATHS} testbeds in a row ended under a trial", where=shown(trial.cell), hint="dynamos doctor",
                last=(record.error or {}).get("message", ""),
            )  # fmt: skip
        told = dict(record.error or {})
        told |= {"code": "testbed-died", "message": f"the testbed ended during the trial: {told.get('message', '')}"}
        return record.model_copy(update={"error": told})

    def _perform(self, worker: Worker, trial: Trial, place: Mapping[str, Any]) -> Record:
        began, clock, position = datetime.now(UTC), time.monotonic(), worker.position()
        state = StateFolder(Path(place["state"])) if place.get("state") else None
        before = usage.read(state) if state else {}
        order = {"do": "trial", "trial": trial.as_dict(), "bed": dict(place)}
        try:
            record = Record.model_validate(worker.do(order, within=self._bound)["record"])
        except (Full, Conflict):
            raise
        except DynamosError as error:
            seconds = time.monotonic() - clock
            record = _without(trial, Status.FAILED, error, began=began, seconds=seconds)
        used = usage.between(before, usage.read(state)) if state else ()
        testbed = Path(place["profile"]).stem if place.get("profile") else ""
        return record.model_copy(update={"usage": used, "output": worker.output(position), "testbed": testbed})

    def _make(self, worker: Worker, trial: Trial) -> None:
        """Make anew what differs from what the last trial had: testbed, marketplace, and what a request needs."""
        for change in ("testbed", "marketplace", "request"):
            levels = tuple(levels_for(trial.cell, self._prepared.factors, change).values())
            if change != "request" and self._made.get(change) == levels:
                continue
            if change == "testbed":
                self._made.clear()
                self._open(worker, trial)
            if self._experiment.setups[change]:
                self._set_up(worker, trial, change)
            self._made[change] = levels
            if change == "testbed":
                self._made.pop("marketplace", None)

    def _open(self, worker: Worker, trial: Trial) -> None:
        profile, path = self._profile(trial)
        self._say(f"the testbed {profile.name} comes up" if self._experiment.needs != "nothing" else "begins")
        clock = time.monotonic()
        worker.end()  # nothing of an earlier testbed is kept
        self._place = self._venue.open(profile, path)
        self._forecast.testbeds.append(time.monotonic() - clock)
        if not self._prepared.choices.quick or not any((self._run.folder / PROOFS).iterdir()):
            self._say("its networks are measured and proved")
            proofs.keep(self._run.folder / PROOFS, profile, path.stem, self._place)

    def _set_up(self, worker: Worker, trial: Trial, change: Change) -> None:
        order = {"do": "setup", "change": change, "trial": trial.as_dict(), "bed": dict(self._place)}
        try:
            worker.do(order, within=self._bound)
        except DynamosError as error:
            error.where = error.where or f"setup of the {change}"
            raise

    def _profile(self, trial: Trial) -> tuple[Profile, Path]:
        profile = self._prepared.profile(trial.cell)
        return profile, venues.keep_profile(self._run.folder / PROFILES, profile)

    def _keep(self, record: Record) -> None:
        self._run.keep(record)
        self._left = [trial for trial in self._left if trial.number != record.number]
        self._forecast.saw(record)
        self._say(record=record)

    def _say(self, note: str = "", record: Record | None = None) -> None:
        total = len(self._run.plan.trials)
        groups = [self._group(trial) for trial in self._left]
        openings = sum(1 for before, after in zip([None, *groups], groups, strict=False) if before != after)
        left = self._forecast.seconds(self._left, max(openings - 1, 0))
        self._told(Progress(total - len(self._left), total, left, record, note))

    def _group(self, trial: Trial) -> tuple[Any, ...]:
        return tuple(levels_for(trial.cell, self._prepared.factors, "testbed").values())

    def _worker(self, log: str) -> Worker:
        return Worker(self._run.script, self._run.folder / LOGS / log)


def estimate(prepared: Prepared) -> float:
    """Give how many seconds a plan will take, by what its script says is typical."""
    forecast = Forecast(float(Duration.parse(prepared.experiment.typical)))
    trials = list(prepared.plan.trials)
    groups = [tuple(levels_for(trial.cell, prepared.factors, "testbed").values()) for trial in trials]
    openings = sum(1 for before, after in zip([None, *groups], groups, strict=False) if before != after)
    return forecast.seconds(trials, openings if prepared.experiment.needs != "nothing" else 0)


def _without(
    trial: Trial, status: Status, error: DynamosError, *, began: datetime | None = None, seconds: float = 0.0
) -> Record:
    """Give the record of a trial that told nothing itself."""
    return Record(
        number=trial.number,
        repetition=trial.repetition,
        cell=dict(trial.cell),
        warmup=trial.warmup,
        baseline=trial.baseline,
        status=status,
        error=error.as_dict(),
        began=began or datetime.now(UTC),
        seconds=seconds,
    )
