"""The gateway: lets in the results of jobs that this API submitted, each once, from the party that was granted it."""

from __future__ import annotations

from pathlib import Path

from dynamos.exchange.streams import Arrival, Sink
from dynamos.kit.clocks import Clock
from dynamos.kit.errors import Refused
from dynamos.middleware.api.results import Results
from dynamos.middleware.identity import grants
from dynamos.model.plans import REQUESTOR


class Gateway:
    """`admit` is what the receiver of the exchange asks, in its threads, for every stream that arrives."""

    def __init__(self, results: Results, orchestrator: Path, clock: Clock) -> None:
        self._results = results
        self._orchestrator = orchestrator
        self._clock = clock

    def admit(self, arrival: Arrival) -> Sink:
        """Give the sink of a result. Raises Unauthenticated for a grant that does not hold, Refused for a stream that
        it does not cover or that came before, NotFound for a job that nobody here waits for."""
        grant = grants.verify(arrival.grant, self._orchestrator, party=arrival.peer, clock=self._clock)
        edge = next((edge for edge in grant.part.outgoing if edge.name == arrival.edge), None)
        if grant.job != arrival.job or edge is None or edge.target_party != REQUESTOR:
            raise Refused(
                f"the grant of {arrival.peer} does not cover result {arrival.edge!r} of job {arrival.job!r}",
                code="grant-for-another",
            )
        return self._results.admit(arrival.job, arrival.edge, grant.party)
