"""NetworkPolicies: everything is shut, and each way that is needed is opened by name.

Ways between the agents of two parties are opened by the agents themselves, for the life of a job's part (see
`middleware.network.cluster`): there is none here.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from dynamos.deploy.kubernetes.labels import DNS, NAMESPACE, ROLE, SYSTEM, labels, made
from dynamos.deploy.kubernetes.plans import Manifest, Plan
from dynamos.jobs.pods.hails import HAIL_PORT
from dynamos.jobs.pods.settings import PORT as COURIER_PORT
from dynamos.testbed.wanted import PORTS

ROUTES = 6222
"""Where the servers of the bus take each other."""
DNS_PORTS = (53, 5353)
"""Policies see the port of the name server's pod; the second is that of OpenShift."""
_ALL: dict[str, Any] = {}


def control(plan: Plan) -> list[Manifest]:
    """Give the policies of the namespace of the control plane."""
    bus, leaf, api, orchestrator = ({ROLE: role} for role in ("bus", "leaf", "api", "orchestrator"))
    clients = [_pods(orchestrator), _pods(api), _pods({ROLE: "knowledge"}), _agents(plan)]
    found = [
        *_shut(plan, plan.control),
        _dns(plan, plan.control, [ROLE]),
        _policy(plan, plan.control, "bus", bus,
                ingress=[_way(clients, PORTS["bus"]), _way([_pods(bus)], ROUTES), _way([_pods(leaf)], PORTS["leaf"])],
                egress=[_way([_pods(bus)], ROUTES)]),
        _policy(plan, plan.control, "orchestrator", orchestrator, egress=[_way([_pods(bus)], PORTS["bus"])]),
        _policy(plan, plan.control, "knowledge", {ROLE: "knowledge"}, egress=[_way([_pods(bus)], PORTS["bus"])]),
        _policy(plan, plan.control, "api", api,
                ingress=[*_clients(plan), _way([_agents(plan)], PORTS["exchange"])],
                egress=[_way([_pods(bus)], PORTS["bus"])]),
    ]  # fmt: skip
    if plan.leaves:
        ways = [_way([_agents(plan)], PORTS["bus"])]
        found.append(
            _policy(plan, plan.control, "leaf", leaf, ingress=ways, egress=[_way([_pods(bus)], PORTS["leaf"])])
        )
    return found


def party(plan: Plan, name: str) -> list[Manifest]:
    """Give the policies of a party's namespace. A pod of a job has one way in, from its agent, and one way out: there
    it says that it is up."""
    where, agent, job = plan.namespace_of(name), {ROLE: "agent"}, {ROLE: "job"}
    to_courier, hail = _way([_pods(agent)], COURIER_PORT), _way([_pods(agent)], HAIL_PORT, "UDP")
    hubs = [_pods({ROLE: role}, where=plan.control) for role in ("bus", "leaf")]
    ways = [
        _way(hubs, PORTS["bus"]),
        _way([_pods({ROLE: "api"}, where=plan.control)], PORTS["exchange"]),
        _way([_pods(job)], COURIER_PORT),
        *(_way([_block(address)], port) for address, port in plan.api_servers),
    ]
    return [
        *_shut(plan, where, name),
        _dns(plan, where, ["agent"], name),
        _policy(plan, where, "agent", agent, name, ingress=[_way([_pods(job)], HAIL_PORT, "UDP")], egress=ways),
        _policy(plan, where, "job", job, name, ingress=[to_courier], egress=[hail]),
    ]


def _shut(plan: Plan, where: str, party: str = "") -> Iterable[Manifest]:
    yield _made(plan, where, "nothing-else", party, {"podSelector": _ALL, "policyTypes": ["Ingress", "Egress"]})


def _dns(plan: Plan, where: str, roles: list[str], party: str = "") -> Manifest:
    """Let our own pods find names; those of jobs have nobody to find."""
    selected: dict[str, Any] = {"matchLabels": {ROLE: roles[0]}}
    if roles == [ROLE]:
        selected = {"matchExpressions": [{"key": ROLE, "operator": "Exists"}]}
    servers = {"namespaceSelector": {"matchLabels": {NAMESPACE: SYSTEM}}, "podSelector": {"matchLabels": DNS}}
    ports = [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP") for port in DNS_PORTS]
    spec = {"podSelector": selected, "policyTypes": ["Egress"], "egress": [{"to": [servers], "ports": ports}]}
    return _made(plan, where, "names", party, spec)


def _policy(
    plan: Plan, where: str, name: str, selected: dict[str, str], party: str = "",
    *, ingress: Iterable[dict[str, Any]] = (), egress: Iterable[dict[str, Any]] = (),
) -> Manifest:  # fmt: skip
    spec: dict[str, Any] = {"podSelector": {"matchLabels": selected}, "policyTypes": ["Ingress", "Egress"]}
    spec["ingress"] = [{"from": way["peers"], "ports": way["ports"]} for way in ingress]
    spec["egress"] = [{"to": way["peers"], "ports": way["ports"]} for way in egress]
    return _made(plan, where, name, party, spec)


def _made(plan: Plan, where: str, name: str, party: str, spec: dict[str, Any]) -> Manifest:
    label = labels(plan.control, party=party)
    return made("networking.k8s.io/v1", "NetworkPolicy", name, where, label=label, spec=spec)


def _way(peers: list[dict[str, Any]], port: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"peers": peers, "ports": [{"protocol": protocol, "port": port}]}


def _pods(selected: dict[str, str], where: str = "") -> dict[str, Any]:
    """Give pods of the same namespace, or of the one that is said."""
    found: dict[str, Any] = {"podSelector": {"matchLabels": selected}}
    return {"namespaceSelector": {"matchLabels": {NAMESPACE: where}}, **found} if where else found


def _agents(plan: Plan) -> dict[str, Any]:
    """Give the agents of the parties. Their namespaces are named: anybody may label one like ours."""
    parties = {"matchExpressions": [{"key": NAMESPACE, "operator": "In", "values": sorted(plan.parties.values())}]}
    return {"namespaceSelector": parties, "podSelector": {"matchLabels": {ROLE: "agent"}}}


def _clients(plan: Plan) -> list[dict[str, Any]]:
    """Give who may speak to the API: the controller that has its TLS. A port that is forwarded needs no way."""
    ingress = plan.profile.cluster.ingress
    if ingress is None:
        return []
    return [_way([{"namespaceSelector": {"matchLabels": {NAMESPACE: ingress.namespace}}}], PORTS["api"])]


def _block(address: str) -> dict[str, Any]:
    whole = ip_address(address).max_prefixlen
    return {"ipBlock": {"cidr": f"{address}/{whole}"}}
