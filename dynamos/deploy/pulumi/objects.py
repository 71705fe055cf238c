"""Objects of a cluster as resources: manifests in, the classes of pulumi-kubernetes out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import import_module

import pulumi
from pulumi import CustomTimeouts, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource

from dynamos.deploy.kubernetes.labels import key_of
from dynamos.deploy.kubernetes.plans import Manifest

READY_SECONDS = 180
"""How long what is made may take to be ready, and what is removed to be gone."""
_CLASSES = {
    "v1": "core.v1",
    "apps/v1": "apps.v1",
    "batch/v1": "batch.v1",
    "networking.k8s.io/v1": "networking.v1",
    "policy/v1": "policy.v1",
    "rbac.authorization.k8s.io/v1": "rbac.v1",
    "scheduling.k8s.io/v1": "scheduling.v1",
}
_HIDDEN = {"Secret": "data", "ConfigMap": "binaryData"}
"""Members that are keys and data: they are kept encrypted in the stack's state, and never shown."""
_UPPER = re.compile(r"(?<!^)(?=[A-Z])")


def resource(manifest: Manifest, opts: ResourceOptions) -> pulumi.CustomResource:
    """Give the resource of a manifest, under the object's own name."""
    kind, namespace, name = key_of(manifest)
    members = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}
    if kind == "Job":  # one that has failed is made anew: it cannot be tried again
        members["metadata"] = {**members["metadata"], "annotations": {"pulumi.com/replaceUnready": "true"}}
    if (hidden := _HIDDEN.get(kind)) and (held := members.get(hidden)):
        members[hidden] = pulumi.Output.secret(held)
    within = f"{READY_SECONDS}s"
    bounds = ResourceOptions(custom_timeouts=CustomTimeouts(create=within, update=within, delete=within))
    unique, options = f"{namespace}/{name}" if namespace else name, ResourceOptions.merge(opts, bounds)
    module = _CLASSES.get(manifest["apiVersion"])
    if module is None:  # of an extension of the cluster, such as its network
        return CustomResource(unique, manifest["apiVersion"], kind, opts=options, **members)
    made: Callable[..., pulumi.CustomResource] = getattr(import_module(f"pulumi_kubernetes.{module}"), kind)
    return made(unique, opts=options, **{_member(key): value for key, value in members.items()})


def resources(manifests: Iterable[Manifest], opts: ResourceOptions) -> list[pulumi.CustomResource]:
    """Give the resources of manifests, all made at the same time."""
    return [resource(each, opts) for each in manifests]


def _member(name: str) -> str:
    return _UPPER.sub("_", name).lower()
