"""What runs where, when a party is a namespace of a cluster."""

from __future__ import annotations

from pathlib import Path

from dynamos.deploy.units import Places, Unit, leaves_of, units
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.profiles import Profile

PLACES = Places(units=Path("/s/units"), data={"North_One": Path("/data")})
MARKET = Marketplace(name="m", parties={name: Party(name=name) for name in ("North_One", "south")})


def profile(**members: object) -> Profile:
    sites = {"east": {"parties": ["North_One"]}, "west": {"parties": ["south"]}}
    return Profile.model_validate({"name": "P", "driver": "kubernetes", "marketplace": "m", "sites": sites, **members})


def placed(**members: object) -> dict[str, Unit]:
    found = units(profile(**members), MARKET, PLACES)
    return {f"{node}/{unit.name}": unit for node, each in found.items() for unit in each}


def test_each_party_has_a_namespace_and_the_rest_share_one():
    assert list(placed()) == ["p/bus", "p/orchestrator", "p/api", "p-north-one/North_One", "p-south/south"]
    assert list(placed(sites={})) == list(placed())


def test_everybody_talks_to_the_hub_unless_sites_have_leaves():
    hub = {each.config.bus for each in placed().values() if each.config}
    assert hub == {"tls://bus.p.svc:4222"}
    found = placed(cluster={"leaves": True})
    assert leaves_of(profile(cluster={"leaves": True})) == {"west": ("south",)}
    assert found["p/bus.west"].speaks_for == ("south",)
    agent = found["p-south/south"]
    assert (agent.config.bus, agent.config.server, agent.after) == (
        "tls://bus-west.p.svc:4222",
        "bus.west",
        ("bus.west",),
    )
    assert found["p-north-one/North_One"].config.server == "bus"


def test_three_servers_of_the_bus_have_names_of_their_own():
    assert placed()["p/bus"].hosts == ("bus.p.svc",)
    assert placed(cluster={"busReplicas": 3})["p/bus"].hosts[1:] == (
        "bus-0.bus-peers.p.svc",
        "bus-1.bus-peers.p.svc",
        "bus-2.bus-peers.p.svc",
    )


def test_ports_are_known_beforehand_so_that_policies_can_name_them():
    found = placed()
    assert found["p/api"].config.port == 8080
    assert found["p/api"].config.gateway_port == found["p-south/south"].config.port == 8815
    assert found["p-north-one/North_One"].config.data == Path("/data")
