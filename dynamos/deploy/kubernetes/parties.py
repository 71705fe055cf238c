"""Namespaces with what surrounds pods in them: who may run there, as whom, and how much."""

from __future__ import annotations

from typing import Any

from dynamos.deploy.kubernetes.labels import labels, made
from dynamos.deploy.kubernetes.plans import Manifest, Plan

AGENT = "agent"
PSEUDONYMS = "pseudonyms"
"""The Secret with the key that a party's pseudonyms are made with. Its agent makes it, and nobody else has it."""
PRIORITIES = {"control": 100_000, "agents": 50_000}
"""What stays when nodes are short of room: jobs have none."""
_STANDARD = "restricted"
_CHUNKS = 4


def namespace(plan: Plan, name: str, party: str = "") -> Manifest:
    """Give a namespace that takes no pod with more rights than it needs."""
    levels = {f"pod-security.kubernetes.io/{mode}": _STANDARD for mode in ("enforce", "audit", "warn")}
    return made("v1", "Namespace", name, label={**labels(plan.control, party=party), **levels})


def priorities(plan: Plan) -> list[Manifest]:
    """Give the classes of what is more important than a job."""
    description = "What a testbed of DYNAMOS consists of goes before its jobs."
    return [
        made("scheduling.k8s.io/v1", "PriorityClass", priority(plan, name), label=labels(plan.control),
             value=value, description=description)
        for name, value in PRIORITIES.items()
    ]  # fmt: skip


def priority(plan: Plan, name: str) -> str:
    return f"{plan.control}-{name}"


def account(plan: Plan, party: str) -> list[Manifest]:
    """Give an agent's account and what it may do, in its own namespace alone. Pods of jobs have no account."""
    where = plan.namespace_of(party)
    label = labels(plan.control, party=party)
    subject = {"kind": "ServiceAccount", "name": AGENT, "namespace": where}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": AGENT}
    return [
        made("v1", "ServiceAccount", AGENT, where, label=label, automountServiceAccountToken=False),
        made("rbac.authorization.k8s.io/v1", "Role", AGENT, where, label=label, rules=RULES),
        made(
            "rbac.authorization.k8s.io/v1", "RoleBinding", AGENT, where, label=label, subjects=[subject], roleRef=role
        ),
    ]


RULES: list[dict[str, Any]] = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "list", "watch", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
    {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [PSEUDONYMS], "verbs": ["get"]},
    {"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": ["create", "delete", "list"]},
]


def quota(plan: Plan, party: str) -> Manifest:
    """Give how much a party's pods may have together. None of its services is reached from outside the cluster."""
    told = plan.profile.cluster.quota
    hard = {"pods": str(told.pods or enough_pods(plan)), "services.nodeports": "0", "services.loadbalancers": "0"}
    if told.memory is not None:
        hard |= {"requests.memory": str(int(told.memory)), "limits.memory": str(int(told.memory))}
    if told.cores is not None:
        hard["requests.cpu"] = f"{told.cores:g}"
    where = plan.namespace_of(party)
    return made("v1", "ResourceQuota", "party", where, label=labels(plan.control, party=party), spec={"hard": hard})


def fewest_pods(plan: Plan) -> int:
    """Give how many pods a party needs to do anything: its agents, one that takes the place of another, and a job."""
    return plan.profile.cluster.agents + 2


def enough_pods(plan: Plan) -> int:
    """Give how many pods suffice for a party that works as much as its settings allow."""
    cluster, settings = plan.profile.cluster, plan.profile.settings
    return fewest_pods(plan) + 2 * settings.concurrent_jobs + _CHUNKS * max(1, cluster.warm_pods)


def service_account(plan: Plan, name: str) -> Manifest:
    """Give an account of the control plane, which may do nothing: it is there to be told apart."""
    return made("v1", "ServiceAccount", name, plan.control, label=labels(plan.control),
                automountServiceAccountToken=False)  # fmt: skip
