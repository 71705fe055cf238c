"""The streams that a party expects from others, and the gate that lets just those in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from dynamos.exchange.streams import Arrival, Sink
from dynamos.kit.clocks import Clock
from dynamos.kit.errors import NotFound, Refused
from dynamos.middleware.identity import grants

PATIENCE_SECONDS = 10.0


class Inbox:
    """Hands each expected stream its sink, once. A stream that comes before its part has started waits a little.

    `expect` and `forget` are called from the event loop, `admit` from the receiver's threads.
    """

    def __init__(self, party: str, orchestrator: Path, clock: Clock, *, patience: float = PATIENCE_SECONDS) -> None:
        self._party = party
        self._orchestrator = orchestrator
        self._clock = clock
        self._patience = patience
        self._expected: dict[tuple[str, str], Sink] = {}
        self._taken: set[tuple[str, str]] = set()
        self._changed = threading.Condition()

    def expect(self, job: str, sinks: dict[str, Sink]) -> None:
        """Let the streams of `job` with these edge names in, each into its sink."""
        with self._changed:
            self._expected.update({(job, edge): sink for edge, sink in sinks.items()})
            self._changed.notify_all()

    def forget(self, job: str) -> list[Sink]:
        """Let no more streams of `job` in, and give the sinks that nobody took."""
        with self._changed:
            left = [key for key in self._expected if key[0] == job]
            self._taken = {key for key in self._taken if key[0] != job}
            return [self._expected.pop(key) for key in left]

    def admit(self, arrival: Arrival) -> Sink:
        """Give the sink of a stream whose sender holds a grant for it. Raises Refused or NotFound."""
        grant = grants.verify(arrival.grant, self._orchestrator, party=arrival.peer, clock=self._clock)
        edge = next((edge for edge in grant.part.outgoing if edge.name == arrival.edge), None)
        if grant.job != arrival.job or edge is None or edge.target_party.lower() != self._party.lower():
            raise Refused(
                f"the grant of {arrival.peer} does not cover stream {arrival.edge!r} of job {arrival.job!r}",
                code="grant-for-another",
            )
        return self._take((arrival.job, arrival.edge), self._until())

    def _until(self) -> float:
        return time.monotonic() + self._patience

    def _take(self, key: tuple[str, str], end: float) -> Sink:
        with self._changed:
            ready: Callable[[], bool] = lambda: key in self._expected or key in self._taken  # noqa: E731
            self._changed.wait_for(ready, timeout=max(0.0, end - time.monotonic()))
            if key in self._taken:
                raise Refused(f"stream {key[1]!r} of job {key[0]!r} was taken already", code="stream-replayed")
            if key not in self._expected:
                raise NotFound(f"party {self._party} does not run job {key[0]!r}", where=key[1])
            self._taken.add(key)
            return self._expected.pop(key)
