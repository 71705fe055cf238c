"""The provisioner of volumes: a claim of the default class gets a folder of the node that its pod is put on.

`main` runs on the machine of the control plane. Folders are in memory, and outlive a node that is killed; a claim's
size is not enforced. Only the standard library.
"""

from __future__ import annotations

import queue
import shutil
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cluster.watches import Api

VOLUMES = "/run/volumes"
"""Where every machine has what is kept on volumes, in a folder for each node."""
USER = "volume-provisioner"
NAME, CLASS = "tests.dynamos.dev/folders", "folders"
_NODE = "volume.kubernetes.io/selected-node"
_CLAIMS, _VOLUMES = "/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes"
Thing = Mapping[str, Any]


def wanted(claim: Thing) -> dict[str, Any] | None:
    """Give the volume that a claim waits for, None where it waits for none of ours."""
    meta, spec = claim["metadata"], claim["spec"]
    node = (meta.get("annotations") or {}).get(_NODE)
    waits = claim.get("status", {}).get("phase") == "Pending" and not spec.get("volumeName")
    folders = spec.get("volumeMode", "Filesystem") == "Filesystem"
    if not node or not waits or not folders or spec.get("storageClassName") != CLASS:
        return None
    name = f"pvc-{meta['uid']}"
    hosts = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": NAME}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "local": {"path": f"{VOLUMES}/{node}/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": hosts}]}},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta["namespace"],
                "name": meta["name"], "uid": meta["uid"],
            },
        },
    }  # fmt: skip


def released(volume: Thing) -> str:
    """Give the folder of a volume that nobody claims any more, nothing where it is not ours or is still claimed."""
    ours = (volume["metadata"].get("annotations") or {}).get("pv.kubernetes.io/provisioned-by") == NAME
    gone = volume.get("status", {}).get("phase") == "Released"
    return str(volume["spec"]["local"]["path"]) if ours and gone else ""


def _take(api: Api, kind: str, thing: Thing) -> None:
    """Make the volume of a claim, or remove one that is released; what was done already is found so."""
    if kind == "claims" and (volume := wanted(thing)):
        folder = Path(volume["spec"]["local"]["path"])
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # a pod's user is not known; a pod's fsGroup is set by the kubelet
        _checked(api.ask("POST", _VOLUMES, volume), HTTPStatus.CREATED, HTTPStatus.CONFLICT)
    elif kind == "volumes" and (path := released(thing)):
        shutil.rmtree(path, ignore_errors=True)
        name = thing["metadata"]["name"]
        _checked(api.ask("DELETE", f"{_VOLUMES}/{name}"), HTTPStatus.OK, HTTPStatus.NOT_FOUND)


def _checked(answer: tuple[int, Any], *expected: int) -> None:
    status, told = answer
    if status not in expected:
        raise ConnectionError(f"{status}: {told}")


def main(folder: str, server: str) -> None:
    """Provide volumes for ever, with the certificate in a folder, at the API's server."""
    api = Api(Path(folder), USER, server)
    told: queue.Queue[tuple[str, Thing]] = queue.Queue()

    def tell(event: str, kind: str, thing: Thing) -> None:
        for each in thing.get("items") or () if event == "LISTED" else [thing]:
            told.put((kind, each))

    for kind, path in (("claims", _CLAIMS), ("volumes", _VOLUMES)):
        threading.Thread(target=api.follow, args=(kind, path, tell), daemon=True).start()
    while True:
        kind, thing = told.get()
        try:
            _take(api, kind, thing)
        except OSError as error:
            sys.stderr.write(f"{kind} {thing['metadata']['name']}: {error}\n")
            sys.stderr.flush()
            threading.Timer(0.5, told.put, [(kind, thing)]).start()
