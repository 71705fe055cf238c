"""Guards: what a cluster's own network can say that NetworkPolicies cannot. Pure.

NetworkPolicies only permit, and an agent may make some in its own namespace, which is how it opens ways. So whoever has
taken an agent over could open more there. Cilium and Calico know denials that no permission lifts: a pod of a job has
no way out but for its hail, and nobody reaches the address where clouds hand out credentials, or a kubelet.

Cilium moreover takes the API server and nodes for what they are and not for their addresses, so that the way of an
agent to the API server has to be said in its words.
"""

from __future__ import annotations

from typing import Any

from dynamos.deploy.kubernetes.labels import ROLE, labels, made
from dynamos.deploy.kubernetes.plans import Manifest, Plan
from dynamos.jobs.pods.hails import HAIL_PORT

METADATA = ("169.254.169.254/32", "fd00:ec2::254/128")
KUBELET = 10250
_LAST = 65535
KINDS = {"cilium": ("cilium.io", "ciliumnetworkpolicies"), "calico": ("projectcalico.org", "networkpolicies")}
"""What each network calls its own policies: the group and the resource."""
_FIRST = 10
"""The order of what Calico looks at before NetworkPolicies, which have 1000."""


def guards(plan: Plan, party: str = "") -> list[Manifest]:
    """Give the guards of a party's namespace, or of the control plane's, for the network of the plan's cluster."""
    kind = plan.profile.cluster.policies
    makers = {"cilium": _cilium, "calico": _calico}
    return makers[kind](plan, party) if kind in makers else []


def _cilium(plan: Plan, party: str) -> list[Manifest]:
    denied = [
        {"toCIDR": list(METADATA)},
        {"toEntities": ["host", "remote-node"], "toPorts": [_ports(KUBELET)]},
    ]
    found = [_cilium_policy(plan, party, "guard", {}, egressDeny=denied)]
    if not party:
        return found
    ports = sorted({port for _, port in plan.api_servers}) or [443, 6443]
    to_api = {"toEntities": ["kube-apiserver"], "toPorts": [_ports(*ports)]}
    return [
        *found,
        _cilium_policy(plan, party, "guard-jobs", {ROLE: "job"}, egressDeny=_cilium_jobs()),
        _cilium_policy(plan, party, "api-server", {ROLE: "agent"}, egress=[to_api]),
    ]


def _cilium_jobs() -> list[dict[str, Any]]:
    """Deny everything but a hail inside the cluster. Ranges of ports need Cilium 1.16."""
    ranges = [("TCP", 1, _LAST), ("SCTP", 1, _LAST), ("UDP", 1, HAIL_PORT - 1), ("UDP", HAIL_PORT + 1, _LAST)]
    ports = [{"port": str(first), "endPort": last, "protocol": protocol} for protocol, first, last in ranges]
    outside = ["world", "host", "remote-node", "kube-apiserver"]
    return [{"toEntities": outside}, {"toEntities": ["all"], "toPorts": [{"ports": ports}]}]


def _cilium_policy(plan: Plan, party: str, name: str, selected: dict[str, str], **rules: Any) -> Manifest:
    chosen = {"matchLabels": selected} if selected else {}
    where = plan.namespace_of(party) if party else plan.control
    label = labels(plan.control, party=party)
    return made(
        "cilium.io/v2", "CiliumNetworkPolicy", name, where, label=label, spec={"endpointSelector": chosen, **rules}
    )


def _ports(*ports: int) -> dict[str, Any]:
    return {"ports": [{"port": str(port), "protocol": "TCP"} for port in ports]}


def _calico(plan: Plan, party: str) -> list[Manifest]:
    nets = {4: METADATA[:1], 6: METADATA[1:]}
    denied: list[dict[str, Any]] = [
        {"action": "Deny", "ipVersion": version, "destination": {"nets": list(each)}} for version, each in nets.items()
    ]
    denied.append({"action": "Deny", "protocol": "TCP", "destination": {"ports": [KUBELET]}})
    found = [_calico_policy(plan, party, "guard", "all()", denied)]
    if party:
        ways: list[dict[str, Any]] = [
            {"action": "Deny", "notProtocol": "UDP"},
            {"action": "Deny", "protocol": "UDP", "destination": {"notPorts": [HAIL_PORT]}},
            {"action": "Deny", "protocol": "UDP", "destination": {"notSelector": f"{ROLE} == 'agent'"}},
        ]
        found.append(_calico_policy(plan, party, "guard-jobs", f"{ROLE} == 'job'", ways))
    return found


def _calico_policy(plan: Plan, party: str, name: str, selected: str, egress: list[dict[str, Any]]) -> Manifest:
    where = plan.namespace_of(party) if party else plan.control
    # What no rule of it denies goes on to the NetworkPolicies, which have the last word.
    spec = {"order": _FIRST, "selector": selected, "types": ["Egress"], "egress": egress}
    label = labels(plan.control, party=party)
    return made("projectcalico.org/v3", "NetworkPolicy", name, where, label=label, spec=spec)
