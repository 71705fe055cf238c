"""A cluster on paper: it keeps objects, starts pods at once, and lets through what its NetworkPolicies say.

It is asked in kubectl's words. Real clusters are asked the same in tests/cluster_proofs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

from dynamos.deploy.kubernetes.doubles import SERVES, listens
from dynamos.deploy.kubernetes.kubectls import complaint
from dynamos.deploy.kubernetes.manifests import objects
from dynamos.deploy.kubernetes.plans import Plan
from dynamos.testbed.hosts import Completed

Object = dict[str, Any]
NODES = {"n1": "192.0.2.11", "n2": "192.0.2.12"}
API_SERVICE, NAMES, METADATA, INTERNET = "10.96.0.1", "10.96.0.10", "169.254.169.254", "198.51.100.1"
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
RUNS = {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}


class PaperCluster:
    """`silent` are addresses that answer nobody; `refusals` what the API server says to the making of a kind; `status`
    what becomes of a pod that is made; `meanwhile` is called once, before the first knock of an outsider."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.objects: list[Object] = []
        self.silent: set[str] = set()
        self.refusals: dict[str, str] = {}
        self.status: Object = RUNS
        self.meanwhile: Callable[[], object] = lambda: None
        self._numbers = itertools.count(1)
        self._add({"kind": "Service", "metadata": {"name": "kubernetes", "namespace": "default"},
                   "spec": {"clusterIP": API_SERVICE, "ports": [{"port": 443}]}})  # fmt: skip
        slices = {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}}
        self._add({"kind": "EndpointSlice", "metadata": slices, "ports": [{"port": 6443}],
                   "endpoints": [{"addresses": ["192.0.2.7"]}]})  # fmt: skip
        dns = {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}}
        ports = [{"port": 53, "protocol": protocol} for protocol in ("TCP", "UDP")]
        self._add({"kind": "Service", "metadata": dns,
                   "spec": {"clusterIP": NAMES, "selector": dns["labels"], "ports": ports}})  # fmt: skip
        self.pod("coredns", "kube-system", dns["labels"])
        for name, address in NODES.items():
            told = {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]}
            self._add({"kind": "Node", "metadata": {"name": name}, "status": told})
        if plan is not None:
            self.deploy(plan)

    def deploy(self, plan: Plan) -> None:
        """Have what a plan says, with a ready pod of each workload and a warm pod of a job at each party."""
        for each in objects(plan).public:
            self._add(each)
            if each["kind"] in ("Deployment", "StatefulSet"):
                told = each["spec"]["template"]
                for number in range(each["spec"]["replicas"]):
                    meta = each["metadata"]
                    self.pod(f"{meta['name']}-{number}", meta["namespace"], told["metadata"]["labels"], told["spec"])
        for party, namespace in plan.parties.items():
            labels = {"app.kubernetes.io/part-of": "dynamos", "dynamos.dev/testbed": plan.control,
                      "dynamos.dev/party": party, "dynamos.dev/role": "job"}  # fmt: skip
            self.pod("job-1", namespace, labels)

    def pod(self, name: str, namespace: str, labels: dict[str, str], spec: Object | None = None) -> Object:
        """Have a pod that is ready."""
        meta = {"name": name, "namespace": namespace, "labels": labels}
        return self._add({"kind": "Pod", "metadata": meta, "spec": {"nodeName": "n1", **(spec or {})}, "status": READY})

    def open(self, namespace: str, label: dict[str, str] | None = None, **spec: Any) -> Object:
        """Have a policy more."""
        labels = {"app.kubernetes.io/part-of": "dynamos", "dynamos.dev/testbed": "p", **(label or {})}
        meta = {"name": f"more-{len(self.objects)}", "namespace": namespace, "labels": labels}
        return self._add({"kind": "NetworkPolicy", "spec": spec, "metadata": meta})

    def of_kind(self, kind: str, namespace: str = "", name: str = "") -> list[Object]:
        found = [each for each in self.objects if each["kind"] == kind]
        found = [each for each in found if namespace in ("", each["metadata"].get("namespace"))]
        return [each for each in found if name in ("", each["metadata"]["name"])]

    def remove(self, kind: str, namespace: str, name: str) -> None:
        gone = self.of_kind(kind, namespace, name)
        assert gone
        self.objects = [each for each in self.objects if each not in gone]

    @property
    def left(self) -> list[str]:
        """What proofs have made and not removed."""
        return [each["metadata"]["name"] for each in self.objects if "dynamos.dev/proof" in _labels(each)]

    # As kubectl

    def __call__(self, *words: str, stdin: bytes = b"", within: float = 0) -> Completed:
        verb, rest = words[0], words[1:]
        told = {"get": self._get, "create": self._create, "delete": self._delete, "exec": self._exec}[verb](rest, stdin)
        return Completed(words, 0, json.dumps(told).encode(), b"")

    def _chosen(self, words: tuple[str, ...]) -> list[Object]:
        kinds = {_KINDS[word] for word in words[0].split(",")}
        options = dict(itertools.pairwise(words))
        wanted = dict(each.split("=") for each in options.get("--selector", "").split(",") if each)
        names = [word for word in words[1:2] if not word.startswith("--")]
        return [
            each
            for each in self.objects
            if each["kind"] in kinds and wanted.items() <= _labels(each).items()
            and options.get("--namespace", "") in ("", each["metadata"].get("namespace"))
            and (not names or each["metadata"]["name"] in names)
        ]  # fmt: skip

    def _get(self, words: tuple[str, ...], _: bytes) -> Object:
        return {"items": self._chosen(words)}

    def _create(self, _: tuple[str, ...], stdin: bytes) -> None:
        for each in json.loads(stdin)["items"]:
            if each["kind"] in self.refusals:
                raise complaint("create", self.refusals[each["kind"]], "paper")
            self._add(each if each["kind"] != "Pod" else {**each, "status": self.status})

    def _delete(self, words: tuple[str, ...], _: bytes) -> None:
        gone = self._chosen(words)
        spaces = [each["metadata"]["name"] for each in gone if each["kind"] == "Namespace"]
        self.objects = [
            each for each in self.objects if each not in gone and each["metadata"].get("namespace") not in spaces
        ]

    def _exec(self, words: tuple[str, ...], stdin: bytes) -> list[str]:
        options = dict(itertools.pairwise(words))
        [source] = self.of_kind("Pod", options["--namespace"], words[words.index("--") - 1])
        knocks = json.loads(stdin)["knocks"]
        if knocks and "dynamos.dev/role" not in _labels(source):
            self.meanwhile, work = (lambda: None), self.meanwhile
            work()
        return [self._answer(source, each) for each in knocks]

    # Its network

    def _answer(self, source: Object, knock: Object) -> str:
        address, protocol, port = knock["address"], knock["protocol"].upper(), knock["port"]
        gone = address.startswith("10.0.") and not any(p["status"].get("podIP") == address for p in self.of_kind("Pod"))
        if gone or address in self.silent:
            return ""
        service = next((e for e in self.of_kind("Service") if e["spec"].get("clusterIP") == address), None)
        if service is not None and address != API_SERVICE:
            pods = [p for p in self.of_kind("Pod") if service["spec"]["selector"].items() <= _labels(p).items()]
        else:
            pods = [p for p in self.of_kind("Pod") if p["status"].get("podIP") == address]
        if not pods:
            through = self._passes("Egress", source, None, address, protocol, port)
            return ("refused" if address in NODES.values() and port != 10250 else "connected") if through else ""
        if pods[0] is not source and not (
            self._passes("Egress", source, pods[0], "", protocol, port)
            and self._passes("Ingress", pods[0], source, "", protocol, port)
        ):
            return ""
        return "connected" if (protocol.lower(), port) in _listens(pods[0]) else "refused"

    def _passes(self, way: str, pod: Object, other: Object | None, address: str, protocol: str, port: int) -> bool:
        namespace = pod["metadata"]["namespace"]
        told = [each["spec"] for each in self.of_kind("NetworkPolicy", namespace)]
        held = [each for each in told if way in each["policyTypes"] and _selected(each["podSelector"], _labels(pod))]
        words = {"Egress": "to", "Ingress": "from"}[way]
        rules = [rule for each in held for rule in each.get(way.lower()) or ()]
        return not held or any(
            any(_is_peer(peer, namespace, other, address) for peer in rule[words])
            and any((each["protocol"], each["port"]) == (protocol, port) for each in rule["ports"])
            for rule in rules
        )

    def _add(self, each: Object) -> Object:
        number = next(self._numbers)
        meta = {"uid": f"uid-{number}", **each["metadata"]}
        made = {**each, "metadata": meta}
        if each.get("status") in (READY, RUNS):
            made["status"] = {**each["status"], "podIP": f"10.0.{number // 250}.{number % 250 + 1}"}
        if each["kind"] == "Service" and "clusterIP" not in each["spec"]:
            made["spec"] = {**each["spec"], "clusterIP": f"10.97.{number // 250}.{number % 250 + 1}"}
        self.objects.append(made)
        return made


_KINDS = {"namespaces": "Namespace", "pods": "Pod", "services": "Service", "networkpolicies": "NetworkPolicy",
          "nodes": "Node", "endpointslices": "EndpointSlice"}  # fmt: skip
_OTHER_PORTS = {"coredns": (("tcp", 53), ("udp", 53))}


def _labels(each: Object) -> dict[str, str]:
    return dict(each["metadata"].get("labels", {}))


def _listens(pod: Object) -> Iterable[tuple[str, int]]:
    for container in pod["spec"].get("containers", ()):
        if container["name"] == "double":
            return [tuple(each) for each in json.loads(container["args"][0])["ports"]]
    kind: Any = _labels(pod).get("dynamos.dev/role", "")
    return [*(listens(kind) if kind in SERVES else ()), *_OTHER_PORTS.get(pod["metadata"]["name"], ())]


def _selected(selector: Object, labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        _holds(each, labels) for each in selector.get("matchExpressions") or ()
    )


def _holds(each: Object, labels: dict[str, str]) -> bool:
    return each["key"] in labels if each["operator"] == "Exists" else labels.get(each["key"]) in each["values"]


def _is_peer(peer: Object, home: str, other: Object | None, address: str) -> bool:
    if "ipBlock" in peer:
        return bool(address) and ip_address(address) in ip_network(peer["ipBlock"]["cidr"])
    if other is None:
        return False
    namespace, spaces = other["metadata"]["namespace"], peer.get("namespaceSelector")
    there = namespace == home if spaces is None else _selected(spaces, {"kubernetes.io/metadata.name": namespace})
    return there and _selected(peer.get("podSelector", {}), _labels(other))


def selectors(made: Iterable[Object]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give the kind, namespace and selector of everything that chooses pods, but for policies."""
    for each in made:
        chosen = each.get("spec", {}).get("selector")
        if chosen is not None:
            told = chosen if "matchLabels" in chosen else {"matchLabels": chosen}
            yield each["kind"], each["metadata"]["namespace"], told
