"""Assembly: from chains and places to the steps and streams of a whole job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynamos.model.archetypes import Archetype
from dynamos.model.plans import REQUESTOR, Edge, Plan, Step
from dynamos.model.services import Service
from dynamos.planning.chains import Chain


@dataclass(slots=True)
class _Graph:
    """Steps and edges as they come."""

    steps: list[Step] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    def add(self, service: Service, party: str, identity: str, provider: str | None, sources: list[Step]) -> Step:
        """Add a step that reads from `sources`."""
        step = Step(id=identity, party=party, service=service.name, label=service.label, provider=provider)
        self.steps.append(step)
        self.edges.extend(_edge(source, party, identity) for source in sources)
        return step

    def end(self, last: Step) -> None:
        """Send what the last step gives to the requestor."""
        self.edges.append(_edge(last, REQUESTOR, last.provider or last.party))


def _edge(source: Step, party: str, step: str) -> Edge:
    name = f"{source.party}.{source.id}>{party}.{step}"
    return Edge(name=name, source_party=source.party, source=source.id, target_party=party, target=step)


def assemble(
    job: str,
    archetypes: Mapping[str, str],
    compute: Mapping[str, str],
    chains: Mapping[str, Chain],
    definitions: Mapping[str, Archetype],
    *,
    notes: tuple[str, ...] = (),
) -> Plan:
    """Build the plan in which each provider's chain runs under its archetype.

    What a provider's own part looks like depends only on its own chain and on the two maps, so that its agent can work
    it out alone. Services that unite rows do so for the providers that share a compute party and force the same
    services into the chain; the others run once per provider.
    """
    graph = _Graph()
    last: dict[str, Step] = {}
    for party, chain in chains.items():
        moves = definitions[archetypes[party]].moves_data
        sources: list[Step] = []
        for service in chain.data if moves else chain.services:
            sources = [graph.add(service, party, service.name, party, sources)]
        last[party] = sources[0]
    moving = [party for party in chains if definitions[archetypes[party]].moves_data]
    for party in moving:
        for service in chains[party].alone:
            identity = f"{service.name}@{party}"
            last[party] = graph.add(service, compute[party], identity, party, [last[party]])
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for party, chain in chains.items():
        if party in moving and chain.united:
            groups.setdefault((compute[party], _forced(chain)), []).append(party)
        else:
            graph.end(last[party])
    for (place, forced), members in groups.items():
        sources = [last[party] for party in members]
        provider = members[0] if len(members) == 1 else None
        for service in chains[members[0]].united:
            sources = [graph.add(service, place, "+".join((service.name, *forced)), provider, sources)]
        graph.end(sources[0])
    return Plan(
        job=job,
        archetypes=dict(archetypes),
        compute=dict(compute),
        steps=tuple(graph.steps),
        edges=tuple(graph.edges),
        notes=notes,
    )


def _forced(chain: Chain) -> tuple[str, ...]:
    """Give the computing services that a party forces: rows that need them are not mixed with rows that do not."""
    return tuple(service.name for service in chain.compute if service.name in chain.forced)
