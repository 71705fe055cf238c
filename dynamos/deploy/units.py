"""What runs where: the only place that knows which program runs on which node, with which files and in which order.

Pure. What it gives is rendered as supervised processes (`dynamos up`), and can be rendered for other ways to deploy.

Where sites are machines of their own, the hub of the bus, the orchestrator and the API are at the control site. Every
other site with parties has a leaf of the bus, which its units talk to; each site with parties has a network helper.

On a cluster, a node is a namespace: one for each party, and one for all the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dynamos.knowledge.leaves import server_of
from dynamos.knowledge.permissions import API, BUS, ORCHESTRATOR, checked, helper_of
from dynamos.middleware.configs import (
    AgentConfig,
    ApiConfig,
    HelperConfig,
    MeetingsConfig,
    OrchestratorConfig,
    PoliciesConfig,
    UnitConfig,
)
from dynamos.model.agreements import Agreement
from dynamos.model.clusters import control_namespace, party_namespace
from dynamos.model.marketplaces import Marketplace
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.testbed.addresses import bare
from dynamos.testbed.items import Container, Node, Overlay
from dynamos.testbed.scopes import slots
from dynamos.testbed.wanted import PORTS, Wanted, wanted

Role = Literal["bus", "leaf", "orchestrator", "api", "agent", "network"]

LOCALHOST = "localhost"
"""The one node of the driver `processes`."""

CERTIFICATE, KEY, AUTHORITY = "certificate.pem", "key.pem", "authority.pem"
JWKS = "jwks.json"
SIGNER = "orchestrator.pem"
"""The certificate whose key signs grants, at those who check them."""
EDGE = "api.pem"
"""The certificate whose key signs vouchers, at those who check them."""
HANDED = 4
"""The descriptor under which the API finds the socket that it is handed."""

_CREDENTIALS = (CERTIFICATE, KEY, AUTHORITY)


@dataclass(frozen=True, slots=True)
class Unit:
    """One program on one node: what it is, what it comes after, its configuration, and the files that it is given.

    The bus has no configuration of ours; its server's own file is made from the names of the units that talk to it.
    `hosts` are addresses that it serves at, beside this machine's own; `speaks_for` are the units behind a leaf;
    `reads` and `writes` are folders of other places that it must have on its node.
    """

    name: str
    role: Role
    after: tuple[str, ...] = ()
    config: UnitConfig | None = None
    files: tuple[str, ...] = _CREDENTIALS
    hosts: tuple[str, ...] = ()
    speaks_for: tuple[str, ...] = ()
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Places:
    """Where things are on a node: the folder that holds each unit's own folder, each party's data, the bus where all
    units are in one place, and the folder of the testbed's world where they are not.

    A party without data gets a folder of its own that is not there.
    """

    units: Path
    data: Mapping[str, Path]
    bus: str = ""
    api_port: int = 0
    world: Path | None = None


def units(profile: Profile, marketplace: Marketplace, places: Places) -> dict[str, list[Unit]]:
    """Give the units of a testbed by node, in the order of their start.

    Raises BadInput where a party has the name of another unit.
    """
    made = _Units(profile, marketplace, places)
    found: dict[str, list[Unit]] = {}
    for node, unit in made.placed():
        found.setdefault(node, []).append(unit)
    return found


def sites_with_parties(profile: Profile) -> list[str]:
    """Give the sites that parties work at: those with a network helper."""
    return [site.name for site in profile.sites.values() if site.parties] if _has_machines(profile) else []


def behind_leaves(profile: Profile) -> dict[str, tuple[str, ...]]:
    """Give the units behind each site's leaf, by site. The control site has none: its units are at the hub."""
    return {
        site: (helper_of(site), *profile.sites[site].parties)
        for site in sites_with_parties(profile)
        if site != profile.control_site
    }


def leaves_of(profile: Profile) -> dict[str, tuple[str, ...]]:
    """Give the parties that talk to a leaf of the bus in a cluster, by site."""
    sites = profile.sites.values() if profile.cluster.leaves else ()
    return {site.name: site.parties for site in sites if site.parties and site.name != profile.control_site}


def hub_in(profile: Profile) -> str:
    """Give the name by which a cluster's pods find the hub of the bus."""
    return f"{BUS}.{control_namespace(profile.name)}.svc"


def leaf_in(profile: Profile, site: str) -> str:
    """Give the name by which a cluster's pods find the leaf of a site."""
    return f"{BUS}-{host_name(site)}.{control_namespace(profile.name)}.svc"


def peers_in(profile: Profile) -> tuple[str, ...]:
    """Give the names by which the servers of the hub find each other in a cluster; none where there is one server."""
    count = profile.cluster.bus_replicas
    ours = f"{BUS}-peers.{control_namespace(profile.name)}.svc"
    return tuple(f"{BUS}-{number}.{ours}" for number in range(count)) if count > 1 else ()


def _has_machines(profile: Profile) -> bool:
    return profile.driver in ("namespaces", "ssh")


@dataclass
class _Units:
    profile: Profile
    marketplace: Marketplace
    places: Places
    state: Wanted = field(init=False)
    own_networks: bool = field(init=False)

    def __post_init__(self) -> None:
        self.own_networks = _has_machines(self.profile)
        checked(self.marketplace.parties, sites_with_parties(self.profile))
        self.state = wanted(self.profile)

    def placed(self) -> Iterator[tuple[str, Unit]]:
        """Give each unit with its node."""
        if self.profile.driver == "kubernetes":
            return self.clustered()
        return self.apart() if self.own_networks else self.together()

    def together(self) -> Iterator[tuple[str, Unit]]:
        """All on one node, without networks of their own."""
        yield LOCALHOST, Unit(BUS, "bus")
        yield LOCALHOST, self._orchestrator(bus=self.places.bus)
        for party in self.marketplace.parties:
            yield LOCALHOST, self._agent(party, (BUS,), bus=self.places.bus)
        yield LOCALHOST, self._api(port=self.places.api_port, bus=self.places.bus)

    def apart(self) -> Iterator[tuple[str, Unit]]:
        """Each at its site."""
        control = self._gateway(self.profile.control_site)
        hub = {"bus": f"tls://{self._address(control)}:{PORTS['bus']}"}
        yield control, Unit(BUS, "bus", hosts=(self._address(control),))
        for site, behind in behind_leaves(self.profile).items():
            node = self._gateway(site)
            yield node, Unit(server_of(site), "leaf", (BUS,), hosts=(self._address(node),), speaks_for=behind)
        for site in sites_with_parties(self.profile):
            yield self._gateway(site), self._helper(site)
        yield control, self._orchestrator(meetings=self._meetings(), **hub)
        for site in sites_with_parties(self.profile):
            for party in self.profile.sites[site].parties:
                after = (self._server(site), helper_of(site))
                node = host_name(self.profile.sites[site].node_of(party).name)
                desk = self._helper_config(site).desk(party)
                own = {"desk": desk, "scope": self.profile.overlay.scope, "host": self._address(node)}
                yield node, self._agent(party, after, **own, **self._bus(site))
        handed: dict[str, Any] = {"descriptor": HANDED, "gateway": self._address(control)}
        yield control, self._api(port=self.places.api_port, **handed, **hub)

    def clustered(self) -> Iterator[tuple[str, Unit]]:
        """Each in its namespace. Where a pod is, it is told when it starts."""
        profile, control = self.profile, control_namespace(self.profile.name)
        hub = {"bus": f"tls://{hub_in(profile)}:{PORTS['bus']}"}
        yield control, Unit(BUS, "bus", hosts=(hub_in(profile), *peers_in(profile)))
        leaves = leaves_of(profile)
        namespaces = {party: party_namespace(profile.name, party) for party in self.marketplace.parties}
        policies = PoliciesConfig(testbed=control, namespaces=namespaces)
        for site, behind in leaves.items():
            yield control, Unit(server_of(site), "leaf", (BUS,), hosts=(leaf_in(profile, site),), speaks_for=behind)
        yield control, self._orchestrator(**hub)
        for party in self.marketplace.parties:
            site = profile.site_of(party)
            near = {"bus": f"tls://{leaf_in(profile, site)}:{PORTS['bus']}", "server": server_of(site)}
            own = near if site in leaves else hub
            after = (near["server"] if site in leaves else BUS,)
            members = {"port": PORTS["exchange"], "scope": profile.overlay.scope, "policies": policies, **own}
            yield namespaces[party], self._agent(party, after, **members)
        gateway = {"host": "0.0.0.0", "gateway_port": PORTS["exchange"]}  # noqa: S104  a pod's own, behind its policies
        yield control, self._api(port=PORTS["api"], **gateway, **hub)

    def _orchestrator(self, **members: Any) -> Unit:
        market = self.marketplace
        config = OrchestratorConfig(
            name=ORCHESTRATOR,
            api=self.places.units / ORCHESTRATOR / EDGE,
            parties=tuple(market.parties),
            archetypes=market.archetypes,
            request_types=market.request_types,
            services=market.services,
            **self._shared(ORCHESTRATOR),
            **members,
        )
        return Unit(ORCHESTRATOR, "orchestrator", (BUS,), config, (*_CREDENTIALS, EDGE))

    def _api(self, **members: Any) -> Unit:
        config = ApiConfig(
            name=API,
            jwks=self.places.units / API / JWKS,
            parties=tuple(self.marketplace.parties),
            orchestrator=self.places.units / API / SIGNER,
            **self._shared(API),
            **members,
        )
        return Unit(API, "api", (BUS,), config, (*_CREDENTIALS, JWKS, SIGNER))

    def _agent(self, name: str, after: tuple[str, ...], **members: Any) -> Unit:
        """Give a party's agent, with what it may know: its own affairs only."""
        market, folder = self.marketplace, self.places.units / name
        party = market.parties[name]
        config = AgentConfig(
            name=name,
            party=party,
            agreement=market.agreements.get(name, Agreement(name=name)),
            data_sets={each: market.data_sets[each] for each in party.data if each in market.data_sets},
            data=self.places.data.get(name, folder / "data"),
            orchestrator=folder / SIGNER,
            api=folder / EDGE,
            **self._shared(name),
            **members,
        )
        commands = (Path(service.command[0]) for service in market.services.values() if service.command)
        reads = tuple(dict.fromkeys((config.data, *(each.parent for each in commands if each.is_absolute()))))
        writes = (config.desk,) if config.desk else ()
        return Unit(name, "agent", after, config, (*_CREDENTIALS, SIGNER, EDGE), reads=reads, writes=writes)

    def _helper(self, site: str) -> Unit:
        config = self._helper_config(site)
        nodes = [host_name(node) for node in self.profile.sites[site].nodes]
        writes = tuple(config.world / "nodes" / node for node in nodes)
        files = (*_CREDENTIALS, SIGNER)
        return Unit(config.name, "network", (self._server(site),), config, files, writes=writes)

    def _helper_config(self, site: str) -> HelperConfig:
        assert self.places.world is not None, "a testbed with networks has a world"
        name = helper_of(site)
        kept = ("name", "driver", "marketplace", "sites", "control", "links", "overlay", "groups", "subnets")
        networks = Profile(**{member: getattr(self.profile, member) for member in kept})
        signer = self.places.units / name / SIGNER
        own = {**self._shared(name), **self._bus(site)}
        return HelperConfig(name=name, site=site, profile=networks, world=self.places.world, orchestrator=signer, **own)

    def _meetings(self) -> MeetingsConfig:
        profile = self.profile
        party_of = {each.name: each.party for each in self.state.of(Container).values()}
        return MeetingsConfig(
            scope=profile.overlay.scope,
            networks=tuple(
                {party_of[seat.container]: seat.address for seat in overlay.seats}
                for overlay in self.state.of(Overlay).values()
            ),
            sites={party: profile.site_of(party) for party in self.marketplace.parties},
            slots=slots(profile),
            control=profile.control_site if profile.control_site in sites_with_parties(profile) else None,
        )

    def _shared(self, name: str) -> dict[str, Any]:
        return {
            "marketplace": self.marketplace.name,
            "settings": self.profile.settings,
            "folder": self.places.units / name,
        }

    def _bus(self, site: str) -> dict[str, str]:
        """Give where the units of a site find the bus, and who they must find there."""
        url = f"tls://{self._address(self._gateway(site))}:{PORTS['bus']}"
        return {"bus": url, "server": self._server(site)}

    def _server(self, site: str) -> str:
        return BUS if site == self.profile.control_site else server_of(site)

    def _gateway(self, site: str) -> str:
        return host_name(self.profile.sites[site].gateway.name)

    def _address(self, node: str) -> str:
        return bare(self.state.of(Node)[node].address)
