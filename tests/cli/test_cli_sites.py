"""Verbs of networks over a small testbed that is real: two sites, three parties, a network for each request."""

import subprocess

import pytest

from support.overlays import unable
from support.systems import USER, write_marketplace
from support.typed import Typed
from support.worlds import machine_state

pytestmark = [
    pytest.mark.testbed,
    pytest.mark.xdist_group("testbeds"),
    pytest.mark.skipif(bool(unable()), reason=unable()),
]
PROFILE = """
name: pair
driver: namespaces
marketplace: market
sites:
  east: {parties: [north, third]}
  west: {parties: [south]}
links:
  - {between: [east, west], delay: 10ms, rate: 100mbit}
overlay: {driver: vxlan, scope: request}
"""


@pytest.fixture(scope="module")
def typed(tmp_path_factory):
    """Types a command about the testbed, and gives what came of it."""
    folder = tmp_path_factory.mktemp("sites")
    write_marketplace(folder / "market")
    profile = folder / "pair.yaml"
    profile.write_text(PROFILE)
    made = Typed(folder / "state")
    before = machine_state()
    made("up", profile)
    yield made
    made("down", "--purge")
    assert machine_state() == before


def test_status_and_show_tell_of_sites_links_and_overlays(typed):
    found = typed.asked("status")["networks"]
    assert found == typed.asked("testbed", "show")
    assert [(site["name"], site["parties"]) for site in found["sites"]] == [
        ("east", ["north", "third"]), ("west", ["south"]),
    ]  # fmt: skip
    assert all(node["up"] for site in found["sites"] for node in site["nodes"])
    assert found["links"][0]["forward"]["delay"] == "10ms"
    assert "no overlays now" in typed("status")


def test_a_second_up_and_a_dry_run_have_nothing_to_do(typed):
    found = typed.asked("reconcile", "--dry-run")
    assert found["actions"] == []
    assert typed("reconcile") == "everything is as the profile says\n"


def test_commands_run_in_nodes_and_containers_with_their_exit_codes(typed):
    assert typed("exec", "west", "--", "hostname") == "west-1\n"
    assert typed("exec", "east", "-c", "third", "--", "hostname") == "third\n"
    typed("exec", "east-1", "--", "sh", "-c", "exit 7", code=7)
    typed("exec", "east", "-c", "south", "--", "true", code=5)
    typed("exec", "nowhere", "--", "true", code=5)


def test_ssh_leads_to_nodes_and_its_file_serves_others(typed):
    assert typed("ssh", "west", "--", "hostname") == "west-1\n"
    config = typed("ssh", "--config").strip()
    done = subprocess.run(["ssh", "-F", config, "east-1", "cat", "/etc/hostname"], capture_output=True, check=True)
    assert done.stdout == b"east-1\n"
    typed("ssh", "nowhere", code=5)


def test_links_are_changed_and_mended(typed):
    typed("link", "set", "west-east", "--delay", "30ms")
    assert "state up → cut" in typed("link", "cut", "east-west")
    said = typed("reconcile")
    assert "state cut → up" in said
    assert "30ms → 10ms" in said


@pytest.mark.e2e
def test_a_changed_link_is_measured_as_such(typed):
    typed("testbed", "verify")
    typed("link", "set", "west-east", "--delay", "30ms")
    assert "deviates" in typed("testbed", "verify", code=7)
    typed("testbed", "verify", "--present")
    typed("link", "heal")
    typed("testbed", "verify")


@pytest.mark.e2e
def test_isolation_holds_before_during_and_after_a_job(typed):
    found = typed.asked("testbed", "isolation")
    assert found["holds"]
    assert {cell["phase"] for cell in found["cells"]} == {"before", "during", "after"}
    assert any(cell["observed"] for cell in found["cells"] if cell["protocol"] == "tcp")
    assert typed.asked("testbed", "show")["overlays"] == []


def test_canaries_are_seen_on_the_link_since_vxlan_does_not_encrypt(typed):
    found = typed.asked("testbed", "canary")["canaries"]
    assert found
    assert all(each["seen"]["east-west"] for each in found)


def test_the_rows_of_a_request_are_seen_nowhere_whatever_the_driver(typed):
    query = "SELECT id, '{canary}' AS canary FROM things LIMIT 5"
    words = ("--as", USER, "-p", "south", "--archetype", "dataThroughTtp", "--type", "rows", "-q", query)
    (found,) = typed.asked("testbed", "canary", *words)["canaries"]
    assert (found["verdict"], found["delivered"], found["seen"]) == ("ok", True, {"east-west": 0})
