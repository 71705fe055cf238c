"""What runs where, when sites are machines of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamos.deploy.provisioning import Grounds, certify
from dynamos.deploy.states import StateFolder
from dynamos.deploy.units import HANDED, Places, behind_leaves, sites_with_parties, units
from dynamos.kit.errors import BadInput
from dynamos.knowledge import leaves
from dynamos.knowledge.permissions import rights
from dynamos.middleware.identity.authority import serves_at
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.profiles import Profile

PLACES = Places(units=Path("/s/units"), data={}, api_port=8080, world=Path("/s/world"))
MARKET = Marketplace(name="m", parties={name: Party(name=name) for name in ("north", "South", "third")})


def profile(**members: object) -> Profile:
    return Profile.model_validate(
        {
            "name": "p",
            "driver": "namespaces",
            "marketplace": "m",
            "sites": {
                "east": {"parties": ["north"]},
                "west": {"parties": ["South"], "nodes": 2},
                "hub": {"parties": ["third"]},
                "exchange": {},
            },
            "control": "hub",
            "links": [{"between": ["east", "hub"]}, {"between": ["west", "hub"]}, {"between": ["exchange", "hub"]}],
            **members,
        }
    )


def by_node(**members: object) -> dict[str, list[str]]:
    return {node: [each.name for each in found] for node, found in units(profile(**members), MARKET, PLACES).items()}


def test_every_unit_has_its_node_and_sites_without_parties_have_none():
    assert by_node() == {
        "hub-1": ["bus", "network-hub", "orchestrator", "third", "api"],
        "east-1": ["bus.east", "network-east", "north"],
        "west-1": ["bus.west", "network-west", "South"],
    }


def test_units_talk_to_the_bus_of_their_site_and_expect_its_name():
    found = {each.name: each for node in units(profile(), MARKET, PLACES).values() for each in node}
    assert (found["north"].config.bus, found["north"].config.server) == ("tls://198.18.0.11:4222", "bus.east")
    assert (found["third"].config.bus, found["third"].config.server) == ("tls://198.18.2.11:4222", "bus")
    assert (found["api"].config.server, found["api"].config.descriptor) == ("bus", HANDED)
    assert found["api"].config.gateway == "198.18.2.11"
    assert found["bus.west"].speaks_for == ("network-west", "South")
    assert set(behind_leaves(profile())) == {"east", "west"}
    assert sites_with_parties(profile()) == ["east", "west", "hub"]


def test_a_helper_knows_the_networks_and_nothing_of_parties_or_people():
    plan = profile(admins={"north": ["ann@example.org"]}, dataFolders={"north": "/secret"})
    helper = next(each for each in units(plan, MARKET, PLACES)["west-1"] if each.role == "network")
    text = helper.config.model_dump_json()
    assert "ann@example.org" not in text
    assert "/secret" not in text
    assert helper.writes == (Path("/s/world/nodes/west-1"), Path("/s/world/nodes/west-2"))
    assert rights(MARKET.parties, ["west"])["network-west"].writes == ()


def test_the_orchestrator_is_told_who_shares_which_network():
    found = units(profile(), MARKET, PLACES)
    meetings = next(each for each in found["hub-1"] if each.role == "orchestrator").config.meetings
    assert [set(network) for network in meetings.networks] == [{"north", "South", "third"}]
    assert meetings.sites == {"north": "east", "South": "west", "third": "hub"}
    scoped = units(profile(overlay={"driver": "vxlan", "scope": "request"}), MARKET, PLACES)
    meetings = next(each for each in scoped["hub-1"] if each.role == "orchestrator").config.meetings
    assert (meetings.networks, meetings.slots > 1000) == ((), True)


def test_a_party_cannot_be_called_like_a_sites_helper():
    market = Marketplace(name="m", parties={"network-east": Party(name="network-east")})
    plan = profile(sites={"east": {"parties": ["network-east"]}, "hub": {}}, links=[{"between": ["east", "hub"]}])
    with pytest.raises(BadInput, match="network-east"):
        units(plan, market, PLACES)


def test_leaves_have_a_certificate_for_each_account_and_servers_one_for_their_address(tmp_path):
    grounds = Grounds(StateFolder(tmp_path), profile(), MARKET, 0, 8080)
    grounds.folder.make()
    certify(grounds)
    unit = grounds.folder.unit
    assert serves_at(unit("bus") / "certificate.pem", ["198.18.2.11"])
    assert serves_at(unit("bus.east") / "certificate.pem", ["198.18.0.11"])
    assert not serves_at(unit("north") / "certificate.pem", ["198.18.0.11"])
    assert (unit("bus.east") / leaves.remote_of("north") / "key.pem").exists()
    assert not (unit("bus.east") / leaves.remote_of("South")).exists()
    before = (unit("bus") / "certificate.pem").read_bytes()
    certify(grounds)
    assert (unit("bus") / "certificate.pem").read_bytes() == before
    moved = Grounds(grounds.folder, profile(subnets={"wan": "10.20.0.0/15"}), MARKET, 0, 8080)
    certify(moved)
    assert serves_at(unit("bus") / "certificate.pem", ["10.20.2.11"])


def test_a_leaf_lets_its_units_say_what_they_may_say_at_the_hub_under_names_that_travel():
    table = rights(MARKET.parties, ["east"])
    renamed = dict(leaves.imports_of(table["north"]))
    assert renamed["$KV.party_north.>"] == "via.KV.party_north.>"
    assert all(not name.startswith("$") for name in renamed.values())
