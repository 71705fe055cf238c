"""Manifests: all of a plan's objects, in the groups and the order in which they are made. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dynamos.deploy.kubernetes import buses, gateways, guards, parties, pods, policies, volumes, workloads
from dynamos.deploy.kubernetes.plans import Manifest, Plan, placed
from dynamos.knowledge.permissions import ADMIN, API, BUS, ORCHESTRATOR


@dataclass(frozen=True, slots=True)
class Group:
    """Objects that belong together: `name` tells what they are, `party` whose. Those that are `private` are keys and
    data, which are nobody else's to see."""

    name: str
    public: tuple[Manifest, ...] = ()
    private: tuple[Manifest, ...] = ()
    party: str = ""


@dataclass(frozen=True, slots=True)
class Objects:
    """All objects of a plan, group by group."""

    control: Group
    parties: tuple[Group, ...]
    bus: Group
    leaves: tuple[Group, ...]
    orchestrator: Group
    data: tuple[Group, ...]
    agents: tuple[Group, ...]
    api: Group
    gateway: Group

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups in the order in which they are made."""
        return (
            self.control, *self.parties, self.bus, *self.leaves, self.orchestrator, *self.data, *self.agents, self.api,
            self.gateway,
        )  # fmt: skip

    @property
    def public(self) -> list[Manifest]:
        """What may lie in a repository."""
        return [each for group in self.groups for each in group.public]

    @property
    def private(self) -> list[Manifest]:
        """Keys and data."""
        return [each for group in self.groups for each in group.private]


def objects(plan: Plan) -> Objects:
    """Give all objects of a plan."""
    seats = {unit.name: pods.Seat(where, unit.role, unit.name if unit.role == "agent" else "")
             for where, unit in placed(plan.profile, plan.marketplace)}  # fmt: skip
    seats[ADMIN] = pods.Seat(plan.control, "knowledge")
    secrets = {name: pods.secret(plan, seat, name) for name, seat in seats.items()}
    data = {party: volumes.data_volume(plan, party) for party in plan.parties}
    leaves = [name for name, seat in seats.items() if seat.role == "leaf"]
    sites = dict(zip(leaves, plan.leaves, strict=True))
    return Objects(
        control=_control(plan),
        parties=tuple(_party(plan, party) for party in plan.parties),
        bus=Group("bus", (*buses.hub(plan), buses.knowledge(plan)), (secrets[BUS], secrets[ADMIN])),
        leaves=tuple(Group(leaf, tuple(buses.leaf(plan, sites[leaf])), (secrets[leaf],)) for leaf in leaves),
        orchestrator=Group("orchestrator", tuple(workloads.orchestrator(plan)), (secrets[ORCHESTRATOR],)),
        data=tuple(Group("data", each.public, each.private, party) for party, each in data.items() if each),
        agents=tuple(
            Group("agent", tuple(workloads.agent(plan, party, each.volume if each else None)), (secrets[party],), party)
            for party, each in data.items()
        ),
        api=Group("api", tuple(workloads.api(plan)), (secrets[API],)),
        gateway=Group("gateway", tuple(gateways.gateway(plan))),
    )


def _control(plan: Plan) -> Group:
    accounts = [parties.service_account(plan, name) for name in (ORCHESTRATOR, API)]
    found = [parties.namespace(plan, plan.control), *parties.priorities(plan), *accounts, *policies.control(plan)]
    found += guards.guards(plan)
    return Group("control", tuple(found))


def _party(plan: Plan, party: str) -> Group:
    where = parties.namespace(plan, plan.namespace_of(party), party)
    found = [where, parties.quota(plan, party), *parties.account(plan, party), *policies.party(plan, party)]
    found += guards.guards(plan, party)
    return Group("party", tuple(found), (), party)
