"""The manifests of a job's pod and of the secret that its courier gets: pure."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

from dynamos.jobs.pods.hails import HAIL_PORT
from dynamos.jobs.pods.passes import Pass
from dynamos.jobs.pods.settings import LAUNCHER, POOL, PORT, SHAPE, Home, PodsConfig
from dynamos.jobs.pods.shapes import COURIER_BYTES, Shape, Slot, slot_names

Manifest = dict[str, Any]

COURIER = "courier"
_FOLDER, _PASS = "/dynamos", "/pass"
_SHARED = "64Mi"
_ASKED_BYTES = 64 << 20
_PATIENCE_SECONDS = 600
"""For how long a courier waits for its agent, which may learn late where it is: a crowded kubelet tells late."""
_CONFINED: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def container_of(slot: str) -> str:
    """Give the name of a slot's container."""
    return f"step-{slot}"


def secret(name: str, given: Pass, home: Home, config: PodsConfig) -> Manifest:
    """Give the secret of a pod's courier. It cannot be changed, so that the kubelet does not watch it."""
    data = {file: base64.b64encode(content).decode() for file, content in given.files().items()}
    meta = _meta(name, home, config)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "immutable": True, "data": data}


def pod(
    name: str,
    shape: Shape,
    home: Home,
    config: PodsConfig,
    *,
    pool: str,
    seconds: float,
    services: Sequence[str] = (),
) -> Manifest:
    """Give a pod of this shape. `pool` is how it is used; it is ended after `seconds` whatever happens.

    `services` are what its slots will run, where that is known: they get ready for these and for no others.
    """
    meta = _meta(name, home, config)
    meta["labels"] |= {POOL: pool, SHAPE: shape.key}
    slots = dict(zip(slot_names(shape), shape.slots, strict=True))
    spec: Manifest = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": max(1, math.ceil(seconds)),
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": config.user,
            "runAsGroup": config.user,
            "fsGroup": config.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": _containers(name, slots, home, config, services),
        "volumes": _volumes(name, slots, config),
    }
    if config.node_selector:
        spec["nodeSelector"] = dict(config.node_selector)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _meta(name: str, home: Home, config: PodsConfig) -> Manifest:
    meta: Manifest = {"name": name, "namespace": config.namespace}
    meta["labels"] = {**home.labels, "dynamos.dev/testbed": config.testbed}
    return {**meta, "ownerReferences": home.owners} if home.owners else meta


def _containers(
    name: str, slots: dict[str, Slot], home: Home, config: PodsConfig, services: Sequence[str]
) -> list[Manifest]:
    """Give the containers in the order in which they start, one after the other.

    Steps of our own image get ready while the courier starts, and wait for it. Others cannot begin without it.
    """
    known = dict(zip(slots, services, strict=False))
    steps = [_step(*each, config, known.get(each[0], "")) for each in slots.items()]
    courier = _courier(name, tuple(slots), home, config)
    if all(_brings_launcher(slot, config) for slot in slots.values()):
        return [*steps, courier]
    # The kubelet starts the next container when this hook has come back: an init container would cost a second.
    courier["lifecycle"] = {"postStart": {"exec": {"command": ["/courier", "ready"]}}}
    return [courier, *steps]


def _brings_launcher(slot: Slot, config: PodsConfig) -> bool:
    return slot.image == config.image


def _courier(pod: str, slots: tuple[str, ...], home: Home, config: PodsConfig) -> Manifest:
    agent = f"[{home.address}]" if ":" in home.address else home.address
    hailed = {"COURIER_POD": pod, "COURIER_AGENT": f"{agent}:{HAIL_PORT}"} if agent else {}
    return {
        "name": COURIER,
        "image": config.courier,
        "args": ["serve"],
        "env": [
            {"name": "COURIER_SLOTS", "value": ",".join(slots)},
            {"name": "COURIER_PATIENCE", "value": f"{_PATIENCE_SECONDS}s"},
            *({"name": key, "value": value} for key, value in hailed.items()),
        ],
        "ports": [{"name": "courier", "containerPort": PORT}],
        "securityContext": _CONFINED,
        "resources": _resources(COURIER_BYTES, config),
        "volumeMounts": [
            {"name": "dynamos", "mountPath": _FOLDER},
            {"name": "pass", "mountPath": _PASS, "readOnly": True},
        ],
    }


def _step(slot: str, wanted: Slot, config: PodsConfig, service: str) -> Manifest:
    words = ["python", "-m", "dynamos.jobs.pods.waiter", config.programs, *([service] if service else [])]
    waiter = words if wanted.python else []
    mounts: list[Manifest] = [
        {"name": "dynamos", "mountPath": f"{_FOLDER}/step", "subPath": f"steps/{slot}", "readOnly": True},
        # the runtime's would be shared with the other steps
        {"name": "dynamos", "mountPath": "/dev/shm", "subPath": f"steps/{slot}/shm"},  # noqa: S108  in a container
        {"name": f"scratch-{slot}", "mountPath": "/tmp"},  # noqa: S108  in a container
    ]
    launcher = LAUNCHER
    if not _brings_launcher(wanted, config):
        launcher = f"{_FOLDER}/bin/launch"
        mounts.append({"name": "dynamos", "mountPath": f"{_FOLDER}/bin", "subPath": "bin", "readOnly": True})
    if wanted.data:
        mounts.append({"name": "data", "mountPath": config.data_at, "readOnly": True})
    return {
        "name": container_of(slot),
        "image": wanted.image,
        "command": [launcher, f"{_FOLDER}/step/socket", *waiter],
        "securityContext": _CONFINED,
        "resources": _resources(wanted.limit, config),
        "volumeMounts": mounts,
    }


def _resources(memory: int, config: PodsConfig) -> Manifest:
    asked = {"cpu": "10m", "memory": str(min(memory, _ASKED_BYTES))}
    return {"requests": asked, "limits": {"cpu": f"{math.ceil(config.cores * 1000)}m", "memory": str(memory)}}


def _volumes(name: str, slots: dict[str, Slot], config: PodsConfig) -> list[Manifest]:
    found: list[Manifest] = [
        {"name": "dynamos", "emptyDir": {"medium": "Memory", "sizeLimit": _SHARED}},
        {"name": "pass", "secret": {"secretName": name, "defaultMode": 0o440}},
    ]
    for slot, wanted in slots.items():
        room = {"medium": "Memory", "sizeLimit": str(wanted.scratch)}
        found.append({"name": f"scratch-{slot}", "emptyDir": room})
    if any(wanted.data for wanted in slots.values()):
        found.append(
            {"name": "data", "configMap": {"name": config.config_map}}
            if config.config_map
            else {"name": "data", "persistentVolumeClaim": {"claimName": config.claim, "readOnly": True}}
        )
    return found
