"""`dynamos testbed isolation` of a testbed on a cluster: what is printed, in both forms, and the exit codes."""

import json

import pytest

pytest.importorskip("lightkube", reason="the extra kubernetes is not here")

from dynamos.cli.isolations import place
from dynamos.deploy.kubernetes import proving
from dynamos.deploy.kubernetes.kubectls import Kubectl
from dynamos.deploy.kubernetes.reaching import Reach
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import BadInput, Full
from dynamos.testbed.locks import locked
from dynamos.testbed.proofs.clusters import Target
from dynamos.testbed.proofs.findings import UNREACHED, Finding, Untold
from dynamos.testbed.proofs.matrices import Cell, Matrix
from support.commands import dynamos

RIGHT = Cell("now", "agent of klm", "bus", "10.0.0.1", "tcp", 4222, expected=True, observed=True, why="by the bus")
LEAK = Cell("now", "job of klm", "metadata", "169.254.169.254", "tcp", 80, expected=False, observed=True, why="no way")
UNTOLD = Untold(Target("internet 1.1.1.1", "world", "1.1.1.1", 443), 7, UNREACHED)


@pytest.fixture
def state(tmp_path):
    folder = StateFolder(tmp_path / "pilot")
    folder.make()
    Reach(kubeconfig="/k", context="c", namespace="pilot-ns").note(folder)
    return tmp_path


def told(capsys, state, *words):
    return dynamos(capsys, "testbed", "isolation", "-t", "pilot", "--state", state, *words)


def finds(monkeypatch, *cells, untold=()):
    asked = []

    def prove(*words):
        asked.append(words[:3])
        return Finding(Matrix(cells), untold)

    monkeypatch.setattr(proving, "prove", prove)
    return asked


def test_the_cluster_of_the_state_is_proven_and_what_proves_nothing_is_told_apart(capsys, state, monkeypatch):
    asked = finds(monkeypatch, RIGHT, untold=(UNTOLD,))
    said = told(capsys, state)
    assert (said.code, said.err) == (0, "")
    assert asked == [(Kubectl("/k", "c"), "pilot-ns", ("1.1.1.1", 443))]
    assert "nothing can be told of" in said.out
    assert UNREACHED[:20] in said.out
    assert "by the bus" not in said.out
    assert "by the bus" in told(capsys, state, "--all").out
    found = json.loads(told(capsys, state, "--format", "json").out)
    assert (found["holds"], found["tries"]) == (True, 1)
    assert found["untold"] == [{"name": "internet 1.1.1.1", "address": "1.1.1.1", "protocol": "tcp", "port": 443,
                                "tries": 7, "why": UNREACHED}]  # fmt: skip


def test_a_leak_is_70_and_named(capsys, state, monkeypatch):
    finds(monkeypatch, RIGHT, LEAK)
    said = told(capsys, state)
    assert said.code == 70
    assert "metadata" in said.out
    assert "nothing can be told of" not in said.out
    assert "[not-isolated]" in said.err


def test_what_the_cluster_refuses_is_said_and_no_traceback(capsys, state, monkeypatch):
    def prove(*_):
        raise Full("exceeded quota: party", hint="raise it", code="quota")

    monkeypatch.setattr(proving, "prove", prove)
    said = told(capsys, state)
    assert said.code == Full.exit
    assert "exceeded quota" in said.err
    assert "Traceback" not in said.err


def test_two_proofs_of_a_testbed_are_not_under_way_at_once(capsys, state, monkeypatch):
    finds(monkeypatch, RIGHT)
    with locked(state / "pilot" / "proof", within=1):
        said = told(capsys, state)
    assert said.code == 6
    assert "under way" in said.err
    assert told(capsys, state).code == 0


def test_a_server_beyond_the_cluster_is_an_address_and_a_port(capsys, state, monkeypatch):
    asked = finds(monkeypatch, RIGHT)
    assert told(capsys, state, "--internet", "[2001:db8::1]:80").code == 0
    assert asked[-1][2] == ("2001:db8::1", 80)
    assert place("192.0.2.1:443") == ("192.0.2.1", 443)
    for wrong in ("example.org:443", "192.0.2.1", "192.0.2.1:0", "192.0.2.1:99999", "", ":", "192.0.2.1:x"):
        with pytest.raises(BadInput):
            place(wrong)
    assert told(capsys, state, "--internet", "example.org:443").code == 2
