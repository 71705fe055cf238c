"""Pods of units: what all of them have in common. They keep to the pod security standard "restricted"."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dynamos.deploy.kubernetes.labels import COMPONENT, SITE, TESTBED, labels, made
from dynamos.deploy.kubernetes.parties import priority
from dynamos.deploy.kubernetes.plans import GIVEN, HOME, Manifest, Plan, object_name, short

USER = 65532
"""Who everything runs as in the images."""
HEALTH_PORT = 8099
"""Where a unit tells the kubelet whether it lives and is ready."""
GRACE = 45
"""Seconds until a pod that shall end is killed: more than a unit needs to finish what it has begun."""
LEAVE = 3
"""Seconds in which the cluster's nodes learn that a pod takes no more connections, before it stops to take them."""
FOLDERS_MEMORY = "64Mi"

Volume = dict[str, Any]
Container = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Share:
    """What a container has for itself for certain, and the most memory that it may have."""

    cores: str
    memory: str
    most: str

    def as_json(self) -> dict[str, Any]:
        return {"requests": {"cpu": self.cores, "memory": self.memory}, "limits": {"memory": self.most}}


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a pod stands in the testbed. `site` is empty where every node will do."""

    namespace: str
    role: str
    party: str = ""
    account: str = ""
    site: str = ""
    only: Mapping[str, str] = field(default_factory=dict)
    """Labels beside the role that tell its pods from others with that role."""


def template(
    plan: Plan, seat: Seat, containers: list[Container], volumes: Iterable[Volume], *,
    digest: str = "", grace: int = GRACE, again: str = "Always",
) -> dict[str, Any]:  # fmt: skip
    """Give a pod's template. It changes with `digest`, so that pods are made anew when what they are given is other."""
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": again,
        "terminationGracePeriodSeconds": grace,
        "priorityClassName": priority(plan, "agents" if seat.party else "control"),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": containers,
        "volumes": list(volumes),
    }
    if seat.account:
        spec["serviceAccountName"] = seat.account
    if seat.site:
        spec["nodeSelector"] = {SITE: seat.site}
    label = {**labels(plan.control, role=seat.role, party=seat.party), COMPONENT: seat.role, **seat.only}
    metadata: dict[str, Any] = {"labels": label}
    if digest:
        metadata["annotations"] = {"dynamos.dev/given": digest}
    return {"metadata": metadata, "spec": spec}


def container(name: str, image: str, share: Share, mounts: Iterable[Volume], **members: Any) -> Container:
    """Give a container that can write to what is mounted and to nothing else, and has no right of root's."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": share.as_json(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": list(mounts),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **members,
    }


def python(name: str, plan: Plan, share: Share, module: str, *words: str, **members: Any) -> Container:
    """Give a container that runs one of our own modules."""
    mounts = [mount("given", str(GIVEN), read_only=True), mount("home", str(HOME)), mount("scratch", "/tmp")]  # noqa: S108
    mounts += members.pop("mounts", [])
    settings = {"PYTHONDONTWRITEBYTECODE": "1", "HOME": str(HOME), **members.pop("settings", {})}
    env = [*whereabouts(), *({"name": key, "value": value} for key, value in settings.items())]
    return container(
        name, plan.images.dynamos, share, mounts, command=["python", "-m", module], args=list(words), env=env, **members
    )


def whereabouts() -> list[dict[str, Any]]:
    """Give the variables by which a pod knows where and who it is."""
    fields = {"POD_IP": "status.podIP", "POD_NAME": "metadata.name", "POD_UID": "metadata.uid",
              "POD_NAMESPACE": "metadata.namespace"}  # fmt: skip
    return [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]


def probes(port: int | str = HEALTH_PORT, *, live: str = "/healthz", ready: str = "/readyz") -> dict[str, Any]:
    """Give how the kubelet learns that a unit has started, takes work, and is alive."""

    def ask(path: str, every: int, failures: int, within: int = 3) -> dict[str, Any]:
        told = {"httpGet": {"path": path, "port": port}, "periodSeconds": every, "timeoutSeconds": within}
        return {**told, "failureThreshold": failures}

    return {
        "startupProbe": ask(ready, 1, 90),
        "readinessProbe": ask(ready, 5, 2),
        "livenessProbe": ask(live, 10, 3, within=5),
    }


def mount(name: str, path: str, *, read_only: bool = False) -> Volume:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def secret_name(unit: str) -> str:
    return f"unit-{object_name(unit)}"


def secret(plan: Plan, seat: Seat, unit: str) -> Manifest:
    """Give the Secret with what a unit is given."""
    told = {_key(name): base64.b64encode(text.encode()).decode() for name, text in sorted(plan.files[unit].items())}
    label = labels(plan.control, role=seat.role, party=seat.party)
    return made("v1", "Secret", secret_name(unit), seat.namespace, label=label, type="Opaque", data=told)


def given(plan: Plan, unit: str) -> Volume:
    """Give the volume with what a unit is given."""
    items = [{"key": _key(name), "path": name} for name in sorted(plan.files[unit])]
    return {"name": "given", "secret": {"secretName": secret_name(unit), "defaultMode": 0o440, "items": items}}


def folders(disk: str = "1Gi") -> list[Volume]:
    """Give the folders that a unit may write to: they go with its pod."""
    return [
        {"name": "home", "emptyDir": {"sizeLimit": disk}},
        {"name": "scratch", "emptyDir": {"sizeLimit": disk}},
    ]


def token() -> Volume:
    """Give the volume with the token by which an agent speaks to the API server, renewed within the hour."""
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]
    return {"name": "account", "projected": {"defaultMode": 0o440, "sources": sources}}


def digest_of(plan: Plan, unit: str) -> str:
    """Give a digest of what a unit is given."""
    return short(json.dumps(dict(plan.files[unit]), sort_keys=True))


def selector(plan: Plan, seat: Seat) -> dict[str, Any]:
    """Give what selects a unit's own pods."""
    return {"matchLabels": {TESTBED: plan.control, "dynamos.dev/role": seat.role, **seat.only}}


def _key(path: str) -> str:
    """Give a file's name as a key of a Secret, which has no folders."""
    return path.replace("/", "..")
