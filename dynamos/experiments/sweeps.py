"""Sweeps: walk a plan's trials, one after the other or, where they cannot disturb each other, in several lanes, and
keep what each gave."""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dynamos.deploy.states import explained
from dynamos.experiments import environments
from dynamos.experiments.choices import Prepared
from dynamos.experiments.designs import Trial
from dynamos.experiments.forecasts import Forecast
from dynamos.experiments.lanes import Lane
from dynamos.experiments.records import Record
from dynamos.experiments.runs import LOGS, Run
from dynamos.experiments.venues import Venue
from dynamos.experiments.workers import Worker


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep is. `record` is what has just ended, `note` what goes on instead."""

    done: int
    total: int
    left_seconds: float
    record: Record | None = None
    note: str = ""


Told = Callable[[Progress], None]


class Sweep:
    """Goes over the trials of a run that have no record yet."""

    def __init__(self, run: Run, prepared: Prepared, venue: Venue, told: Told = lambda _: None) -> None:
        self._run = run
        self._prepared = prepared
        self._venue = venue
        self._told = told
        self._forecast = Forecast(prepared)
        self._left: deque[Trial] = deque()
        self._done = 0
        self._guard = threading.RLock()
        self._stopped = False

    def go(self) -> None:
        """Make every trial that is left, and take down what was made for them, also when interrupted.

        Raises Mistakes where records are damaged, Conflict where somebody is at this run, Full where records cannot be
        kept, Unavailable where testbeds end again and again. What has a record stays, and another sweep goes on.
        """
        with self._run.held(), self._folders():
            for record in self._run.records():
                self._forecast.saw(record)
            self._left.extend(self._run.left())
            self._forecast.expect(self._left)
            self._done = len(self._run.plan.trials) - len(self._left)
            lanes = [self._lane(number) for number in range(self._prepared.experiment.parallel)]
            try:
                with environments.session(self._run, self._prepared, venue=self._venue.name, told=self._say):
                    self._walk(lanes)
            finally:
                for lane in lanes:
                    lane.worker.end()
                self._venue.close()

    @contextmanager
    def _folders(self) -> Iterator[None]:
        """Have an empty folder for trials to work in, and one for their journals, which may be there from before."""
        scratch, journals = self._run.scratch, self._run.journals
        shutil.rmtree(scratch, ignore_errors=True)
        with explained(scratch):
            scratch.mkdir()
            journals.mkdir(exist_ok=True)
        try:
            yield
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            with suppress(OSError):  # there is something left to mend
                journals.rmdir()

    def _walk(self, lanes: Sequence[Lane]) -> None:
        if len(lanes) == 1:
            self._follow(lanes[0])
            return
        with ThreadPoolExecutor(len(lanes)) as pool:
            try:
                for done in as_completed([pool.submit(self._follow, lane) for lane in lanes]):
                    done.result()
            except BaseException:
                self._stopped = True
                for lane in lanes:
                    lane.worker.stop()
                raise

    def _follow(self, lane: Lane) -> None:
        """Make trials in a lane as long as there are some."""
        while trial := self._next():
            record = lane.one(trial)
            with self._guard:
                if self._stopped:
                    return  # what a worker told that was stopped is nothing
                self._run.keep(record)
                self._done += 1
                self._forecast.ended(record)
                self._say(record=record)

    def _next(self) -> Trial | None:
        with self._guard:
            return None if self._stopped or not self._left else self._left.popleft()

    def _say(self, note: str = "", record: Record | None = None) -> None:
        with self._guard:
            total = len(self._run.plan.trials)
            self._told(Progress(self._done, total, self._forecast.seconds, record, note))

    def _lane(self, number: int) -> Lane:
        name = f"worker-{number + 1}.log" if self._prepared.experiment.parallel > 1 else "worker.log"
        worker = Worker(self._run.script, self._run.folder / LOGS / name)
        return Lane(self._run, self._prepared, self._venue, worker, said=self._say, opened=self._forecast.opened)
