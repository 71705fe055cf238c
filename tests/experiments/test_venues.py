"""Venues: trials on testbeds of this machine, at an address, and on a stack; nothing stays, nothing else is touched."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from dynamos.deploy import profiles
from dynamos.deploy.places import profile_file
from dynamos.deploy.provisioning import token_for
from dynamos.deploy.states import StateFolder
from dynamos.deploy.testbeds import bring_up, take_down
from dynamos.experiments import proofs
from dynamos.experiments.amendments import Agreements
from dynamos.experiments.records import Status
from dynamos.experiments.stacks import OnStack
from dynamos.experiments.venues import Elsewhere, local
from dynamos.kit.errors import Unavailable
from dynamos.middleware.clients import BASE, Api
from dynamos.testbed.worlds import World
from support.experiments import script, swept
from support.machine import alive, gone
from support.pulumi_stacks import TWO_SITES, provisioned

ASK = """
USER, QUERY = "ann@safety-board.example", "SELECT origin, dep_delay FROM flights"

def ask(bed, **more):
    return bed.ask(USER, ["united"], QUERY, algorithm="sum", columns={"group": "origin", "value": "dep_delay"}, **more)
"""
CHANGES = (
    ASK
    + """
from dynamos.experiments.amendments import Amendment, without_user

@experiment.trial
def trial(bed, rows):
    with bed.happening([Amendment("50ms", "united", without_user(USER), "ann is out")]):
        end = time.monotonic() + 20
        while ((answer := ask(bed)).ok or not bed.happened) and time.monotonic() < end:
            pass
        if rows == 666:
            os.kill(os.getpid(), 9)
    return {"refused": answer.error is not None and answer.error.code == "refused", "after": ask(bed).ok}
"""
)
MEASURES = '[Measure("refused", "yes/no"), Measure("after", "yes/no")]'
FAULTS = """
from dynamos.model.networks import Fault

@experiment.trial
def trial(bed, rows):
    here, there = bed.world.find_node("here"), bed.world.find_node("there")
    address = bed.subject.wanted.items["node", there.name].address.partition("/")[0]

    def reaches():
        return here.run(["ping", "-c1", "-W1", address], check=False).code == 0

    before = reaches()
    with bed.happening([Fault(at="0s", action="cut", link="here-there")]):
        end = time.monotonic() + 20
        while not bed.happened and time.monotonic() < end:
            time.sleep(0.01)
        during = reaches()
        if rows == 666:
            os.kill(os.getpid(), 9)
    return {"before": before, "during": during, "after": reaches()}
"""
TELLS = """
@experiment.trial
def trial(bed, rows):
    (Path(__file__).parent / "supervisor").write_text(str(bed.status().supervisor))
    return {"total": rows}
"""
REACHES = '[Measure("before", "yes/no"), Measure("during", "yes/no"), Measure("after", "yes/no")]'


@pytest.mark.system
def test_an_agreement_changes_during_a_trial_and_is_what_it_was_afterwards(tmp_path):
    """Also on a marketplace elsewhere, where a trial is killed before it can change it back."""
    path = script(tmp_path, CHANGES, factors='[Factor("rows", [1])]', measures=MEASURES, needs='"marketplace"',
                  repetitions="1", warmups="0")  # fmt: skip
    made = swept(tmp_path, path)
    venue = local(tmp_path / "s", made.run, "marketplace")
    (record,) = made.go(venue)
    assert record.status is Status.DONE, record.error
    assert record.measures == {"refused": True, "after": True}
    (happened,) = record.happened
    assert (happened["party"], happened["amendment"], happened["planned"]) == ("united", "ann is out", 0.05)
    assert happened["done"] > happened["began"] >= 0.05
    assert record.requests
    assert record.usage
    assert record.testbed.startswith("laptop-")
    assert not venue.root.exists()
    (kept,) = (made.run.folder / "logs").glob("laptop-*")
    assert (kept / "supervisor.log").stat().st_size


@pytest.mark.system
def test_at_an_address_nothing_is_taken_down_and_what_a_killed_trial_changed_is_restored(tmp_path, monkeypatch):
    path = script(tmp_path, CHANGES, factors='[Factor("rows", [666])]', measures=MEASURES, needs='"marketplace"',
                  repetitions="1", warmups="0")  # fmt: skip
    made, state = swept(tmp_path, path), StateFolder(tmp_path / "s")
    status = bring_up(state, profile_file("laptop"))
    try:
        token = token_for(state, "legal@united.example")
        monkeypatch.setenv("DYNAMOS_TOKEN", token)
        venue = Elsewhere(status.api, token, made.run.journals)
        before = agreement(status.api, token)
        (record,) = made.go(venue)
        assert record.error["code"] == "trial-died"
        assert agreement(status.api, token) == before
        assert not made.run.journals.exists()
        assert state.is_held()
        Agreements(lambda _: Api(status.api, token=token), tmp_path).amend(
            "united", lambda own: {**own, "relations": {}}
        )
        assert agreement(status.api, token) != before
        Agreements(lambda _: Api(status.api, token=token), tmp_path).restore()
        assert agreement(status.api, token) == before
    finally:
        take_down(state)
    assert not venue.alive()
    with pytest.raises(Unavailable):
        venue.open(profiles.load("laptop"), path)


def agreement(address, token):
    with Api(address, token=token) as api:
        return api.get(f"{BASE}/policyEnforcer/agreements/united")


@pytest.mark.e2e
def test_a_testbed_that_a_killed_engine_left_is_taken_down_by_resume(tmp_path):
    path = script(tmp_path, TELLS, factors='[Factor("rows", [1])]', needs='"marketplace"', repetitions="400")
    words = [path, "--runs", tmp_path / "runs", "--state", tmp_path / "s"]
    argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", *words]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 90
        while not list((tmp_path / "runs").glob("tiny/latest/trials/t*3.json")):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    (folder,) = (tmp_path / "s").glob("x-*")
    left = StateFolder(folder)
    supervisor = left.read_status().supervisor
    assert left.is_held()
    process = subprocess.Popen([*argv, "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = (tmp_path / "runs" / "tiny" / "latest").resolve()
    (run / "supervisor").unlink()
    try:
        end = time.monotonic() + 90
        while not (run / "supervisor").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)
        gone("the testbed that was left", lambda: [supervisor] if alive(supervisor) else [])
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert not folder.exists()


@pytest.mark.testbed
@pytest.mark.xdist_group("networks")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_networks_alone_are_made_proved_disturbed_and_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(proofs, "_proved", lambda *_: {"links": {}})  # it takes its time, and has tests of its own
    (tmp_path / "two-sites.yaml").write_text(TWO_SITES)
    path = script(tmp_path, FAULTS, factors='[Factor("rows", [1])]', measures=REACHES, needs='"networks"',
                  profile=f'"{tmp_path}/two-sites.yaml"', repetitions="1", warmups="0")  # fmt: skip
    made = swept(tmp_path, path)
    venue = local(tmp_path / "s", made.run, "networks")
    (record,) = made.go(venue)
    assert record.status is Status.DONE, record.error
    assert record.measures == {"before": True, "during": False, "after": True}
    assert [each["fault"]["action"] for each in record.happened] == ["cut"]
    assert not venue.alive()
    assert not venue.root.exists()


def test_networks_of_a_testbed_without_any_are_a_skip_with_the_reason(tmp_path):
    made = swept(tmp_path, script(tmp_path, needs='"networks"', repetitions="1"))
    records = made.go(local(tmp_path / "s", made.run, "networks"))
    assert {record.status for record in records} == {Status.SKIPPED}
    assert "has no networks of its own" in records[0].error["message"]


@pytest.mark.e2e
@pytest.mark.testbed
@pytest.mark.xdist_group("networks")
def test_on_a_stack_links_are_disturbed_and_mended_the_api_is_reached_and_the_stack_stays(tmp_path):
    with provisioned(tmp_path, "xstack", TWO_SITES) as found:
        outputs = found.stack.up().outputs
        profile = profiles.load(found.profile)
        path = script(tmp_path, FAULTS, factors='[Factor("rows", [1, 666])]', measures=REACHES, needs='"networks"',
                      profile=f'"{found.profile}"', repetitions="1", warmups="0")  # fmt: skip
        made = swept(tmp_path, path)
        venue = OnStack.of(profile, found.state, outputs, needs="networks", journals=made.run.journals)
        made.go(venue)
        assert made.only(rows=1).measures == {"before": True, "during": False, "after": True}
        assert made.only(rows=666).error["code"] == "trial-died"
        here, there = (found.world.find_node(site).name for site in ("here", "there"))
        assert found.round_trip(here, there) > 0  # the killed trial's cut is mended
        assert not made.run.journals.exists()
        assert World.find(found.state / "xstack" / "world")
        other = profile.model_copy(update={"description": "another"})
        with pytest.raises(Unavailable, match="another testbed"):
            venue.open(other, path)
        with an_api(found.world.find_node("here")):
            market = dataclasses.replace(venue, needs="marketplace")
            place = market.open(profile, found.profile)
            with Api(place["api"]) as api:
                assert api.get(f"{BASE}/getAvailableProviders") == {}
            market.close()
        with pytest.raises(Unavailable):
            market.open(profile, found.profile)
        market.close()


@contextmanager
def an_api(node):
    """Something on a node that answers as the API would."""
    node.start("answers", ["python3", "-c", SERVER])
    try:
        asks = "import socket; socket.create_connection(('127.0.0.1', 8080), 1)"
        end = time.monotonic() + 30
        while node.run(["python3", "-c", asks], check=False).code:
            assert time.monotonic() < end
        yield
    finally:
        node.stop("answers")


SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""
