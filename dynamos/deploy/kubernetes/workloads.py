"""Workloads: the orchestrator, the API and the agents, which are replaced without a request that is lost."""

from __future__ import annotations

from typing import Any

from dynamos.deploy.kubernetes.labels import labels, made
from dynamos.deploy.kubernetes.parties import AGENT
from dynamos.deploy.kubernetes.plans import CONFIG, DATA, DRAIN, GIVEN, Manifest, Plan, object_name
from dynamos.deploy.kubernetes.pods import (
    GRACE,
    LEAVE,
    Seat,
    Share,
    digest_of,
    folders,
    given,
    mount,
    probes,
    python,
    selector,
    template,
    token,
)
from dynamos.knowledge.permissions import API, ORCHESTRATOR
from dynamos.testbed.wanted import PORTS

UNIT = "dynamos.deploy.kubernetes.unit"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SHARES = {
    "orchestrator": Share("50m", "128Mi", "1Gi"),
    "api": Share("50m", "128Mi", "1Gi"),
    "agent": Share("50m", "192Mi", "1Gi"),
}
_TOLERATED = 15
"""Seconds that a node may be away before its pods are started elsewhere."""
assert DRAIN + LEAVE < GRACE


def orchestrator(plan: Plan) -> list[Manifest]:
    """Give the orchestrators, which share one queue."""
    seat = Seat(plan.control, "orchestrator", account=ORCHESTRATOR, site=plan.profile.control_site)
    return _deployment(plan, seat, ORCHESTRATOR, plan.profile.cluster.orchestrators)


def api(plan: Plan) -> list[Manifest]:
    """Give the API. There is one: it holds the results until they are fetched."""
    seat = Seat(plan.control, "api", account=API, site=plan.profile.control_site)
    disk = str(int(plan.profile.settings.result_disk + 2**30))
    # New requests still come here while the cluster's nodes learn that they are to go to its successor.
    leave: dict[str, Any] = {"lifecycle": {"preStop": {"sleep": {"seconds": LEAVE}}}}
    ports = [{"name": "http", "containerPort": PORTS["api"]}]
    return _deployment(plan, seat, API, 1, disk=disk, ports=ports, **leave)


def agent(plan: Plan, party: str, data: dict[str, Any] | None) -> list[Manifest]:
    """Give the agents of a party. `data` is the volume with its data, where it has any."""
    where, site = plan.namespace_of(party), plan.profile.site_of(party)
    seat = Seat(where, AGENT, party, AGENT, site)
    mounts = [mount("account", ACCOUNT, read_only=True)]
    volumes = [token()]
    if data:
        mounts.append(mount("data", str(DATA), read_only=True))
        volumes.append({"name": "data", **data})
    ports = [{"name": "exchange", "containerPort": PORTS["exchange"]}]
    return _deployment(plan, seat, party, plan.profile.cluster.agents, mounts=mounts, volumes=volumes, ports=ports)


def budget(plan: Plan, seat: Seat, name: str, replicas: int) -> list[Manifest]:
    """Give how many of the replicas may be away while nodes are emptied; of one alone that cannot be said."""
    if replicas < 2:  # noqa: PLR2004
        return []
    label = labels(plan.control, role=seat.role, party=seat.party)
    spec = {"maxUnavailable": 1, "selector": selector(plan, seat)}
    return [made("policy/v1", "PodDisruptionBudget", name, seat.namespace, label=label, spec=spec)]


def _deployment(
    plan: Plan, seat: Seat, unit: str, replicas: int, *, disk: str = "1Gi", volumes: list[Any] | None = None,
    **members: Any,
) -> list[Manifest]:  # fmt: skip
    words = (seat.role, str(GIVEN / CONFIG))
    ours = python(seat.role, plan, _SHARES[seat.role], UNIT, *words, **probes(), **members)
    pod = template(
        plan, seat, [ours], [given(plan, unit), *folders(disk), *(volumes or [])], digest=digest_of(plan, unit)
    )
    pod["spec"]["tolerations"] = [
        {
            "key": f"node.kubernetes.io/{what}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": _TOLERATED,
        }
        for what in ("not-ready", "unreachable")
    ]
    if replicas > 1:
        spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
        pod["spec"]["topologySpreadConstraints"] = [{**spread, "labelSelector": selector(plan, seat)}]
    name = AGENT if seat.party else object_name(unit)
    spec = {
        "replicas": replicas,
        "progressDeadlineSeconds": 120,
        "revisionHistoryLimit": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": selector(plan, seat),
        "template": pod,
    }
    label = labels(plan.control, role=seat.role, party=seat.party)
    found = made("apps/v1", "Deployment", name, seat.namespace, label=label, spec=spec)
    return [found, *budget(plan, seat, name, replicas)]
