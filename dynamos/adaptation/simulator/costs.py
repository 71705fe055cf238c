"""Costs: what everything takes in a simulated marketplace, in seconds and bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds that grow with an amount: `base` for nothing, `each` more for one more of it."""

    base: float
    each: float = 0.0

    def of(self, amount: float) -> float:
        return self.base + self.each * amount


@dataclass(frozen=True, slots=True)
class Costs:
    """What things cost. Seconds of work at the one place that does them, unless it is said otherwise.

    The API: `api` a request. The orchestrator: `admit` a request, `decide` each provider's decision, `grant` each part
    that it starts, `report` each that ends, `heard` each renewal of a presence. Bus: `message` each message,
    `write` each write to the knowledge base or a log. A party: `start` until the first service of a part runs (nothing
    waits for it), `query` the rows of one provider, `gather` as much for a third party, `algorithm` all rows of one
    part. The answer to the requestor: `answer`, by its bytes. `width` is the bytes of a row that moves. `crowd` is by
    how much more a part takes for each other one of its job, where all parties are on one machine.
    """

    api: float
    admit: float
    decide: float
    grant: float
    report: float
    heard: float
    message: float
    write: float
    start: float
    query: Line
    gather: Line
    algorithm: Line
    answer: Line
    width: float = 49.0
    crowd: float = 0.0

    def with_(self, **changes: Any) -> Self:
        """Give them with some changed."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


FREE = Costs(
    api=0.0, admit=0.0, decide=0.0, grant=0.0, report=0.0, heard=0.0, message=0.0, write=0.0, start=0.0,
    query=Line(1.0), gather=Line(1.0), algorithm=Line(0.0), answer=Line(0.0), width=0.0,
)  # fmt: skip
"""Nothing but one second of work for each provider: what textbooks have."""

MEASURED = Costs(
    api=1.6e-3, admit=2.0e-3, decide=0.2e-3, grant=1.0e-3, report=0.6e-3, heard=45e-6, message=12e-6, write=30e-6,
    start=8e-3, query=Line(0.030, 1.6e-6), gather=Line(0.030, 2.0e-6), algorithm=Line(0.010, 1.0e-6),
    answer=Line(0.005, 8e-9), width=49.0,
)  # fmt: skip
"""What two cores of a virtual machine took for the marketplace `bench`. Calibrate for others."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many messages and writes each step of a job makes: counted in the middleware's own code."""

    asked: int = 2
    """Messages of a request: from the API to the orchestrator, and the answer."""
    opened: int = 2
    """Writes before anything starts: the decision in the audit log, and the job's record."""
    granted: int = 2
    """Messages of each grant: to the agent, and the answer."""
    taken: int = 3
    """Writes of each part's agent: the grant as spent, its decision in the audit log, and its span."""
    told: int = 1
    """Messages of each event of a job: it runs, it has ended."""
    recorded: int = 1
    """Writes of each event of a job: its record."""
    reported: int = 2
    """Messages of each part's report, and the answer."""
    traced: int = 6
    """Writes of each part's spans once it has ended; a job has as many of its own."""


TRAFFIC = Traffic()
