"""Verbs of networks over a testbed that is made up: what is printed, in both forms, and the exit codes."""

import json
from types import SimpleNamespace

import pytest

from dynamos.cli import targets
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import JobFailed, NotFound
from dynamos.testbed.efforts import QUICK
from dynamos.testbed.expectations import expected
from dynamos.testbed.items import Link, Routes
from dynamos.testbed.measurements import Measured
from dynamos.testbed.proofs import subjects
from dynamos.testbed.proofs.canaries import Canaries, Sighting
from dynamos.testbed.proofs.matrices import Cell, Matrix
from dynamos.testbed.proofs.subjects import Subject
from dynamos.testbed.verifications import Deviation, Verification, Verified
from support.commands import dynamos
from support.worlds_of_profiles import profile_of, wanted_of

GOOD = Cell("before", "ann", "bea", "10.80.1.10", "tcp", 8815, expected=True, observed=True, why="both are in market")
LEAK = Cell("during", "ann", "cid", "10.80.2.10", "udp", 9, expected=False, observed=True, why="no edge leads there")
BIRD = Sighting("market", "vxlan", False, "ann", "bea", True, {"a-b": 29, "b-c": 0}, 40, 9000, 0)


class FakeWan:
    """Links that are changed in memory."""

    def __init__(self, wanted):
        self.declared = wanted.of(Link)
        self.now = dict(self.declared)

    def links(self):
        return dict(self.now)

    def emulators(self):
        return dict.fromkeys(self.now, "kernel")

    def _become(self, name, **update):
        link = next(each for each in self.now.values() if name in (each.name, "-".join(each.sites[::-1])))
        self.now[link.name] = link.model_copy(update=update)
        return self.now[link.name]

    def set(self, name, way, change):
        link = next(each for each in self.now.values() if name in (each.name, "-".join(each.sites[::-1])))
        ways = {each: change.of(getattr(link, each)) for each in ("forward", "backward") if way in (each, "both")}
        return self._become(name, **ways)

    def cut(self, name):
        return self._become(name, state="cut")

    def silence(self, name):
        return self._become(name, state="silent")

    def heal(self, name):
        self.now[name] = self.declared[name]
        return self.now[name]


@pytest.fixture
def subject(monkeypatch, tmp_path):
    wanted = wanted_of()
    world = SimpleNamespace(nodes=lambda: [SimpleNamespace(name="a-1"), SimpleNamespace(name="b-1")])
    found = Subject(profile_of(), wanted, world, FakeWan(wanted))
    monkeypatch.setattr(targets, "subject_of", lambda *_: found)
    monkeypatch.setattr(targets, "folder_of", lambda *_: StateFolder(tmp_path))
    return found


def told(capsys, *words, code=0):
    said = dynamos(capsys, *words)
    assert said.code == code, said.err
    return said


def links(capsys):
    found = json.loads(told(capsys, "link", "list", "--format", "json").out)
    return {each["name"]: each for each in found}


def test_links_are_listed_once_where_both_ways_are_alike(capsys, subject):
    said = told(capsys, "link", "list").out
    assert "a ↔ c" in said
    assert "0.5%" in said
    assert {each["state"] for each in links(capsys).values()} == {"up"}


def test_a_link_is_changed_one_way_and_both_are_shown(capsys, subject):
    said = told(capsys, "link", "set", "b-a", "--delay", "200ms", "--loss", "1%", "--way", "forward").out
    assert said == "~ link a-b: forward delay 10ms → 200ms, loss 0% → 1%\n"
    assert links(capsys)["a-b"]["forward"]["delay"] == "200ms"
    assert links(capsys)["a-b"]["backward"]["delay"] == "10ms"
    shown = told(capsys, "link", "list").out
    assert "a → b" in shown
    assert "a ← b" in shown
    assert "changed" in shown


def test_links_are_cut_silenced_and_healed(capsys, subject):
    assert told(capsys, "link", "cut", "a-b").out == "~ link a-b: state up → cut\n"
    assert told(capsys, "link", "silence", "a-c").out == "~ link a-c: state up → silent\n"
    assert told(capsys, "link", "cut", "a-b").out == "a-b is so already\n"
    assert {name: each["state"] for name, each in links(capsys).items()} == {"a-b": "cut", "b-c": "up", "a-c": "silent"}
    said = told(capsys, "link", "heal").out
    assert "~ link a-b: state cut → up" in said
    assert not any(each["changed"] for each in links(capsys).values())


def test_all_that_is_wrong_with_a_change_is_said(capsys, subject):
    said = told(capsys, "link", "set", "a-b", "--delay", "3parsecs", "--loss", "200%", code=2)
    assert "--delay" in said.err
    assert "--loss" in said.err
    assert "nothing to set" in told(capsys, "link", "set", "a-b", code=2).err


def test_a_link_that_is_not_there_is_5_and_names_those_that_are(capsys, subject):
    assert "a-b" in told(capsys, "link", "cut", "a-x", code=5).err


def test_isolation_counts_tries_and_shows_only_what_is_wrong(capsys, subject, monkeypatch):
    monkeypatch.setattr(subjects, "prove_isolation", lambda *_: Matrix((GOOD, LEAK)))
    said = told(capsys, "testbed", "isolation", code=70)
    assert "no edge leads there" in said.out
    assert "both are in market" not in said.out
    assert "[not-isolated]" in said.err
    assert "both are in market" in told(capsys, "testbed", "isolation", "--all", code=70).out
    found = json.loads(told(capsys, "testbed", "isolation", "--format", "json", code=70).out)
    assert (found["holds"], found["tries"], found["leaks"], found["blocked"]) == (False, 2, 1, 0)
    assert [cell["verdict"] for cell in found["cells"]] == ["ok", "leak"]


def test_isolation_that_holds_is_0(capsys, subject, monkeypatch):
    monkeypatch.setattr(subjects, "prove_isolation", lambda *_: Matrix((GOOD,)))
    assert told(capsys, "testbed", "isolation").err == ""


def test_canaries_are_told_per_link_and_driver(capsys, subject, monkeypatch):
    monkeypatch.setattr(subjects, "prove_canaries", lambda *_: Canaries((BIRD,)))
    said = told(capsys, "testbed", "canary").out
    assert "a-b 29" in said
    assert "vxlan" in said
    found = json.loads(told(capsys, "testbed", "canary", "--format", "json").out)
    assert found["canaries"][0]["seen"] == {"a-b": 29, "b-c": 0}


def test_a_canary_in_the_open_is_70(capsys, subject, monkeypatch):
    wrong = Sighting("market", "wireguard", True, "ann", "bea", True, {"a-b": 1}, 40, 9000, 0)
    monkeypatch.setattr(subjects, "prove_canaries", lambda *_: Canaries((wrong,)))
    said = told(capsys, "testbed", "canary", code=70)
    assert "plaintext" in said.out
    assert "plaintext: ann to bea in market (wireguard)" in said.err


def test_a_canary_for_a_request_needs_a_place_in_the_query(capsys, subject):
    assert "{canary}" in told(capsys, "testbed", "canary", "-p", "united", "-q", "SELECT 1", code=2).err


def verification(*deviations):
    wanted = wanted_of()
    declared = expected("a", "b", "198.18.1.11", wanted.of(Link), wanted.of(Routes))
    measured = Measured(
        "a", "b", 1000, 1000, 0.0123, 0.012, 0.013, 0.0001, round_trip=False, loss=0.0, loss_low=0.0, loss_high=0.004,
        reorder=0.0, rate=None, mtu=1500, refusal="path",
    )  # fmt: skip
    return Verification((Verified("a", "b", declared, measured, deviations, 1),), QUICK.name, 2.0)


def test_verify_prints_declared_beside_measured_and_is_7_where_they_differ(capsys, subject, monkeypatch):
    monkeypatch.setattr(subjects, "measured", lambda *_, **__: verification())
    assert "10 / 12.3" in told(capsys, "testbed", "verify").out
    wrong = verification(Deviation("delay", 0.01, 0.0123, "delay 10 ms declared, 12.3 ms measured"))
    monkeypatch.setattr(subjects, "measured", lambda *_, **__: wrong)
    said = told(capsys, "testbed", "verify", code=JobFailed.exit)
    assert "deviates" in said.out
    assert "12.3 ms measured" in said.err
    assert json.loads(told(capsys, "testbed", "verify", "--format", "json", code=7).out)["pairs"][0]["deviations"]


def test_sites_links_and_overlays_are_shown_with_what_is_down(capsys, subject, monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "folder_of", lambda *_: SimpleNamespace(root=tmp_path))
    found = json.loads(told(capsys, "testbed", "show", "--format", "json").out)
    nodes = {node["name"]: node["up"] for site in found["sites"] for node in site["nodes"]}
    assert nodes == {"a-1": True, "b-1": True, "c-1": False, "c-2": False}
    assert [each["name"] for each in found["overlays"]] == ["market"]
    assert "c-1 198.18.2.11 (down)" in told(capsys, "testbed", "show").out


def test_ssh_without_a_name_says_which_nodes_there_are(capsys, subject, monkeypatch, tmp_path):
    monkeypatch.setattr("dynamos.testbed.ssh.SshAccess", lambda _: SimpleNamespace(offer=lambda _: tmp_path / "config"))
    subject.world.folder = tmp_path
    assert "a-1, b-1" in told(capsys, "ssh", code=2).err
    assert told(capsys, "ssh", "--config").out == f"{tmp_path / 'config'}\n"


def test_a_testbed_without_networks_says_what_has_some(capsys, tmp_path, monkeypatch):
    with pytest.raises(Exception, match="no networks of its own"):
        Subject.find(profile_of(driver="processes"), tmp_path)
    monkeypatch.setenv("DYNAMOS_STATE", str(tmp_path))
    for words in (("link", "list"), ("testbed", "show"), ("testbed", "isolation"), ("reconcile",), ("ssh", "a")):
        assert told(capsys, *words, code=NotFound.exit).out == ""


def test_what_up_would_do_is_printed_and_not_done(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMOS_STATE", str(tmp_path))
    said = told(capsys, "up", "three-sites", "--dry-run").out
    assert "+ link amsterdam-tokyo: 115ms ± 300us 200mbit, mtu 1500\n" in said
    assert "> start at tokyo-1: " in said
    found = json.loads(told(capsys, "up", "three-sites", "--dry-run", "--format", "json").out)
    assert found["actions"][0] == {"do": "+", "item": "world", "text": "world: testbed three-sites"}
    assert "orchestrator" in found["units"]["amsterdam-1"]
    assert list(tmp_path.iterdir()) == []
