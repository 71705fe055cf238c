"""What a cluster is made of, as values: machines at sites, the links between them, and every address. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dynamos.kit.errors import BadInput
from dynamos.model.networks import UNDERLAY_MTU
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.testbed import wanted
from dynamos.testbed.addresses import Addresses, bare
from dynamos.testbed.items import Link, Node, Router, Routes

CONTROL = "control-plane"
"""The machine of the control plane, which runs no pods."""
SERVICES, API_SERVICE, DNS_SERVICE = "10.96.0.0/16", "10.96.0.1", "10.96.0.10"
DOMAIN = "cluster.local"
API_PORT = 6443
SITE_LABEL = "dynamos.dev/site"


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine: `address` has its prefix, `pods` is the network of the pods on it (empty: it runs none)."""

    name: str
    site: str
    address: str
    gateway: str
    mtu: int
    pods: str = ""

    @property
    def ip(self) -> str:
        return bare(self.address)


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """A whole cluster. `podNetwork` holds those of all machines; `mtu` fits through every link."""

    name: str
    control: Machine
    nodes: tuple[Machine, ...]
    routers: tuple[Router, ...]
    links: tuple[Link, ...]
    routes: tuple[Routes, ...]
    pod_network: str
    mtu: int

    @property
    def machines(self) -> tuple[Machine, ...]:
        return (self.control, *self.nodes)

    @property
    def api(self) -> str:
        """Where machines and pods reach the API server."""
        return f"https://{self.control.ip}:{API_PORT}"


def spec_of(profile: Profile) -> ClusterSpec:
    """Give the cluster of a profile's sites, nodes and links, whatever its driver: each node is a machine that runs
    pods, and one more at the control site has the control plane.

    Raises BadInput where there are no sites, or sites do not reach each other.
    """
    if not profile.sites:
        raise BadInput(f"profile {profile.name!r} has no sites", hint="a cluster of its own needs one: name sites")
    alone = {name: site.model_copy(update={"parties": ()}) for name, site in profile.sites.items()}
    overlay = profile.overlay.model_copy(update={"driver": "none"})  # whose routes lead to what is on the nodes
    laid = wanted.wanted(profile.model_copy(update={"driver": "namespaces", "sites": alone, "overlay": overlay}))
    routes = tuple(laid.of(Routes).values())
    _check_reach(profile.sites, routes)
    nodes = laid.of(Node)
    site = profile.control if profile.control in profile.sites else next(iter(profile.sites))
    plan = Addresses(profile.subnets)
    index = list(profile.sites).index(site)
    links = tuple(laid.of(Link).values())
    router = laid.of(Router)[site]
    mtu = max([UNDERLAY_MTU, *(link.mtu for link in links)])
    address = plan.node(index, len(profile.sites[site].nodes))
    return ClusterSpec(
        host_name(profile.name),
        Machine(CONTROL, site, address, bare(router.address), mtu),
        tuple(Machine(n.name, n.site, n.address, n.gateway, n.mtu, n.containers) for n in nodes.values()),
        tuple(laid.of(Router).values()),
        links,
        routes,
        str(profile.subnets.containers),
        min([UNDERLAY_MTU, *(link.mtu for link in links)]),
    )


def profile_of(
    sites: Sequence[str] = ("here",), nodes: int = 2, links: Sequence[tuple[str, str, str]] = (), name: str = "tests"
) -> Profile:
    """Give a profile in memory: `nodes` at every site, and links as (site, site, delay)."""
    return Profile.model_validate(
        {
            "name": name,
            "driver": "namespaces",
            "marketplace": "none",
            "sites": {site: {"nodes": nodes} for site in sites},
            "links": [{"between": [one, other], "delay": delay} for one, other, delay in links],
            "overlay": {"driver": "none"},
        }
    )


def _check_reach(sites: Sequence[str] | dict[str, object], routes: Sequence[Routes]) -> None:
    """Raises BadInput where a router knows no way to another site."""
    for each in routes:
        over_links = {hop.destination for hop in each.hops if hop.link}
        if len(over_links) < len(sites) - 1:
            raise BadInput(f"site {each.name!r} does not reach every other site", hint="a cluster is one: add links")
