"""Outcomes: what a simulation found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dynamos.adaptation.simulator.tallies import Tally

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(slots=True)
class Counts:
    """What became of requests, and how much the control plane had to do."""

    arrived: int = 0
    completed: int = 0
    refused: int = 0
    busy: int = 0
    failed: int = 0
    decisions: int = 0
    messages: int = 0
    writes: int = 0
    heartbeats: int = 0
    moved: float = 0.0

    @property
    def ended(self) -> int:
        return self.completed + self.refused + self.busy + self.failed


@dataclass(slots=True)
class Outcome:
    """One simulated run. Times in seconds; `regret` is by how much longer a sampled request was going to take than with
    the best pick in hindsight; a party's utilisation is the share of its time that it worked."""

    planner: str
    seed: int
    counts: Counts
    seconds: float
    """Simulated, until the last request had ended."""
    events: int
    latency: Tally = field(default_factory=Tally)
    queued: Tally = field(default_factory=Tally)
    """How long requests waited for a place among the jobs that run at once."""
    regret: Tally = field(default_factory=Tally)
    control: Mapping[str, float] = field(default_factory=dict)
    """The share of their time that the API, the orchestrator and the bus had work for: above 1 they cannot keep up."""
    parties: Mapping[str, float] = field(default_factory=dict)
    picks: Mapping[str, int] = field(default_factory=dict)
    switches: int = 0
    """How often a pick was another than the last one for the same providers."""
    oscillations: int = 0
    """How often it went back within seconds to the one that it had left."""

    def rate(self, count: float) -> float:
        """Give a count by the second."""
        return count / self.seconds if self.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Give it JSON-ready, of the parties the busiest."""
        counts, busiest = self.counts, sorted(self.parties.items(), key=lambda each: (-each[1], each[0]))
        return {
            "planner": self.planner,
            "seed": self.seed,
            "seconds": self.seconds,
            "events": self.events,
            "requests": {name: getattr(counts, name) for name in ("arrived", "completed", "refused", "busy", "failed")},
            "latency": _told(self.latency),
            "queued": _told(self.queued),
            "regret": _told(self.regret),
            "perSecond": {
                "requests": self.rate(counts.ended),
                "decisions": self.rate(counts.decisions),
                "messages": self.rate(counts.messages),
                "writes": self.rate(counts.writes),
                "heartbeats": self.rate(counts.heartbeats),
                "bytesMoved": self.rate(counts.moved),
            },
            "utilisation": {
                **self.control,
                "parties": sum(self.parties.values()) / len(self.parties) if self.parties else 0.0,
                "busiest": dict(busiest[:5]),
            },
            "picks": dict(self.picks),
            "switches": self.switches,
            "oscillations": self.oscillations,
        }


def _told(tally: Tally) -> dict[str, float]:
    return {
        "count": tally.count,
        "mean": tally.mean,
        **{name: tally.quantile(share) for name, share in SHARES.items()},
        "max": tally.largest,
    }
