"""The performer: a process that loads a script and runs its functions as it is told, one after the other.

It reads one JSON message a line and answers each with one on a descriptor of its own, so that what a script prints
is only printed. It ends with whoever started it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dynamos.deploy import profiles
from dynamos.deploy.states import StateFolder, explain
from dynamos.experiments import answers, descendants
from dynamos.experiments.answers import Answer
from dynamos.experiments.beds import Bed, Skipped
from dynamos.experiments.designs import Trial
from dynamos.experiments.measures import Reading, readings
from dynamos.experiments.records import DISK_FULL, Record, Request, Stage, Status
from dynamos.experiments.scripts import Experiment, levels_for, load
from dynamos.kit.errors import BadInput, Broken, DynamosError, Full, JobFailed

TOKEN = "DYNAMOS_TOKEN"  # noqa: S105  the name of a variable
_LEAVE_SECONDS = 2.0


def main() -> None:
    """Serve on standard input until it ends; the descriptor for answers is the second argument."""
    script, answers_to = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us decides what Ctrl-C means
    descendants.guarded()
    faulthandler.enable()  # where a crash of what is not Python was, goes to the log
    with os.fdopen(answers_to, "w", encoding="utf-8") as told:
        try:
            performer = Performer(load(script))
            answer: dict[str, Any] = {"ready": True}
        except DynamosError as error:
            print(json.dumps({"error": error.as_dict()}), file=told, flush=True)
            return
        print(json.dumps(answer), file=told, flush=True)
        for line in sys.stdin:
            print(json.dumps(performer.do(json.loads(line))), file=told, flush=True)


class Performer:
    """Runs the functions of one experiment."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def do(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Do a trial or a setup, and give the record or nothing; what went wrong is in the answer."""
        trial, place = Trial.of(order["trial"]), order["bed"]
        try:
            with tempfile.TemporaryDirectory(
                prefix=f"{trial.name}-", dir=place.get("scratch"), ignore_cleanup_errors=True
            ) as scratch:
                if order["do"] == "trial":
                    return {"record": self._trial(trial, place, Path(scratch)).model_dump(mode="json", by_alias=True)}
                levels = levels_for(trial.cell, self._experiment.factors, order["change"])
                bed = bed_of(place, Path(scratch))
                for work in self._experiment.setups[order["change"]]:
                    work(bed, **levels)
        except Exception as error:  # noqa: BLE001  the user's own code
            return {"error": told_of(error, self._experiment.script).as_dict()}
        return {}

    def _trial(self, trial: Trial, place: Mapping[str, Any], scratch: Path) -> Record:
        before = descendants.of(os.getpid())
        began, clock = datetime.now(UTC), time.perf_counter()
        status, error, found, bed = Status.DONE, None, dict[str, Reading](), None
        try:
            bed = bed_of(place, scratch)
            told = self._performed(bed, trial)
            seconds = time.perf_counter() - clock
            found = readings(self._experiment.measures, told)
        except Skipped as skipped:
            seconds = time.perf_counter() - clock
            status, error = Status.SKIPPED, {"code": "skipped", "message": str(skipped)}
        except Exception as failure:  # noqa: BLE001  the user's own code
            seconds = time.perf_counter() - clock
            status, error = Status.FAILED, told_of(failure, self._experiment.script).as_dict()
        left = descendants.end_new(before, within=_LEAVE_SECONDS)
        if left and status is Status.DONE:
            names, hint = ", ".join(left), "wait for what a trial starts, or end it"
            status, error = Status.FAILED, JobFailed(f"it left processes behind: {names}", hint=hint).as_dict()
        asked = list(bed.answers) if bed else []
        stages = [stage for number, answer in enumerate(asked) if bed for stage in _traced(bed, number, answer)]
        return Record(
            number=trial.number,
            repetition=trial.repetition,
            cell=dict(trial.cell),
            warmup=trial.warmup,
            baseline=trial.baseline,
            status=status,
            measures=found,
            samples=bed.samples if bed else {},
            requests=tuple(_told(number, answer) for number, answer in enumerate(asked)),
            stages=tuple(stages),
            jobs=tuple(str(answer.job["id"]) for answer in asked if answer.job.get("id")),
            happened=tuple(bed.happened) if bed else (),
            error=error,
            began=began,
            seconds=seconds,
        )

    def _performed(self, bed: Bed, trial: Trial) -> Mapping[str, Any]:
        assert self._experiment.body is not None
        levels = {factor.name: trial.cell.get(factor.name) for factor in self._experiment.factors}
        told = self._experiment.body(bed, **levels)
        if told is not None and not isinstance(told, Mapping):
            hint = 'return {"total": 1.5}, by the names of the measures'
            raise BadInput(f"the trial gave {type(told).__name__}, no measures", hint=hint)
        return told or {}


def bed_of(place: Mapping[str, Any], scratch: Path) -> Bed:
    """Give the bed that a venue has told of."""
    profile = profiles.load(Path(place["profile"]))
    if place.get("state") and place.get("api", True):
        return Bed.attach(profile, StateFolder(Path(place["state"])), scratch)
    world = Path(place["world"]) if place.get("world") else None
    journals = Path(place["journals"]) if place.get("journals") else None
    token, api = os.environ.get(TOKEN, ""), str(place.get("api") or "")
    return Bed(profile, scratch=scratch, api=api, token=lambda _: token, world=world, journals=journals)


def told_of(error: BaseException, script: Path) -> DynamosError:
    """Give an error of the script as one of ours, with the line of the script that it came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(script)]
    where = f"{script.name}:{lines[-1]}" if lines else script.name
    if isinstance(error, DynamosError):
        error.where = error.where or where
        return error
    if isinstance(error, OSError) and isinstance(full := explain(error, script), Full):
        return Full(full.message, where=full.where, hint=full.hint, code=DISK_FULL, kind=Full.code)
    return Broken(f"{type(error).__name__}: {error}", where=where, code="trial-raised")


def _told(number: int, answer: Answer) -> Request:
    """Give what is kept of one request."""
    return Request(
        number=number,
        job=str(answer.job.get("id") or ""),
        error=answer.error.as_dict()["code"] if answer.error else None,
        revision=str((answer.job.get("decision") or {}).get("revision", "")),
        results=len(answer.results),
        rows=answer.rows,
        bytes=sum(result.bytes for result in answer.results),
        rows_digest=answer.digest,
        job_seconds=answer.job_seconds,
        first_batch=answer.first_batch,
        seconds=answer.seconds,
    )


def _traced(bed: Bed, number: int, answer: Answer) -> list[Stage]:
    """Give the stages of one request; none where there is no trace of it."""
    if not answer.job.get("id"):
        return []
    try:
        spans = answers.trace(partial(bed.api, str(answer.job.get("user", ""))), answer.job)
    except DynamosError:
        return []
    return [
        Stage(
            request=number,
            name=span.name,
            unit=span.unit,
            start=span.start / 1e9 - answer.began,
            seconds=(span.end - span.start) / 1e9,
            depth=span.depth,
        )
        for span in spans
    ]


if __name__ == "__main__":
    main()
