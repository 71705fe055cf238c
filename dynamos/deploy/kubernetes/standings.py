"""Standings: what a testbed has on its cluster at a moment, and where the cluster's own servers are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dynamos.deploy.kubernetes.kubectls import Asked, listed
from dynamos.deploy.kubernetes.labels import DNS, OURS, PART_OF, PARTY, ROLE, SYSTEM, TESTBED
from dynamos.deploy.kubernetes.plans import Manifest
from dynamos.kit.errors import NotFound
from dynamos.middleware.network.openings import LABEL as OPENING
from dynamos.middleware.network.openings import receivers_of, senders_of
from dynamos.testbed.proofs.programs import together

_KINDS = "namespaces,pods,services,networkpolicies"
_OF_A_SLICE = "kubernetes.io/service-name"
_API = "kubernetes"

Way = tuple[str, str]
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Standing:
    """The namespace of the control plane and of each party, pods that are ready, services, openings, and of the cluster
    the addresses of its nodes, API servers and name servers."""

    control: str
    parties: dict[str, str]
    pods: tuple[Manifest, ...]
    services: tuple[Manifest, ...]
    openings: tuple[Manifest, ...]
    nodes: dict[str, str]
    api_servers: tuple[Place, ...]
    name_servers: tuple[str, ...]

    @property
    def ways(self) -> frozenset[Way]:
        """The ways between parties of which both ends are open, each from who sends to who takes."""
        spaces = {namespace: party for party, namespace in self.parties.items()}
        given: set[Way] = set()
        taken: set[Way] = set()
        for each in self.openings:
            party = spaces.get(each["metadata"]["namespace"], "")
            given |= {(party, peer) for peer in receivers_of(each["spec"])}
            taken |= {(peer, party) for peer in senders_of(each["spec"])}
        return frozenset(given & taken)

    def pods_of(self, role: str, party: str = "") -> list[Manifest]:
        """Give the pods with a role, those of one party or of the control plane."""
        return [pod for pod in self.pods if (role_of(pod), party_of(pod)) == (role, party)]


def look(asked: Asked, control: str) -> Standing:
    """Look at a testbed by the name of its control plane's namespace. Raises NotFound where the cluster has none of it,
    and as `Asked` does."""
    questions = (
        (_KINDS, "--all-namespaces", "--selector", f"{PART_OF}={OURS},{TESTBED}={control}"),
        ("nodes",),
        ("services", "--namespace", SYSTEM, "--selector", ",".join(f"{key}={value}" for key, value in DNS.items())),
        ("services", _API, "--namespace", "default"),
        ("endpointslices", "--namespace", "default", "--selector", f"{_OF_A_SLICE}={_API}"),
    )
    ours, nodes, names, service, slices = together(lambda words: listed(asked, *words), questions)
    spaces = {each["metadata"]["name"]: party_of(each) for each in ours if each["kind"] == "Namespace"}
    if control not in spaces:
        raise NotFound(f"the cluster has nothing of {control!r}", hint="dynamos stack up PROFILE puts it there")
    of_kind = {kind: tuple(each for each in ours if each["kind"] == kind) for kind in ("Service", "NetworkPolicy")}
    return Standing(
        control=control,
        parties={party: namespace for namespace, party in sorted(spaces.items()) if party},
        pods=tuple(each for each in ours if each["kind"] == "Pod" and _is_ready(each)),
        services=of_kind["Service"],
        openings=tuple(each for each in of_kind["NetworkPolicy"] if OPENING in each["metadata"]["labels"]),
        nodes={each["metadata"]["name"]: address for each in nodes if (address := _address(each))},
        api_servers=tuple(dict.fromkeys((*_of_service(service), *_of_slices(slices)))),
        name_servers=tuple(address for each in names for address in _cluster_address(each)),
    )


def role_of(each: Manifest) -> str:
    return str(each["metadata"].get("labels", {}).get(ROLE, ""))


def party_of(each: Manifest) -> str:
    return str(each["metadata"].get("labels", {}).get(PARTY, ""))


def identity_of(pod: Manifest) -> tuple[str, str]:
    """Give what no other pod has that ever was, and where it is."""
    return pod["metadata"]["uid"], pod["status"]["podIP"]


def _is_ready(pod: Manifest) -> bool:
    status = pod.get("status", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
    stays = "deletionTimestamp" not in pod["metadata"]
    return stays and bool(status.get("podIP")) and conditions.get("Ready") == "True"


def _address(node: Manifest) -> str:
    told = {each["type"]: each["address"] for each in reversed(node.get("status", {}).get("addresses", ()))}
    return str(told.get("InternalIP", ""))


def _cluster_address(service: Manifest) -> Iterator[str]:
    address = service["spec"].get("clusterIP", "")
    if address not in ("", "None"):
        yield address


def _of_service(services: list[Manifest]) -> Iterator[Place]:
    for each in services:
        for address in _cluster_address(each):
            yield from ((address, int(port["port"])) for port in each["spec"].get("ports", ()))


def _of_slices(slices: list[Manifest]) -> Iterator[Place]:
    for each in slices:
        ports = [int(port["port"]) for port in each.get("ports") or () if port.get("port")]
        ends = [address for end in each.get("endpoints") or () for address in end["addresses"]]
        yield from ((address, port) for address in ends for port in ports)
