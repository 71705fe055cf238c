"""Plans: the chain of services, as one graph over all parties that take part."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dynamos.model.services import Label
from dynamos.model.values import Name, Value

REQUESTOR = "@requestor"
"""The pseudo party that results go to."""
Compression = Literal["none", "lz4", "zstd"]
"""How the batches of a stream are compressed on their way between two parties."""


class Step(Value):
    """One service process of the job. `id` is unique in its part; `provider` is whose rows it works on, if just
    one's."""

    id: str
    party: Name
    service: Name
    label: Label
    provider: Name | None = None
    options: dict[str, str] = Field(default_factory=dict)


class Edge(Value):
    """One Arrow stream. `name` is unique in the job; `target_party` is REQUESTOR for a result."""

    name: str
    source_party: Name
    source: str
    target_party: str
    target: str = ""

    @property
    def crosses(self) -> bool:
        """Whether the stream leaves its party."""
        return self.source_party != self.target_party


class Part(Value):
    """The piece of a job that runs at one party: its steps, and every edge that begins or ends there."""

    job: str
    party: Name
    role: str
    archetype: Name
    steps: tuple[Step, ...]
    edges: tuple[Edge, ...]

    @property
    def inner(self) -> tuple[Edge, ...]:
        """Streams between two steps of this part."""
        return tuple(edge for edge in self.edges if not edge.crosses)

    @property
    def incoming(self) -> tuple[Edge, ...]:
        """Streams that arrive from other parties."""
        return tuple(edge for edge in self.edges if edge.crosses and edge.target_party == self.party)

    @property
    def outgoing(self) -> tuple[Edge, ...]:
        """Streams that leave to other parties or to the requestor."""
        return tuple(edge for edge in self.edges if edge.crosses and edge.source_party == self.party)


class Plan(Value):
    """Decision + archetype + placement: who runs which steps, and which streams join them.

    `archetypes` and `compute` give the chosen archetype and the party that computes, per provider. `compression` says
    how streams are compressed on their way, by edge: "lz4" or "zstd".
    """

    job: str
    archetypes: dict[Name, Name]
    compute: dict[Name, Name]
    steps: tuple[Step, ...]
    edges: tuple[Edge, ...]
    notes: tuple[str, ...] = ()
    compression: dict[str, Compression] = Field(default_factory=dict)

    @property
    def parties(self) -> tuple[Name, ...]:
        """Every party that runs a step, in the order of the chain."""
        return tuple(dict.fromkeys(step.party for step in self.steps))

    def part(self, party: str) -> Part:
        """Give the piece that runs at `party`."""
        steps = tuple(step for step in self.steps if step.party == party)
        edges = tuple(edge for edge in self.edges if party in (edge.source_party, edge.target_party))
        labels = {step.label for step in steps}
        role = "all" if len(labels) > 1 else next(iter(labels), "")
        own = [self.archetypes[p] for p in self.archetypes if party in (p, self.compute[p])]
        return Part(job=self.job, party=party, role=role, archetype=own[0], steps=steps, edges=edges)

    @property
    def results(self) -> tuple[Edge, ...]:
        """Streams that end at the requestor, one result each."""
        return tuple(edge for edge in self.edges if edge.target_party == REQUESTOR)
