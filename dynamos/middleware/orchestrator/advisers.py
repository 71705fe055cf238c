"""Advisers: who picks among the options that policy leaves, and learns what came of it. The seam to adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from dynamos.middleware.views import Work
from dynamos.model.jobs import Job
from dynamos.model.plans import Compression, Plan
from dynamos.model.requests import Request
from dynamos.planning.planners import Pick, Question, Weights


class Advice(Protocol):
    """A planner for one deliberation. It answers within a bound and with something that is permitted, whatever happens
    to what it asks; `notes` tell then why it is something else."""

    @property
    def name(self) -> str: ...

    @property
    def notes(self) -> tuple[str, ...]: ...

    def pick(self, question: Question) -> Pick: ...

    def compression(self, plan: Plan) -> Mapping[str, Compression]:
        """Give how streams between parties are compressed, by edge; those that are not are left out."""
        ...


class Adviser(Protocol):
    """Advises the orchestrator. Everything but `works` returns at once and raises nothing."""

    @property
    def works(self) -> Sequence[Work]:
        """Endless tasks that keep the adviser current."""
        ...

    def planner(self, request: Request, job: str) -> Advice:
        """Give who picks in one deliberation over a request, for this job; "check" for none."""
        ...

    def planned(self, job: Job) -> None:
        """Hear that a job has got the plan that it has now: when it is submitted, and when it is planned again."""
        ...

    def outdated(self, job: Job) -> bool:
        """Tell whether a job that has waited should be planned again before it starts, since things have changed."""
        ...

    def ended(self, job: Job) -> None:
        """Hear how a job ended, with the reports of its parts."""
        ...

    async def close(self) -> None:
        """Write down what is still to be written, within some seconds."""
        ...


class ByWeights:
    """Advice of who learns nothing: the lightest archetype that is permitted."""

    name = Weights.name
    notes: tuple[str, ...] = ()
    works: Sequence[Work] = ()

    def planner(self, request: Request, job: str) -> ByWeights:  # noqa: ARG002  it is the same for all
        return self

    def pick(self, question: Question) -> Pick:
        return Weights().pick(question)

    def compression(self, plan: Plan) -> Mapping[str, Compression]:  # noqa: ARG002
        return {}

    def planned(self, job: Job) -> None: ...

    def outdated(self, job: Job) -> bool:  # noqa: ARG002
        return False

    def ended(self, job: Job) -> None: ...

    async def close(self) -> None: ...
