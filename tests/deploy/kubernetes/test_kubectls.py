"""The program kubectl: how it is asked, and what its complaints mean to a person."""

from __future__ import annotations

import json
import os
import sys

import pytest

from dynamos.deploy.kubernetes.kubectls import Kubectl, PodHost, complaint, listed
from dynamos.kit.errors import Broken, Full, JobFailed, NotFound, Refused, TimedOut, Unauthenticated, Unavailable
from dynamos.testbed.proofs import programs

PROGRAM = """#!{python}
import json, subprocess, sys
words = sys.argv[1:]
if "hang" in words:
    import time
    time.sleep(60)
if "fail" in words:
    sys.exit("Error from server (Forbidden): pods is forbidden")
if "exec" in words:
    sys.exit(subprocess.run([sys.executable, *words[words.index("--") + 2:]]).returncode)
answers = {{"many": '{{"items": [{{"kind": "Pod"}}]}}', "one": '{{"kind": "Service"}}', "none": "", "odd": "<html>",
           "say": json.dumps([words, sys.stdin.read()])}}
print(next(text for word, text in answers.items() if word in words))
"""


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """Give a program of that name which repeats what it is told, and fails and hangs when it is told to."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    config = tmp_path / "config"
    config.write_text("")
    return Kubectl(str(config))


def test_it_is_told_which_cluster_and_what_to_read(kubectl):
    words, read = json.loads(kubectl("say", stdin=b"text").stdout)
    assert words == ["--kubeconfig", kubectl.kubeconfig, "say"]
    assert read == "text"
    words, _ = json.loads(Kubectl(kubectl.kubeconfig, "mine")("say").stdout)
    assert words[2:] == ["--context", "mine", "say"]


def test_lists_single_objects_and_none_are_read_and_nothing_else_is_believed(kubectl):
    assert listed(kubectl, "many") == [{"kind": "Pod"}]
    assert listed(kubectl, "one") == [{"kind": "Service"}]
    assert listed(kubectl, "none") == []
    with pytest.raises(Broken, match="<html>"):
        listed(kubectl, "odd")


def test_what_fails_or_hangs_is_told_with_the_cluster(kubectl):
    with pytest.raises(Refused, match="pods is forbidden") as caught:
        kubectl("fail")
    assert caught.value.where == kubectl.kubeconfig
    with pytest.raises(TimedOut, match="did not end within"):
        kubectl("hang", within=0.3)


def test_without_the_program_or_the_kubeconfig_that_is_said(kubectl, monkeypatch, tmp_path):
    with pytest.raises(NotFound, match="kubeconfig is not there") as caught:
        Kubectl(str(tmp_path / "none"))("get")
    assert caught.value.hint
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="kubectl is not installed"):
        kubectl("get")


def test_programs_of_proofs_run_in_a_pod_without_a_shell(kubectl):
    host = PodHost(kubectl, "job of klm", "p-klm", "proof-job")
    knock = {"address": "127.0.0.1", "protocol": "tcp", "port": 1, "token": "0", "raw": ""}
    assert programs.answers(host, "knock", {"patience": 5, "knocks": [knock]}, within=30) == ["refused"]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ('Error from server (Forbidden): pods "x" is forbidden: exceeded quota: party, requested: pods=1', Full),
        ('Error from server (Forbidden): pods "x" is forbidden: violates PodSecurity "restricted:latest"', Broken),
        ('Error from server (Forbidden): nodes is forbidden: User "eve" cannot list resource "nodes"', Refused),
        ("error: You must be logged in to the server (Unauthorized)", Unauthenticated),
        (
            "The connection to the server 192.0.2.1:6443 was refused - did you specify the right host or port?",
            Unavailable,
        ),
        ("Unable to connect to the server: net/http: TLS handshake timeout", Unavailable),
        ('error: context "gone" does not exist', NotFound),
        ('Error from server (NotFound): pods "x" not found', NotFound),
        ("error: timed out waiting for the condition on pods/x", TimedOut),
        ("command terminated with exit code 1", JobFailed),
        ("", JobFailed),
    ],
)
def test_each_complaint_is_the_error_that_a_person_can_do_something_about(said, kind):
    found = complaint("create", said, "kubeconfig")
    assert type(found) is kind
    assert str(found).startswith("kubeconfig: kubectl create: ")
    assert bool(found.hint) == (kind not in (Broken, NotFound, JobFailed))
