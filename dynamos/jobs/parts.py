"""A part at work: its steps' reports, its outcome, its pipes. What runs the steps is handed in."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Self

from dynamos.jobs import verdicts, wires
from dynamos.jobs.runners import Assignment, Outcome
from dynamos.jobs.specs import StepReport, incoming, outgoing
from dynamos.kit.errors import Broken, DynamosError, Full, NotFound
from dynamos.model.plans import Step

logger = logging.getLogger(__name__)

_F_SETPIPE_SZ = 1031
_PIPE_BYTES = 1 << 20
_MOST_STREAMS = 240  # what one message can carry, less some for its own use


class PartAtWork:
    """Collects the reports of the steps, ends the others when one fails, and gives the outcome."""

    def __init__(
        self, assignment: Assignment, steps: Mapping[int, Step], *, began: float, kill: Callable[[int], object]
    ) -> None:
        self._assignment = assignment
        self._steps = dict(steps)
        self._began = began
        self._kill = kill
        self._reports: dict[int, StepReport] = {}
        self._error: DynamosError | None = None
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    async def wait(self) -> Outcome:
        """Wait until every step has ended."""
        return await asyncio.shield(self._outcome)

    async def kill(self, error: DynamosError) -> None:
        """End every step now; the outcome has `error` unless a step had failed before."""
        self.end(error)

    def end(self, error: DynamosError) -> None:
        """End every step that has not ended."""
        if self._outcome.done():
            return
        if not any(verdicts.failed(report) for report in self._reports.values()):
            self._error = self._error or error
        self._end_others()

    def when_done(self, act: Callable[[], object]) -> None:
        """Call `act` once the outcome is known."""
        self._outcome.add_done_callback(lambda _: act())

    def told(self, number: int, report: StepReport) -> None:
        """Take the report of one step."""
        if self._outcome.done() or number in self._reports:
            return  # left behind before
        step = self._steps[number]
        self._reports[number] = report
        level = logging.WARNING if verdicts.failed(report) and report.why != "killed" else logging.INFO
        logger.log(level, "step.ended", extra={"step": step.id, "party": step.party, "why": report.why,
                   "exit": verdicts.exit_code(report), "log": report.log})  # fmt: skip
        if len(self._reports) == len(self._steps):
            self._settle()
        elif verdicts.failed(report):
            self._end_others()

    def lost(self, error: DynamosError) -> None:
        """Give up the steps that have not been reported: what ran them is gone."""
        if not self._outcome.done():
            self._error = self._error or error
            self._settle()

    def _end_others(self) -> None:
        for number in self._steps.keys() - self._reports.keys():
            self._kill(number)

    def _settle(self) -> None:
        error = self._error
        if error is None:
            failures = [(self._steps[n], report) for n, report in self._reports.items() if verdicts.failed(report)]
            if (cause := verdicts.root_cause(failures)) is not None:
                step, report = cause
                error = verdicts.judge(step, report, self._assignment.services[step.service].limits)
        usages = [verdicts.usage(self._steps[n], r, began=self._began) for n, r in sorted(self._reports.items())]
        self._outcome.set_result(Outcome(tuple(usages), error))


class Streams:
    """The descriptors of a part by step: those handed in, and a pipe for every edge inside. Leaving closes them all."""

    def __init__(self, assignment: Assignment, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> None:
        self._assignment = assignment
        self._reading, self._writing = dict(inputs), dict(outputs)
        self._all = [*inputs.values(), *outputs.values()]

    def __enter__(self) -> Self:
        try:
            self.check()
            for edge in self._assignment.part.inner:
                reading, writing = os.pipe()
                self._all += (reading, writing)
                with suppress(OSError):  # more than the user may have in pipes: the usual size does
                    fcntl.fcntl(writing, _F_SETPIPE_SZ, _PIPE_BYTES)
                self._reading[edge.name], self._writing[edge.name] = reading, writing
        except BaseException:
            wires.close_all(self._all)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        wires.close_all(self._all)

    def of(self, step: Step) -> list[int]:
        """Give the descriptors of `step`, inputs first, in the order of its edges."""
        reading = [self._reading[edge.name] for edge in incoming(self._assignment, step)]
        return [*reading, *(self._writing[edge.name] for edge in outgoing(self._assignment, step))]

    def check(self) -> None:
        """Raises NotFound, Full or Broken for what cannot be started."""
        part, services = self._assignment.part, self._assignment.services
        for step in part.steps:
            where = f"{step.party}/{step.id}"
            if step.service not in services:
                raise NotFound(f"service {step.service!r} is not known here", where=where)
            if len(incoming(self._assignment, step)) + len(outgoing(self._assignment, step)) > _MOST_STREAMS:
                raise Full(
                    f"a step can have no more than {_MOST_STREAMS} streams", where=where, hint="ask fewer parties"
                )
        missing = [e.name for e in part.incoming if e.name not in self._reading]
        missing += [e.name for e in part.outgoing if e.name not in self._writing]
        if missing:
            raise Broken(f"no descriptor for {', '.join(missing)}", where=part.party)
