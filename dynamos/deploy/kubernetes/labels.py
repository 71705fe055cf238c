"""Labels: how objects on a cluster say that they are ours, and which of them are meant."""

from __future__ import annotations

from typing import Any

from dynamos.deploy.kubernetes.plans import Manifest

PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
TESTBED, PARTY, ROLE, SITE = (f"dynamos.dev/{word}" for word in ("testbed", "party", "role", "site"))
NAMESPACE = "kubernetes.io/metadata.name"
"""What the API server itself labels every namespace with."""
OURS = "dynamos"

SYSTEM = "kube-system"
DNS = {"k8s-app": "kube-dns"}


def labels(testbed: str, **more: str) -> dict[str, str]:
    """Give the labels of an object of a testbed; `role` and `party` are said where it has them."""
    found = {PART_OF: OURS, TESTBED: testbed}
    found |= {f"dynamos.dev/{name}": value for name, value in more.items() if value}
    return found


def made(version: str, kind: str, name: str, namespace: str = "", *, label: dict[str, str], **members: Any) -> Manifest:
    """Give a manifest."""
    metadata: dict[str, Any] = {"name": name, **({"namespace": namespace} if namespace else {}), "labels": label}
    if notes := members.pop("annotations", None):
        metadata["annotations"] = notes
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **members}


def key_of(manifest: Manifest) -> tuple[str, str, str]:
    """Give what no two objects of a cluster have in common: kind, namespace, name."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]
