"""A profile becomes the resources of its testbed, each once, each after what it stands on."""

from pathlib import Path

import pulumi
import pytest

from dynamos.deploy.pulumi import programs
from dynamos.deploy.pulumi.components import Testbed, TestbedArgs
from dynamos.testbed.items import CLASSES, KINDS
from dynamos.testbed.wanted import wanted
from support.pulumi_programs import run
from support.worlds_of_profiles import profile_of

FOLDER = Path("/state/triangle")
KIND_OF = {"Link": "link", "Ground": "world", "Router": "router", "Routes": "routes", "Node": "node",
           "Container": "container", "Overlay": "overlay"}  # fmt: skip


def provision(**changes):
    profile = profile_of(**changes)
    return run(lambda: Testbed(profile.name, TestbedArgs(profile, FOLDER)).outputs())


def items_of(made):
    return [CLASSES[KIND_OF[each.kind]].model_validate(each.inputs["item"]) for each in made if each.kind in KIND_OF]


def test_it_asks_for_what_the_library_wants_and_nothing_else():
    found = provision()
    items = items_of(found.made)
    assert {item.key: item for item in items} == wanted(profile_of()).items
    assert len(items) == len(wanted(profile_of()).items)
    assert sorted(each.kind for each in found.made if each.kind not in KIND_OF) == ["Access"]


def test_everything_is_named_after_what_it_is():
    found = provision()
    assert set(found.of("Link")) == {"a-b", "b-c", "a-c"}
    assert set(found.of("Node")) == {"a-1", "b-1", "c-1", "c-2"}
    assert set(found.of("Ground")) == {"triangle"}


def test_what_stands_on_another_thing_knows_its_id():
    found = provision()
    assert found.of("Router")["a"]["on"] == {"world": "Ground/triangle"}
    assert found.of("Link")["a-b"]["on"] == {"a": "Router/a", "b": "Router/b"}
    assert found.of("Container")["cid"]["on"] == {"node": "Node/c-1"}
    assert found.of("Routes")["a"]["on"] == {"router": "Router/a", "a-b": "Link/a-b"}
    assert found.of("Overlay")["market"]["on"]["ann"] == "Container/ann"
    assert found.of("Access")["triangle"]["on"]["c-2"] == "Node/c-2"


def test_it_is_made_in_an_order_that_works():
    order = [each.kind for each in provision().made if each.kind in KIND_OF]
    for kind, needed in (("Router", "Ground"), ("Link", "Router"), ("Container", "Node"), ("Overlay", "Routes")):
        assert order.index(kind) > order.index(needed)
    assert set(KIND_OF.values()) == set(KINDS)


def test_outputs_tell_sites_addresses_members_and_the_api():
    told = provision().value
    assert told["driver"] == "namespaces"
    assert told["sites"]["c"] == {"parties": ["cid"], "nodes": ["c-1", "c-2"]}
    assert told["addresses"]["a-1"] == wanted(profile_of()).items["node", "a-1"].address.partition("/")[0]
    assert set(told["overlays"]["market"]) == {"ann", "abe", "bea", "cid"}
    assert told["api"].startswith("http://198.18.0.")


def test_machines_that_exist_are_taken_and_nothing_is_made_in_them():
    sites = {"a": {"parties": ["ann"], "nodes": {"m-1": {"address": "192.0.2.1", "user": "ada", "port": 2222}}}}
    found = provision(driver="ssh", sites=sites, links=[], overlay={"driver": "wireguard"})
    assert {each.kind for each in found.made} == {"Ground", "Machine", "Access"}
    assert found.of("Machine")["m-1"]["address"] == "192.0.2.1"
    assert found.of("Access")["triangle"]["machines"][0]["port"] == 2222
    assert found.value["addresses"] == {"m-1": "192.0.2.1"}


def test_the_inventory_groups_sites_parties_and_roles():
    groups = provision().of("Access")["triangle"]["inventory"]["all"]["children"]
    assert set(groups) == {"control", "gateways", "agents", *(f"site_{s}" for s in "abc"),
                           *(f"party_{p}" for p in ("ann", "abe", "bea", "cid"))}  # fmt: skip
    assert set(groups["control"]["hosts"]) == {"a-1"}
    assert set(groups["gateways"]["hosts"]) == {"a-1", "b-1", "c-1"}
    assert set(groups["agents"]["hosts"]) == {"a-1", "b-1", "c-1"}


def test_mistakes_of_a_profile_are_told_with_lines_and_nothing_is_made(tmp_path, caplog):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: wrong\nmarketplace: aviation\ndriver: namespaces\nsites:\n  a: {partys: [x]}\n")
    with pytest.raises(pulumi.RunError, match="mistake"):
        run(programs.configured, profile=str(wrong))
    assert "wrong.yaml:5:" in caplog.text
    assert "did you mean 'parties'?" in caplog.text


def test_a_driver_without_networks_is_refused_with_what_to_do():
    with pytest.raises(pulumi.RunError, match="dynamos up laptop"):
        run(programs.configured, profile="laptop")


def test_a_right_profile_is_given():
    assert run(programs.configured, profile="three-sites").value.name == "three-sites"
