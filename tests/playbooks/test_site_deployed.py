"""From bare nodes to answered requests with real Ansible over real ssh, and again without a change."""

import json
import tarfile

import pytest

from dynamos.deploy import places
from dynamos.middleware.identity.tokens import DevelopmentIssuer
from support.ansible import ansible, changes, recap

pytestmark = [pytest.mark.e2e, pytest.mark.testbed, pytest.mark.xdist_group("ansible")]
PROFILE = "three-sites"
INSIDE = """
import sys
from pathlib import Path
from dynamos.testbed.containers import Container
party, node, *argv = sys.argv[1:]
folder = Path("/var/lib/dynamos/world/nodes") / node / "containers" / party
sys.stdout.write(Container(folder, party, "", node).run(argv).text)
"""
REQUESTS = places.shipped() / "marketplaces" / "aviation" / "requests"


def play(world, name, *words):
    return ansible("ansible-playbook", name, *words, state=world.folder, profile=PROFILE)


def ask(world, name, user="ann@safety-board.example"):
    token = DevelopmentIssuer.load(world.folder / "issuer").token(user, ttl=600, audience="aviation")
    argv = ["curl", "-s", "-m", "60", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {token}"]
    argv += ["--json", "@-", "http://127.0.0.1:8080/api/v1/requestApproval"]
    done = world.find_node("amsterdam-1").run(argv, stdin=(REQUESTS / f"{name}.json").read_bytes(), within=90)
    body, _, code = done.text.rpartition("\n")
    return int(code), json.loads(body)


def inside(world, party, *argv):
    """Run a command in a party's container, as Ansible made it, and give what it prints."""
    node = next(each for each in world.nodes() if party in each.run(["ls", "/var/lib/dynamos/data"], check=False).text)
    python = "/opt/dynamos/current/bin/python"
    return node.run([python, "-c", INSIDE, party, node.name, *argv]).text


def sent(world, party):
    told = inside(world, party, "cat", "/sys/class/net/underlay/statistics/tx_bytes")
    return int(told)


def test_a_first_run_sets_every_node_up(deployed):
    assert set(deployed) == {"amsterdam-1", "los-angeles-1", "tokyo-1"}
    assert all(counts["changed"] > 0 and counts["failed"] == counts["unreachable"] == 0 for counts in deployed.values())


def test_a_second_run_changes_nothing(world, bundle, deployed):
    again = play(world, "site.yml", "-e", f"dynamos_bundle={bundle}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert changes(again) == []


def test_the_services_answer_requests_of_both_archetypes(world, deployed):
    for name in ("delay-by-origin", "delay-through-third-party"):
        code, told = ask(world, name)
        assert (code, told["state"]) == (200, "succeeded"), told


def test_rows_go_by_the_overlay_and_by_nothing_else(world, deployed):
    before = sent(world, "united")
    code, told = ask(world, "delay-through-third-party")
    assert code == 200, told
    assert sent(world, "united") - before > 100_000
    listening = [node.run(["ss", "-Hltn"]).text for node in world.nodes()]
    assert not [text for text in listening if ":8815" in text]  # nobody takes rows in the network of the nodes
    assert ":8815" in inside(world, "united", "ss", "-Hltn")


def test_what_agents_may_do_is_nothing_but_entering_containers_by_their_nursery(world, deployed):
    node = world.find_node("tokyo-1")
    # Jobs are in user namespaces of their own, where what they may do is over nothing of the node.
    script = """ours=$(readlink /proc/self/ns/user)
    for pid in $(pgrep -u dynamos-jetblue); do
    [ "$(readlink /proc/$pid/ns/user)" = "$ours" ] && grep -h CapEff /proc/$pid/status; done; true"""
    rights = [line.split()[1] for line in node.run(["sh", "-c", script]).text.splitlines()]
    assert set(rights) == {"0000000000000000", "0000000000200000"}
    assert rights.count("0000000000200000") == 1


def test_metrics_tell_of_every_unit_of_a_node(world, deployed):
    told = world.find_node("tokyo-1").run(["curl", "-sf", "http://127.0.0.1:9464/metrics"]).text
    for unit in ("node.machine", "bus.tokyo", "network-tokyo", "jetblue", "weather"):
        assert f'dynamos_unit_up{{unit="{unit}"}} 1' in told
    bounds = world.find_node("tokyo-1").run(["cat", "/var/log/dynamos/jetblue/config"]).text
    assert bounds.split() == ["s1000000", "n10"]


def test_the_policy_holds_there_too(world, deployed):
    code, told = ask(world, "refused-tailnum")
    assert code == 403, told


def test_keys_of_units_stay_on_their_nodes(world, deployed):
    keys = []
    for node in world.nodes():
        found = node.run(
            ["sh", "-c", "cat /var/lib/dynamos/units/*/key.pem /var/lib/dynamos/units/*/*/key.pem || true"]
        )
        keys += found.text.split("-----BEGIN PRIVATE KEY-----\n")[1:]
    assert len(keys) == len(set(keys)) >= 12
    at_controller = [path for path in world.folder.rglob("*") if path.is_file() and path.suffix in {".pem", ".json"}]
    assert not [
        path for path in at_controller for key in keys if key.splitlines()[1] in path.read_text(errors="replace")
    ]


def test_data_of_a_party_are_at_its_own_site_only(world, deployed):
    where = {node.name: node.run(["ls", "/var/lib/dynamos/data"]).text.split() for node in world.nodes()}
    assert where["los-angeles-1"] == ["delta", "united"]
    assert where["tokyo-1"] == ["jetblue", "weather"]
    node = world.find_node("tokyo-1")
    refused = node.run(["runuser", "-u", "dynamos-weather", "--", "ls", "/var/lib/dynamos/data/jetblue"], check=False)
    assert refused.code != 0


def test_what_runs_differently_is_seen_and_mended(world, bundle, deployed):
    node = world.find_node("tokyo-1")
    node.run(
        [
            "sh",
            "-c",
            "echo >> /var/lib/dynamos/units/jetblue/config.json",
        ]
    )
    assert play(world, "verify.yml").returncode != 0
    mended = play(world, "site.yml", "-e", f"dynamos_bundle={bundle}", "--tags", "agent")
    assert mended.returncode == 0, mended.stdout
    assert recap(mended)["tokyo-1"]["changed"] > 0
    verified = play(world, "verify.yml")
    assert verified.returncode == 0, verified.stdout


def test_a_wheel_with_another_hash_is_refused_and_nothing_is_installed(world, bundle, deployed, tmp_path):
    broken = tmp_path / bundle.name
    with tarfile.open(bundle) as whole, tarfile.open(broken, "w") as tar:
        for member in whole.getmembers():
            content = whole.extractfile(member)
            if "typer" in member.name:
                member.size = 4
                content = (tmp_path / "four").open("w+b")
                content.write(b"four")
                content.seek(0)
            tar.addfile(member, content)
            content.close()
    told = json.loads(bundle.with_suffix(".json").read_bytes())
    broken.with_suffix(".json").write_text(json.dumps({**told, "digest": "0" * 64}))
    done = play(world, "site.yml", "-e", f"dynamos_bundle={broken}", "--tags", "release", "--limit", "tokyo-1")
    assert done.returncode != 0
    assert "typer" in done.stdout
    assert "another hash" in done.stdout
    current = world.find_node("tokyo-1").run(["cat", "/opt/dynamos/current/release.json"]).text
    assert json.loads(current)["digest"] == told["digest"]
