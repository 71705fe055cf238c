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

    The API: `api` a request, and `answer`, by bytes, to hand it out. The orchestrator: `admit` a request, `decide` each
    provider's decision, `grant` each part that it starts, `report` each that ends. Both: `heard` each renewal of a
    presence, by how many parties there are. The bus: `message` each message, `write` each write to the knowledge base
    or a log.

    A party: `start` until the first service of a part runs (nothing waits for it); by rows, `query` all that is
    done to one provider's at the data, `gather` what is done to them there when they go to a third party, `beside`
    what that does to them while they come, `algorithm` what it does to all of them once they are there. `width` is
    the bytes of a row that moves. `crowd` is by how much more a part takes for each other one of its job, where all
    parties are on one machine.
    """

    api: float
    admit: float
    decide: float
    grant: float
    report: float
    heard: Line
    message: float
    write: float
    start: float
    query: Line
    gather: Line
    beside: Line
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
    api=0.0, admit=0.0, decide=0.0, grant=0.0, report=0.0, heard=Line(0.0), message=0.0, write=0.0, start=0.0,
    query=Line(1.0), gather=Line(1.0), beside=Line(0.0), algorithm=Line(0.0), answer=Line(0.0), width=0.0,
)  # fmt: skip
"""Nothing but one second of work for each provider: what textbooks have."""

MEASURED = Costs(
    api=2.0e-3, admit=5.5e-3, decide=0.2e-3, grant=0.6e-3, report=0.6e-3, heard=Line(75e-6), message=60e-6,
    write=115e-6, start=8e-3, query=Line(0.043, 0.29e-6), gather=Line(0.030, 0.24e-6), beside=Line(0.030, 0.24e-6),
    algorithm=Line(0.004, 2e-9), answer=Line(0.019, 3.7e-9),
)  # fmt: skip
"""What two cores of a virtual machine took: processor time of the bus's server for a message and a write, and of an
orchestrator for a renewal (59 to 75 us with 10 to 10,000 parties there, in the best batches; half of it again beside
other work: `python -m tests.bench.renewals`), each measured apart; the others as the recording of `bench` tells. What
a third party does to rows while they come is taken to be as much as what is done to them where they come from.
Calibrate for other machines."""

BUS_CORES = 2
"""On how many cores the bus's server works."""


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
