"""The way to the API: by a name inside the cluster, and from outside where the profile says so, by TLS only."""

from __future__ import annotations

from typing import Any

from dynamos.deploy.kubernetes.labels import labels, made
from dynamos.deploy.kubernetes.plans import Manifest, Plan
from dynamos.deploy.kubernetes.pods import Seat, selector
from dynamos.knowledge.permissions import API
from dynamos.testbed.wanted import PORTS

PORT = 80


def gateway(plan: Plan) -> list[Manifest]:
    """Give the API's service, and its ingress where there is one."""
    chosen = selector(plan, Seat(plan.control, "api"))["matchLabels"]
    label = labels(plan.control, role="api")
    spec: dict[str, Any] = {"selector": chosen, "ports": [{"name": "http", "port": PORT, "targetPort": PORTS["api"]}]}
    found = [made("v1", "Service", API, plan.control, label=label, spec=spec)]
    if (ingress := plan.profile.cluster.ingress) is not None:
        backend = {"service": {"name": API, "port": {"name": "http"}}}
        paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
        spec = {
            "tls": [{"hosts": [ingress.host], "secretName": ingress.tls}],
            "rules": [{"host": ingress.host, "http": {"paths": paths}}],
        }
        if ingress.controller:
            spec["ingressClassName"] = ingress.controller
        found.append(made("networking.k8s.io/v1", "Ingress", API, plan.control, label=label, spec=spec))
    return found


def address(plan: Plan) -> str:
    """Give where the API is: from outside where it has an ingress, else inside the cluster."""
    ingress = plan.profile.cluster.ingress
    return f"https://{ingress.host}" if ingress else f"http://{API}.{plan.control}.svc"
