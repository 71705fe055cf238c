"""What Ansible is told of a profile's nodes: groups, units, identities, and who is missing."""

import json

import pytest

from dynamos.deploy import inventories
from dynamos.deploy.inventories import Reached, from_outputs, inventory, user_of
from dynamos.kit.errors import BadInput, NotFound

NODES = {"amsterdam-1": "amsterdam", "los-angeles-1": "los-angeles", "tokyo-1": "tokyo"}
REACHED = [Reached(node, site, {"ansible_host": node}) for node, site in NODES.items()]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return inventory("three-sites", REACHED, tmp_path_factory.mktemp("control"))


def units(found, node):
    return {unit["name"]: unit for unit in found.hosts[node]["dynamos_units"]}


def test_nodes_are_grouped_by_site_party_and_role(three):
    assert three.groups["site_los_angeles"] == ("los-angeles-1",)
    assert three.groups["party_jetblue"] == ("tokyo-1",)
    assert three.groups["control"] == ("amsterdam-1",)
    assert set(three.groups["provider"]) == set(NODES)
    assert three.groups["compute"] == ("amsterdam-1",)


def test_each_unit_is_on_its_node_with_a_user_of_its_own(three):
    assert set(units(three, "amsterdam-1")) == {
        "node.machine", "node.metrics", "bus", "network-amsterdam", "orchestrator", "node.door", "api", "safety-board",
        "registry",
    }  # fmt: skip
    assert set(units(three, "tokyo-1")) == {
        "node.machine", "node.metrics", "bus.tokyo", "network-tokyo", "jetblue", "weather",
    }  # fmt: skip
    everybody = [unit for node in NODES for unit in units(three, node).values()]
    assert {unit["role"] for unit in everybody if unit["user"] == "root"} == {"machine", "network"}
    apart = [unit for unit in everybody if unit["role"] != "door"]  # the API's own, and so its user
    users = [unit["user"] for unit in apart if unit["user"] != "root"]
    assert len(users) - users.count("dynamos-node-metrics") == len(set(users)) - 1
    assert all(len(user_of("a-very-long-name-of-a-party" + end)) <= 32 for end in ("", "-x"))
    assert user_of("a-very-long-name-of-a-party-x") != user_of("a-very-long-name-of-a-party-y")


def test_a_units_configuration_names_places_on_its_node_only(three, tmp_path):
    config = json.loads(units(three, "los-angeles-1")["united"]["config"])
    assert config["host"] == "198.18.1.11"
    assert config["server"] == "bus.los-angeles"
    assert config["desk"] == "/var/lib/dynamos/desks/united"
    assert config["data"] == "/var/lib/dynamos/data/united"
    assert "jetblue" not in json.dumps(config["party"])
    api = json.loads(units(three, "amsterdam-1")["api"]["config"])
    assert api["host"] == "127.0.0.1"


def test_a_leaf_has_a_certificate_for_each_unit_that_it_speaks_for(three):
    names = {each["name"]: each for each in three.hosts["tokyo-1"]["dynamos_identities"]}
    assert set(names) == {
        "bus.tokyo", "leaf.network-tokyo", "leaf.jetblue", "leaf.weather", "network-tokyo", "jetblue", "weather",
    }  # fmt: skip
    assert names["leaf.jetblue"]["user"] == names["bus.tokyo"]["user"] != names["jetblue"]["user"]
    assert names["jetblue"]["hosts"] == ["198.18.2.11"]


def test_half_a_testbed_is_refused_with_what_is_missing(tmp_path):
    with pytest.raises(BadInput, match="nodes are missing: tokyo-1; there: amsterdam-1, los-angeles-1"):
        inventory("three-sites", REACHED[:2], tmp_path)


def test_a_profile_without_nodes_is_refused(tmp_path):
    with pytest.raises(BadInput, match="has no nodes to set up"):
        inventory("laptop", REACHED, tmp_path)


def test_a_testbed_that_is_not_up_is_told(tmp_path):
    with pytest.raises(NotFound, match="the testbed is not up"):
        inventories.live(tmp_path, "three-sites")


def test_the_outputs_of_a_stack_give_the_same_inventory(three, tmp_path):
    hosts = {node: {"dynamos_site": site, "ansible_host": node} for node, site in NODES.items()}
    told = {"inventory": {"all": {"hosts": hosts, "vars": {"ansible_ssh_common_args": "-F x"}}}}
    (tmp_path / "outputs.json").write_text(json.dumps(told))
    found = from_outputs(tmp_path / "outputs.json", "three-sites", tmp_path)
    assert found.groups == three.groups
    assert found.hosts["tokyo-1"]["ansible_ssh_common_args"] == "-F x"
    (tmp_path / "outputs.json").write_text("{}")
    with pytest.raises(BadInput, match="not a stack's outputs"):
        from_outputs(tmp_path / "outputs.json", "three-sites", tmp_path)


def test_agents_take_streams_in_their_containers_and_the_helper_knows_whose_desk_is_whose(three):
    helper = json.loads(units(three, "tokyo-1")["network-tokyo"]["config"])
    assert helper["users"] == {"jetblue": "dynamos-jetblue", "weather": "dynamos-weather"}
    assert helper["desks"] == "/var/lib/dynamos/desks"
    meetings = json.loads(units(three, "amsterdam-1")["orchestrator"]["config"])["meetings"]
    seats = {seat["container"]: seat["address"] for seat in three.hosts["tokyo-1"]["dynamos_overlays"][0]["seats"]}
    assert meetings["networks"] == [seats]


def test_another_driver_of_overlays_is_one_word(tmp_path):
    found = inventory("three-sites", REACHED, tmp_path, overlay="wireguard")
    assert found.shared["dynamos_overlay"]["driver"] == "wireguard"
    assert "wireguard-tools" in found.shared["dynamos_overlay"]["programs"].values()
    assert found.hosts["tokyo-1"]["dynamos_overlays"][0]["driver"] == "wireguard"
    with pytest.raises(BadInput, match="no overlay has the driver 'pigeons'"):
        inventory("three-sites", REACHED, tmp_path, overlay="pigeons")


def test_parties_of_a_site_on_several_nodes_are_refused(tmp_path):
    profile = tmp_path / "two-nodes.yaml"
    profile.write_text(
        "extends: three-sites\nname: two-nodes\nsites:\n  tokyo:\n    parties: [jetblue, weather]\n"
        "    nodes: {tokyo-1: {}, tokyo-2: {}}\n"
    )
    reached = [*REACHED, Reached("tokyo-2", "tokyo", {"ansible_host": "tokyo-2"})]
    with pytest.raises(BadInput, match="'tokyo' has parties on 2 nodes"):
        inventory(profile, reached, tmp_path)
