"""Another release, and other keys, under a load of five requests a second: none is lost, none refused."""

import json
import os
import tarfile
import zipfile
from hashlib import sha256

import pytest

from dynamos.deploy import places
from dynamos.middleware.identity.tokens import DevelopmentIssuer
from support.ansible import ansible, changes, recap
from support.loads import ask_of, load
from support.soaks import soaking

pytestmark = [pytest.mark.e2e, pytest.mark.testbed, pytest.mark.xdist_group("ansible")]
PROFILE = "three-sites"
REQUESTS = places.shipped() / "marketplaces" / "aviation" / "requests"
ASKED = [("united", False), ("jetblue", False), ("delta", False), ("united", True), ("jetblue", True)]
"""Providers, and whether the safety board computes over their rows."""
USER = "ann@safety-board.example"


def play(world, name, *words):
    done = ansible("ansible-playbook", name, *words, state=world.folder, profile=PROFILE)
    assert done.returncode == 0, done.stdout + done.stderr
    return recap(done)


@pytest.fixture(scope="module")
def token(world, deployed):
    return DevelopmentIssuer.load(world.folder / "issuer").token(USER, ttl=1800, audience="aviation")


@pytest.fixture(scope="module")
def asks(token):
    return [ask_of(body_of(provider, through=through), token) for provider, through in ASKED]


def body_of(provider, *, through=False):
    """Give a small request, so that it is the changes that count and not the machine's two cores."""
    body = json.loads((REQUESTS / "delay-through-third-party.json").read_bytes())
    body |= {"dataProviders": [provider], "deadline": "5m"}  # a busy machine is no lost request
    body["data_request"] |= {
        "query": "SELECT origin, dep_delay FROM flights LIMIT 100",
        "options": {"aggregate": through},
    }
    return body


def api(world, token, path, body=None):
    argv = ["curl", "-s", "-m", "60", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {token}"]
    argv += [*(("--json", "@-") if body else ()), f"http://127.0.0.1:8080/api/v1/{path}"]
    stdin = json.dumps(body).encode() if body else None
    text, _, code = world.find_node("amsterdam-1").run(argv, stdin=stdin, within=90).text.rpartition("\n")
    return int(code), json.loads(text)


def pids(world):
    """Give the process of every service, by node and name."""
    found = {}
    for node in world.nodes():
        told = node.run(["sh", "-c", "cd /etc/dynamos/runit && grep -H . */supervise/pid"]).text
        found |= {(node.name, line.split("/")[0]): line.split(":")[1] for line in told.splitlines()}
    return found


def another_release(bundle, folder):
    """Make a bundle whose wheel of this project says something else."""
    told, made = json.loads(bundle.with_suffix(".json").read_bytes()), folder / "another.tar"
    with tarfile.open(bundle) as whole:
        whole.extractall(folder, filter="data")
    (wheel,) = (folder / "wheels").glob("dynamos-*.whl")
    with zipfile.ZipFile(wheel, "a") as packed:
        packed.writestr("dynamos/another.py", "")
    told["wheels"][wheel.name] = sha256(wheel.read_bytes()).hexdigest()
    told["digest"] = sha256(json.dumps(told["wheels"]).encode()).hexdigest()
    with tarfile.open(made, "w") as tar:
        tar.add(folder / "wheels", "wheels")
    made.with_suffix(".json").write_text(json.dumps(told))
    return made, told["digest"]


@pytest.fixture(scope="module")
def other(bundle, deployed, tmp_path_factory):
    return another_release(bundle, tmp_path_factory.mktemp("another"))


def test_an_upgrade_loses_and_refuses_no_request(world, other, token, asks):
    made, digest = other
    body = {**body_of("united"), "jobId": "promised"}
    assert api(world, token, "jobs?wait=true", body)[0] == 200
    before = pids(world)
    with load(world.find_node("amsterdam-1"), asks) as found:
        play(world, "upgrade.yml", "-e", f"dynamos_bundle={made}")
    print(f"upgrade: {found}")
    assert len(found.answers) > 20
    assert found.bad == []
    for node in world.nodes():
        assert json.loads(node.run(["cat", "/opt/dynamos/current/release.json"]).text)["digest"] == digest
    after = pids(world)
    stayed = {name for (node, name), pid in before.items() if after[node, name] == pid}
    assert stayed == {"node.door", "node.machine"}
    code, told = api(world, token, "jobs/promised/result?format=json")
    assert code == 200, told


@pytest.mark.parametrize("anew", [False, soaking(True)], ids=["units", "authority"])
def test_a_rotation_of_all_keys_loses_and_refuses_no_request(world, deployed, token, asks, anew):
    def certificates():
        text = "sha256sum $(find /var/lib/dynamos/units -name certificate.pem)"
        found = [node.run(["sh", "-c", text]).text.splitlines() for node in world.nodes()]
        return {line.split()[0] for lines in found for line in lines}

    authority = world.folder / "authority" / "authority.pem"
    former, before = authority.read_text(), certificates()
    with load(world.find_node("amsterdam-1"), asks) as found:
        play(world, "rotate.yml", "-e", f"rotate_authority={str(anew).lower()}")
    print(f"rotation: {found}")
    assert len(found.answers) > 20
    assert found.bad == []
    assert len(before) > 10
    assert not before & certificates()
    now = authority.read_text()
    assert now.count("BEGIN CERTIFICATE") == 1
    assert (now != former) is anew
    for node in world.nodes():
        told = node.run(["sh", "-c", "cat /var/lib/dynamos/units/*/authority.pem | sort -u | grep -c BEGIN"]).text
        held = node.run(["sh", "-c", "sha256sum /var/lib/dynamos/units/*/authority.pem | cut -c1-64 | sort -u"]).text
        assert (told.strip(), held.split()) == ("1", [sha256(now.encode()).hexdigest()])
    fresh = DevelopmentIssuer.load(world.folder / "issuer").token(USER, ttl=60, audience="aviation")
    assert api(world, fresh, "getAvailableProviders")[0] == 200


def test_nothing_is_left_to_do_afterwards(world, deployed):
    assert [counts["changed"] for counts in play(world, "verify.yml").values()] == [0, 0, 0]


def test_logs_and_the_audit_stream_are_collected_without_secrets(world, deployed, token):
    node = world.find_node("tokyo-1")
    leak = "echo 'a careless unit says " + token + "' >> /var/log/dynamos/jetblue/current"
    node.run(["sh", "-c", leak])
    code, _ = api(world, token, "requestApproval", body_of("jetblue"))
    assert code == 200
    play(world, "collect.yml")
    place = world.folder / "collected"
    assert {path.name for path in place.iterdir()} == {"amsterdam-1", "los-angeles-1", "tokyo-1"}
    told = {path.stem: path.read_text().splitlines() for path in (place / "amsterdam-1" / "audit").iterdir()}
    assert {"orchestrator", "jetblue", "united", "weather"} <= set(told)
    permitted = json.loads(told["orchestrator"][-1])
    assert (permitted["event"], permitted["user"]) == ("request.permitted", USER)
    assert json.loads(told["jetblue"][-1])["job"] == permitted["job"]
    said = (place / "tokyo-1" / "logs" / "jetblue" / "current").read_text()
    assert "a careless unit says [secret]" in said
    everything = "".join(path.read_text() for path in place.rglob("*") if path.is_file())
    assert token not in everything
    assert "PRIVATE KEY" not in everything
    left = "ls /var/lib/dynamos/units/orchestrator/audit; ls /tmp | grep dynamos-collect"
    assert world.find_node("amsterdam-1").run(["sh", "-c", left], check=False).text == ""


def test_another_driver_of_the_overlay_is_one_word(world, bundle, deployed, token):
    """The last one: from here on the overlay of this place is another."""
    os.environ["DYNAMOS_OVERLAY"] = "wireguard"
    counts = play(world, "site.yml", "-e", f"dynamos_bundle={bundle}")
    assert all(each["changed"] > 0 for each in counts.values())
    play(world, "verify.yml")
    code, told = api(world, token, "requestApproval", body_of("united", through=True))
    assert (code, told["state"]) == (200, "succeeded"), told
    tunnels = [node.run(["sh", "-c", "pgrep -f wireguard-go | wc -l"]).text.strip() for node in world.nodes()]
    assert "0" not in tunnels
    again = ansible(
        "ansible-playbook", "site.yml", "-e", f"dynamos_bundle={bundle}", state=world.folder, profile=PROFILE
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert changes(again) == []
