"""Doubles: pods that policies take for an agent, a job's pod or a server, as they go by labels, and nobody else does.

They knock, and listen where the other does. They do not have the label of the testbed, by which Deployments, Services
and budgets find their own, nor that of an agent's pods; and a gate that nobody opens keeps them from being ready. An
outsider is a pod with no such label, in a namespace of its own without policies. All have a label by which they are
removed. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from dynamos.deploy.kubernetes.labels import OURS, PART_OF, PARTY, ROLE, made
from dynamos.deploy.kubernetes.plans import Manifest
from dynamos.deploy.kubernetes.pods import HEALTH_PORT, USER, Share, container, mount
from dynamos.deploy.kubernetes.policies import ROUTES
from dynamos.deploy.kubernetes.standings import Standing
from dynamos.jobs.pods.hails import HAIL_PORT
from dynamos.jobs.pods.settings import PORT as COURIER_PORT
from dynamos.kit.errors import Unavailable
from dynamos.testbed.proofs import programs
from dynamos.testbed.proofs.clusters import Kind, Spot, TargetKind
from dynamos.testbed.wanted import PORTS

PROOF = "dynamos.dev/proof"
"""The label of everything that a proof makes: of which testbed it is."""
GATE = "dynamos.dev/is-no-double"
"""The condition without which a double is not ready. Nobody fulfils it."""
BACKSTOP_SECONDS = 900
"""When the cluster ends a double whose proof was killed."""
PYTHON = "python"
OUTSIDER = "outsider"
SERVES: dict[Kind, tuple[tuple[TargetKind, int], ...]] = {
    "agent": (("agent", PORTS["exchange"]), ("hail", HAIL_PORT)),
    "job": (("job", COURIER_PORT),),
    "api": (("api", PORTS["api"]), ("gateway", PORTS["exchange"])),
    "orchestrator": (("orchestrator", HEALTH_PORT),),
    "bus": (("bus", PORTS["bus"]), ("routes", ROUTES), ("hub", PORTS["leaf"])),
    "leaf": (("leaf", PORTS["bus"]),),
    "outsider": (),
}
"""What a double of each kind stands for, and at which port it listens for that."""
_SHARE = Share("10m", "32Mi", "128Mi")
_TOLD = "/tmp/told"  # noqa: S108  in a container


@dataclass(frozen=True, slots=True)
class Double:
    """A pod that stands for others: `like` is one of these, of which it takes where it may run."""

    spot: Spot
    namespace: str
    like: Manifest

    def pod(self, token: str) -> str:
        """Give the name of its pod. No other run of a proof has the token."""
        return f"proof-{token}-{self.spot.kind}"


def protocol_of(what: TargetKind) -> Literal["tcp", "udp"]:
    """Give by what something is knocked at."""
    return "udp" if what == "hail" else "tcp"


def listens(kind: Kind) -> list[tuple[str, int]]:
    """Give where a double listens: protocols and ports."""
    return [(protocol_of(what), port) for what, port in SERVES[kind]]


def doubles(standing: Standing, outside: str) -> tuple[Double, ...]:
    """Give a double of everybody who has pods, and an outsider in the namespace `outside`.

    Raises Unavailable where an agent, the orchestrator, the API or the bus is not ready.
    """
    found = []
    for party, namespace in standing.parties.items():
        agent = _one(standing, "agent", party)
        found += [Double(_spot("agent", party), namespace, agent), Double(_spot("job", party), namespace, agent)]
    control = standing.control
    server = _one(standing, "api")
    found.append(Double(_spot("api"), control, server))
    found += [Double(_spot(kind), control, _one(standing, kind)) for kind in ("orchestrator", "bus")]
    found += [Double(_spot("leaf"), control, pod) for pod in standing.pods_of("leaf")[:1]]
    # It needs the image, which the API's node has, and may run anywhere else.
    anywhere = {**server, "spec": {"nodeName": server["spec"].get("nodeName", "")}}
    return (*found, Double(Spot(OUTSIDER, "outsider"), outside, anywhere))


def image_of(standing: Standing) -> str:
    """Give our own image, as the orchestrator runs it."""
    return str(_one(standing, "orchestrator")["spec"]["containers"][0]["image"])


def manifests(testbed: str, found: tuple[Double, ...], token: str, image: str) -> Iterator[Manifest]:
    """Give the pods of doubles."""
    for each in found:
        yield _pod(testbed, each, token, image)


def outside(testbed: str, token: str) -> Manifest:
    """Give the namespace of the outsider, which has no policies."""
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return made("v1", "Namespace", f"{testbed}-proof-{token}", label={**_labels(testbed), **levels})


def _pod(testbed: str, double: Double, token: str, image: str) -> Manifest:
    kind, party = double.spot.kind, double.spot.party
    label = _labels(testbed)
    if kind != "outsider":
        label |= {ROLE: kind, **({PARTY: party} if party else {})}
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": BACKSTOP_SECONDS,
        "terminationGracePeriodSeconds": 1,
        "readinessGates": [{"conditionType": GATE}],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_listener(kind, image)],
        "volumes": [{"name": "told", "emptyDir": {"sizeLimit": "1Mi"}}],
        **_place(double.like),
    }  # fmt: skip
    return made("v1", "Pod", double.pod(token), double.namespace, label=label, spec=spec)


def _listener(kind: Kind, image: str) -> dict[str, Any]:
    told = json.dumps({"ports": listens(kind), "told": _TOLD})
    words = [PYTHON, "-I", "-S", "-c", programs.text("listen")]
    return container("double", image, _SHARE, [mount("told", "/tmp")], command=words, args=[told])  # noqa: S108


def _place(like: Manifest) -> dict[str, Any]:
    """Give where a pod may run, as another one may; best beside it, where the image is."""
    told = like["spec"]
    found = {name: told[name] for name in ("nodeSelector", "tolerations", "imagePullSecrets") if told.get(name)}
    if node := told.get("nodeName"):
        here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        best = [{"weight": 100, "preference": here}]
        found["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": best}}
    return found


def _one(standing: Standing, role: str, party: str = "") -> Manifest:
    found = standing.pods_of(role, party)
    if not found:
        who = f"{role} of {party}" if party else role
        hint = f"kubectl get pods --all-namespaces --selector dynamos.dev/testbed={standing.control}"
        raise Unavailable(f"the {who} is not ready", where=standing.parties.get(party, standing.control), hint=hint)
    return found[0]


def _spot(kind: Kind, party: str = "") -> Spot:
    return Spot(f"{kind} of {party}" if party else kind, kind, party)


def _labels(testbed: str) -> dict[str, str]:
    return {PART_OF: OURS, PROOF: testbed}
