"""Lanes: make what a trial needs, as far as it is not there from the trial before, and then the trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynamos.deploy.states import StateFolder
from dynamos.experiments import proofs, usage, venues
from dynamos.experiments.choices import Prepared
from dynamos.experiments.designs import Trial, shown
from dynamos.experiments.factors import CHANGES, Change
from dynamos.experiments.records import DISK_FULL, Record, Status
from dynamos.experiments.runs import PROFILES, PROOFS, Run
from dynamos.experiments.scripts import levels_for
from dynamos.experiments.venues import Venue
from dynamos.experiments.workers import Worker
from dynamos.kit.errors import Conflict, DynamosError, Full, Unavailable, revive
from dynamos.model.units import Duration

DEATHS = 3
"""So many testbeds in a row may end under a trial; then the machine is at fault and the sweep stops."""


class Lane:
    """Makes trials one after the other, with one worker, on what a venue gives."""

    def __init__(
        self,
        run: Run,
        prepared: Prepared,
        venue: Venue,
        worker: Worker,
        *,
        said: Callable[[str], None],
        opened: Callable[[float], None],
    ) -> None:
        self._run = run
        self._prepared = prepared
        self._experiment = prepared.experiment
        self._venue = venue
        self.worker = worker
        self._said = said
        self._opened = opened
        self._bound = float(Duration.parse(self._experiment.bound))
        self._warms = self._experiment.warmups > 0 and self._experiment.parallel == 1
        self._made: dict[Change, tuple[Any, ...]] = {}
        self._barred: dict[tuple[Any, ...], tuple[Status, DynamosError]] = {}
        self._place: Mapping[str, Any] = {}
        self._cold = True
        self._deaths = 0

    def one(self, trial: Trial) -> Record:
        """Make one trial, and give what became of it.

        What could not be made once is not tried again for the trials that follow and need it too. On a testbed that is
        new a trial which is no warm-up itself comes after one that nobody keeps. Raises Full where this machine has
        no room left, Conflict where the testbed is somebody else's, Unavailable where testbeds end again and again.
        """
        if (bar := self._bar(trial)) or (bar := self._make(trial)):
            return without(trial, *bar)
        if self._cold and self._warms and not trial.warmup:
            self._said("warms up")
            self._perform(replace(trial, warmup=True, baseline=False))
            if bar := self._make(trial):  # what it broke
                return without(trial, *bar)
        self._cold = False
        return self._survived(self._perform(trial))

    def _bar(self, trial: Trial) -> tuple[Status, DynamosError] | None:
        """Give why a trial is not tried, where that is so: what it needs could not be made for one before it."""
        bars = (self._barred.get(self._key(trial, change)) for change in ("testbed", "marketplace"))
        return next((bar for bar in bars if bar), None)

    def _key(self, trial: Trial, change: Change) -> tuple[Any, ...]:
        return (change, trial.repetition, *levels_for(trial.cell, self._prepared.factors, change).values())

    def _make(self, trial: Trial) -> tuple[Status, DynamosError] | None:
        """Make anew what differs from what the last trial had: testbed, marketplace, and what each request needs. Give
        why that cannot be, where it cannot."""
        for change in CHANGES:
            levels = tuple(levels_for(trial.cell, self._prepared.factors, change).values())
            if change != "request" and self._made.get(change) == levels:
                continue
            dearer = CHANGES[: CHANGES.index(change)]
            self._made = {each: made for each, made in self._made.items() if each in dearer}
            try:
                if change == "testbed":
                    self._open(trial)
                if self._experiment.setups[change]:
                    self._set_up(trial, change)
            except DynamosError as error:
                if isinstance(error, Full | Conflict) and not self._place:
                    raise  # the next testbed would meet the same
                bar = Status.SKIPPED if isinstance(error, Unavailable) else Status.FAILED, error
                self._barred[self._key(trial, change)] = bar
                self._check()
                return bar
            self._made[change] = levels
        return None

    def _open(self, trial: Trial) -> None:
        profile = self._prepared.profile(trial.cell)
        path = venues.keep_profile(self._run.folder / PROFILES, profile)
        if self._experiment.needs != "nothing":
            self._said(f"the testbed {profile.name} comes up")
        clock = time.monotonic()
        self.worker.end()  # nothing of an earlier testbed is kept
        self._place = {}
        self._place = {**self._venue.open(profile, path), "scratch": str(self._run.scratch)}
        self._opened(time.monotonic() - clock)
        self._cold = True
        if not self._prepared.choices.quick or not any((self._run.folder / PROOFS).iterdir()):
            if profile.driver == "namespaces" and self._experiment.needs != "nothing":
                self._said("its networks are measured and proved")
            proofs.keep(self._run.folder / PROOFS, profile, path.stem, self._place)

    def _set_up(self, trial: Trial, change: Change) -> None:
        order = {"do": "setup", "change": change, "trial": trial.as_dict(), "bed": self._place}
        try:
            self.worker.do(order, within=self._bound)
        except DynamosError as error:
            error.where = error.where or f"setup of the {change}"
            raise

    def _perform(self, trial: Trial) -> Record:
        began, clock, position = datetime.now(UTC), time.monotonic(), self.worker.position()
        place = self._place
        state = StateFolder(Path(place["state"])) if place.get("state") else None
        before = usage.read(state) if state else {}
        order = {"do": "trial", "trial": trial.as_dict(), "bed": place}
        try:
            record = Record.model_validate(self.worker.do(order, within=self._bound)["record"])
        except DynamosError as error:
            seconds = time.monotonic() - clock
            record = without(trial, Status.FAILED, error, began=began, seconds=seconds)
            self._check()
        if (told := record.error or {}).get("code") == DISK_FULL:
            raise revive(told)
        used = usage.between(before, usage.read(state)) if state else ()
        testbed = Path(place["profile"]).stem if place.get("profile") else ""
        return record.model_copy(update={"usage": used, "output": self.worker.output(position), "testbed": testbed})

    def _check(self) -> None:
        """Forget what was made where it is not what it was: a worker that had to be ended may have left anything."""
        if not self.worker.runs:
            self._made = {}

    def _survived(self, record: Record) -> Record:
        """Tell of a trial that failed whether its testbed had ended; then the next one gets another."""
        if record.status is not Status.FAILED or self._venue.alive():
            self._deaths = 0
            return record
        self._made = {}
        self._deaths += 1
        told = dict(record.error or {})
        if self._deaths >= DEATHS:
            raise Unavailable(
                f"{DEATHS} testbeds in a row ended under a trial", where=shown(record.cell), hint="dynamos doctor",
                last=told.get("message", ""),
            )  # fmt: skip
        told |= {"code": "testbed-died", "message": f"the testbed ended during the trial: {told.get('message', '')}"}
        return record.model_copy(update={"error": told})


def without(
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
