"""The bus: servers of NATS with what they keep on volumes, leaves at sites, and the job that makes buckets and logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dynamos.deploy.kubernetes.labels import labels, made
from dynamos.deploy.kubernetes.plans import CONFIG, GIVEN, HOME, Manifest, Plan, object_name, short
from dynamos.deploy.kubernetes.pods import (
    Seat,
    Share,
    container,
    digest_of,
    folders,
    given,
    mount,
    probes,
    python,
    selector,
    template,
)
from dynamos.deploy.kubernetes.policies import ROUTES
from dynamos.deploy.kubernetes.workloads import budget
from dynamos.deploy.units import AUTHORITY, CERTIFICATE, KEY, hub_in, leaves_of, peers_in
from dynamos.kit.credentials import Credentials
from dynamos.knowledge import leaves, servers
from dynamos.knowledge.leaves import Leaf, remote_of, server_of
from dynamos.knowledge.permissions import ADMIN, BUS, rights
from dynamos.model.marketplaces import Marketplace
from dynamos.model.profiles import Profile
from dynamos.testbed.wanted import PORTS

PEERS = f"{BUS}-peers"
CONFIG_FILE = "bus.json"
MONITOR = 8222
EVERYWHERE = "0.0.0.0"  # noqa: S104  a pod's own network, behind its policies
STORE = HOME / "store"
_SHARE = Share("50m", "64Mi", "512Mi")
_TASK = Share("20m", "64Mi", "512Mi")
_FILES_SHARE = 0.8
"""How much of its volume a server may fill with what it keeps."""
KNOWLEDGE_SECONDS = 300


def hub_config(profile: Profile, marketplace: Marketplace) -> str:
    """Give the configuration of the hub's servers. Only the bus's own certificate makes one of several."""
    told = json.loads(
        servers.config(
            marketplace=marketplace.name,
            parties=tuple(marketplace.parties),
            credentials=_credentials(GIVEN),
            store=STORE,
            port=PORTS["bus"],
            host=EVERYWHERE,
            disk=int(profile.cluster.bus_volume * _FILES_SHARE),
            behind=[party for each in leaves_of(profile).values() for party in each],
            leaf_port=PORTS["leaf"],
        )
    )
    told |= {"http": f"{EVERYWHERE}:{MONITOR}"}
    if peers := peers_in(profile):
        tls = {"cert_file": str(GIVEN / CERTIFICATE), "key_file": str(GIVEN / KEY), "ca_file": str(GIVEN / AUTHORITY)}
        told["cluster"] = {
            "name": marketplace.name,
            "listen": f"{EVERYWHERE}:{ROUTES}",
            "routes": [f"tls://{peer}:{ROUTES}" for peer in peers],
            # Every unit has a certificate of the same authority: one counts here only if a route's name is in it.
            "tls": {**tls, "verify_cert_and_check_known_urls": True, "min_version": "1.3", "timeout": 5},
        }
    return json.dumps(told, indent=2)


def leaf_config(profile: Profile, marketplace: Marketplace, site: str) -> str:
    """Give the configuration of a site's leaf."""
    speaks_for = {party: _credentials(GIVEN / remote_of(party)) for party in leaves_of(profile)[site]}
    leaf = Leaf(site, EVERYWHERE, PORTS["bus"], _credentials(GIVEN), speaks_for)
    table = rights(marketplace.parties)
    told = json.loads(
        leaves.config(leaf, marketplace=marketplace.name, table=table, hub=f"{hub_in(profile)}:{PORTS['leaf']}")
    )
    return json.dumps({**told, "http": f"{EVERYWHERE}:{MONITOR}"}, indent=2)


def knowledge_config(profile: Profile, marketplace: Marketplace) -> str:
    """Give what the job that makes buckets and logs is told."""
    bus = f"tls://{hub_in(profile)}:{PORTS['bus']}"
    told = {"bus": bus, "parties": sorted(marketplace.parties), "replicas": profile.cluster.bus_replicas}
    return json.dumps(told, indent=2)


def hub(plan: Plan) -> list[Manifest]:
    """Give the servers of the hub and the names by which they are found."""
    seat = Seat(plan.control, "bus", site=plan.profile.control_site)
    replicas, label = plan.profile.cluster.bus_replicas, labels(plan.control, role="bus")
    ports = [_port("bus", PORTS["bus"]), *([_port("leaf", PORTS["leaf"])] if plan.leaves else [])]
    routes = [_port("routes", ROUTES)]
    chosen = selector(plan, seat)["matchLabels"]
    volume = {"name": "store", "labels": label}
    claim: dict[str, Any] = {"accessModes": ["ReadWriteOnce"]}
    claim["resources"] = {"requests": {"storage": str(int(plan.profile.cluster.bus_volume))}}
    if plan.profile.cluster.storage_class:
        claim["storageClassName"] = plan.profile.cluster.storage_class
    pod = template(
        plan, seat, [_server(plan, [mount("store", str(STORE))])], [given(plan, BUS)], digest=digest_of(plan, BUS)
    )
    spec = {
        "serviceName": PEERS,
        "replicas": replicas,
        "podManagementPolicy": "Parallel",
        "selector": selector(plan, seat),
        "template": _apart(pod, selector(plan, seat)) if replicas > 1 else pod,
        "volumeClaimTemplates": [{"metadata": volume, "spec": claim}],
    }
    services = [
        made("v1", "Service", BUS, plan.control, label=label, spec={"selector": chosen, "ports": ports}),
        made("v1", "Service", PEERS, plan.control, label=label,
             spec={"clusterIP": "None", "publishNotReadyAddresses": True, "selector": chosen, "ports": routes}),
    ]  # fmt: skip
    return [
        *services,
        made("apps/v1", "StatefulSet", BUS, plan.control, label=label, spec=spec),
        *budget(plan, seat, BUS, replicas),
    ]


def leaf(plan: Plan, site: str) -> list[Manifest]:
    """Give the server of a site, which keeps nothing."""
    unit = server_of(site)
    name = object_name(unit)
    seat = Seat(plan.control, "leaf", site=site, only={"dynamos.dev/leaf": site})
    pod = template(plan, seat, [_server(plan, [], ready="/healthz")], [given(plan, unit)], digest=digest_of(plan, unit))
    spec = {"replicas": 1, "selector": selector(plan, seat), "template": pod}
    label = labels(plan.control, role="leaf")
    ports = [_port("bus", PORTS["bus"])]
    service = {"selector": selector(plan, seat)["matchLabels"], "ports": ports}
    return [
        made("v1", "Service", name, plan.control, label=label, spec=service),
        made("apps/v1", "Deployment", name, plan.control, label=label, spec=spec),
    ]


def knowledge(plan: Plan) -> Manifest:
    """Give the job that makes the buckets and logs. It is another one whenever what it makes is another."""
    seat = Seat(plan.control, "knowledge", site=plan.profile.control_site)
    ours = python("knowledge", plan, _TASK, "dynamos.deploy.kubernetes.knowledge", str(GIVEN / CONFIG))
    pod = template(plan, seat, [ours], [given(plan, ADMIN), *folders()], digest=digest_of(plan, ADMIN), again="Never")
    spec = {"backoffLimit": 4, "activeDeadlineSeconds": KNOWLEDGE_SECONDS, "template": pod}
    label = labels(plan.control, role="knowledge")
    return made("batch/v1", "Job", f"knowledge-{short(spec)}", plan.control, label=label, spec=spec)


def _server(plan: Plan, mounts: list[dict[str, Any]], ready: str = "/healthz?js-server-only=true") -> dict[str, Any]:
    env = [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    words = ["--config", str(GIVEN / CONFIG_FILE), "--name", "$(POD_NAME)"]
    asked = probes(MONITOR, live="/healthz?js-enabled-only=true", ready=ready)
    return container(
        "bus",
        plan.images.bus,
        _SHARE,
        [mount("given", str(GIVEN), read_only=True), *mounts],
        args=words,
        env=env,
        **asked,
    )


def _apart(pod: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """Give the template with its pods on different nodes as far as there are any."""
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    return {**pod, "spec": {**pod["spec"], "topologySpreadConstraints": [{**spread, "labelSelector": chosen}]}}


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": port}


def _credentials(folder: Path) -> Credentials:
    return Credentials(folder / CERTIFICATE, folder / KEY, folder / AUTHORITY)
