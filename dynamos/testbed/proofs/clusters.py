"""Isolation on a cluster: who reaches whom, expected by what the policies of parties are for, against tries.

Whoever has a pod is a spot, and knocks at every target: pods of the own party and of others, the cluster's own servers,
its nodes, and addresses that clouds and the internet have. An outsider, in a namespace without policies, knocks too: it
shows that a target answers, so that silence means that a policy holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dynamos.kit.errors import Broken
from dynamos.testbed.proofs import programs
from dynamos.testbed.proofs.matrices import Cell, Matrix
from dynamos.testbed.proofs.policies import Expectation, Flow
from dynamos.testbed.proofs.programs import Runs, together

Kind = Literal["agent", "job", "api", "orchestrator", "bus", "leaf", "outsider"]
TargetKind = Literal[
    "agent", "hail", "job", "api", "gateway", "orchestrator", "bus", "routes", "hub", "leaf",
    "dns", "api-server", "kubelet", "node", "world",
]  # fmt: skip
"""`hail` is where an agent hears its jobs; `routes` and `hub` are where the bus takes its own servers, and leaves."""

PATIENCE = 1.5
"""Seconds until a try counts as not through; whoever should get through is waited for longer."""
_LATER = 4
_SPARE_SECONDS = 60.0
_NOBODY = 9
"""A port that nobody is to serve (RFC 863): the kernel of a host that gets a knock there refuses it."""
_DNS = "2a2a01000001000000000000076578616d706c650000010001"
"""A question for the address of `example`."""
HAIL = b"0 0\n".hex()
"""A datagram that whoever listens as `inside.listen` does answers."""
OF_THE_CLUSTER = ("dns", "api-server", "kubelet", "node", "world")
_OF_AGENTS = {
    "bus": "an agent works by the bus, or its site's leaf of it",
    "leaf": "an agent works by the bus, or its site's leaf of it",
    "gateway": "results go to the gateway",
    "api-server": "an agent makes pods and policies in its own namespace",
}


@dataclass(frozen=True, slots=True)
class Spot:
    """A pod that knocks. `party` is whose it is, if anybody's."""

    name: str
    kind: Kind
    party: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What is knocked at. Where it is not `served` nobody listens, and a kernel that is reached says so. `spot` is the
    pod that has it, if one does: that one reaches itself."""

    name: str
    kind: TargetKind
    address: str
    port: int = _NOBODY
    party: str = ""
    protocol: Literal["tcp", "udp"] = "tcp"
    served: bool = True
    spot: str = ""


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a cluster's network is meant to be at a moment. `ways` are those that are open between parties, from the one
    that sends to the one that takes."""

    spots: tuple[Spot, ...]
    targets: tuple[Target, ...]
    ways: frozenset[tuple[str, str]] = frozenset()


def expectations(occasion: Occasion) -> tuple[tuple[Spot, Target, Expectation], ...]:
    """Give every try, of each spot at each target but itself, with what policy says of it."""
    return tuple(
        (spot, target, Expectation(_flow(spot, target), *verdict(spot, target, occasion.ways)))
        for spot in occasion.spots
        for target in occasion.targets
        if spot.name not in (target.name, target.spot)
    )


def verdict(spot: Spot, target: Target, ways: frozenset[tuple[str, str]]) -> tuple[bool, str]:
    """Tell whether a spot may reach a target, and why."""
    if spot.kind == "outsider":
        if target.kind in OF_THE_CLUSTER:
            return True, "no policy is in its way: it shows that there is an answer"
        return False, f"{target.name} takes nothing from strangers"
    if spot.kind == "job":
        return _job(spot, target)
    if target.kind == "dns":
        return True, "all but jobs need the dns"
    if spot.kind == "agent":
        return _agent(spot, target, ways)
    return _server(spot, target)


def _job(spot: Spot, target: Target) -> tuple[bool, str]:
    if target.kind == "hail" and target.party == spot.party:
        return True, "a job's pod says to its own agent that it is up"
    return False, "a job's pod has no way out but its hail to its own agent, a datagram"


def _server(spot: Spot, target: Target) -> tuple[bool, str]:
    match spot.kind, target.kind:
        case "bus", "routes":
            return True, "servers of the bus take each other"
        case "bus", _:
            return False, "a server of the bus speaks with the others only"
        case "leaf", "hub":
            return True, "a leaf speaks for its parties at the hub"
        case "leaf", _:
            return False, "a leaf speaks with the hub only"
        case _, "bus":
            return True, f"the {spot.kind} works by the bus"
    return False, f"the {spot.kind} speaks with the bus only"


def _agent(spot: Spot, target: Target, ways: frozenset[tuple[str, str]]) -> tuple[bool, str]:
    if target.kind in _OF_AGENTS:
        return True, _OF_AGENTS[target.kind]
    match target.kind:
        case "job" if target.party == spot.party:
            return True, "it is a pod of its own party's jobs"
        case "agent" if (spot.party, target.party) in ways:
            return True, "a job has opened the way"
        case "agent":
            return False, f"no job has opened {spot.party}>{target.party}"
    return False, f"nothing of an agent is at {target.name}"


def isolation(
    occasion: Occasion, hosts: Mapping[str, Runs], *, phase: str = "now", patience: float = PATIENCE
) -> Matrix:
    """Try everything, all spots at once, and give what happened. `hosts` are the pods of the spots by name."""
    expected = expectations(occasion)
    answers = _knock(expected, hosts, patience)
    late = [each for each in expected if each[2].allowed and not _through(each[1], answers[each[2].flow])]
    answers |= _knock(late, hosts, _LATER * patience)
    return Matrix(tuple(_cell(phase, target, each, answers[each.flow]) for _, target, each in expected))


def _knock(
    tries: Sequence[tuple[Spot, Target, Expectation]], hosts: Mapping[str, Runs], patience: float
) -> dict[Flow, str]:
    by_spot: dict[str, list[tuple[Target, Flow]]] = {}
    for spot, target, each in tries:
        by_spot.setdefault(spot.name, []).append((target, each.flow))

    def knock(name: str) -> list[tuple[Flow, str]]:
        spec = {"patience": patience, "knocks": [_spec(target) for target, _ in by_spot[name]]}
        told = programs.answers(hosts[name], "knock", spec, within=patience + _SPARE_SECONDS)
        if len(told) != len(by_spot[name]):
            raise Broken(f"knock told of {len(told)} tries, not {len(by_spot[name])}", where=name)
        return list(zip((flow for _, flow in by_spot[name]), told, strict=True))

    return {flow: answer for found in together(knock, by_spot) for flow, answer in found}


def _spec(target: Target) -> dict[str, object]:
    raw = "" if target.protocol == "tcp" else HAIL if target.kind == "hail" else _DNS
    return {"address": target.address, "protocol": target.protocol, "port": target.port, "token": "0", "raw": raw}


def _cell(phase: str, target: Target, each: Expectation, answer: str) -> Cell:
    return Cell(
        phase=phase,
        source=each.flow.source,
        target=each.flow.target,
        address=each.flow.address,
        protocol=each.flow.protocol,
        port=each.flow.port,
        expected=each.allowed,
        observed=_through(target, answer),
        why=each.why,
        evidence=answer,
    )


def _through(target: Target, answer: str) -> bool:
    # Where somebody listens, it was a filter that refused; else it was the kernel of whoever has the address.
    return bool(answer) and not (answer == "refused" and target.served)


def _flow(spot: Spot, target: Target) -> Flow:
    return Flow(spot.name, target.name, target.address, target.protocol, target.port)
