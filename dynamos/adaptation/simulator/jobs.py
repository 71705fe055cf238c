"""Jobs of a simulation: a request under way."""

from __future__ import annotations

from dataclasses import dataclass, field

from dynamos.adaptation.simulator.traces import Ask
from dynamos.planning.planners import Pick

NOTHING = Pick({}, {})


@dataclass(slots=True, eq=False)
class Job:
    """One request. `owed` is how many reports are still to come; moments are in simulated seconds."""

    ask: Ask
    pick: Pick = NOTHING
    parties: tuple[str, ...] = ()
    """Who takes part, providers first."""
    queued: float = 0.0
    started: float = 0.0
    owed: int = 0
    failed: bool = False
    missing: dict[int, int] = field(default_factory=dict)
    """Of each party that computes for others, by number: how many providers' rows are still to come."""
    ready: dict[int, float] = field(default_factory=dict)
    """Until when each of these works on rows while they come."""
    cpu: float = 0.0
    """Seconds of work, at all parties."""
    moved: float = 0.0
    """Bytes between parties."""
    way: float = 0.0
    """Seconds that the slowest stream between parties took."""

    def take(self, pick: Pick) -> None:
        """Have this pick."""
        self.pick = pick
        self.parties = tuple(dict.fromkeys((*pick.compute, *pick.compute.values())))
