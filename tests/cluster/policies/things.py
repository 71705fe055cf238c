"""What policies are about, as values read from the API's objects. Pure; only the standard library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Labels = Mapping[str, str]
_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a container that has a name."""

    name: str
    number: int
    protocol: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod with an address of its own."""

    namespace: str
    name: str
    labels: Labels
    node: str
    address: str
    ports: tuple[Port, ...] = ()


def pod_of(told: Mapping[str, Any], address: str = "") -> Pod | None:
    """Read a pod; `address` is what its node knows of it before the API says it. None where it has no address of its
    own: it has ended, has none yet, or shares its node's."""
    meta, spec, status = told["metadata"], told.get("spec", {}), told.get("status", {})
    address = address or status.get("podIP", "")
    if spec.get("hostNetwork") or not address or status.get("phase") in _ENDED:
        return None
    ports = tuple(
        Port(port["name"], int(port["containerPort"]), port.get("protocol", "TCP"))
        for container in (*spec.get("initContainers", ()), *spec.get("containers", ()))
        for port in container.get("ports", ())
        if port.get("name")
    )
    labels = meta.get("labels") or {}
    return Pod(meta["namespace"], meta["name"], labels, spec.get("nodeName", ""), address, ports)


def matches(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Tell whether labels are selected. The empty selector selects all."""
    plain = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in plain.items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Labels) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False  # what is not known selects nothing
