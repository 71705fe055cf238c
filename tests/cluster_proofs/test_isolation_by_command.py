"""`dynamos testbed isolation` of a marketplace that `pulumi up` put on a cluster: what it tells, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from support.clusters import eventually
from support.markets import market

pytest.importorskip("lightkube", reason="the extra kubernetes is not here")
scenes = pytest.importorskip("support.cluster_scenes")

pytestmark = [pytest.mark.cluster, pytest.mark.soak, pytest.mark.xdist_group("cluster")]
USER = "meg@united.example"
NAME = "proofs"
PARTY = "united"
OUTSIDE = f"{scenes.INTERNET[0]}:443"
WITHIN = 240
PROVEN = ("job of united", "agent of united", "orchestrator", "api", "bus", "outsider")


def command(made, *more):
    words = ["testbed", "isolation", "--state", str(made.state), "--testbed", NAME, "--internet", OUTSIDE, *more]
    return [sys.executable, "-m", "dynamos.cli.main", *words]


def proven(made, *more):
    """Run the command, and give its exit code, what it says in JSON, and its complaints."""
    begun = time.monotonic()
    argv = command(made, "--format", "json", *more)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=WITHIN, check=False)
    found = json.loads(done.stdout) if done.stdout else {}
    summary = {key: found.get(key) for key in ("holds", "tries", "leaks", "blocked", "untold")}
    print(f"{time.monotonic() - begun:.1f} s, exit {done.returncode}", summary, done.stderr, sep="\n")
    return done.returncode, found, done.stderr


def left(sites):
    found = [sites.kubectl("get", kind, "-A", "-l", f"dynamos.dev/proof={NAME}", "-o", "name") for kind in
             ("pods", "namespaces")]  # fmt: skip
    return "".join(found).split()


def jobs(sites):
    told = sites.kubectl("get", "pods", "-A", "-l", f"dynamos.dev/testbed={NAME},dynamos.dev/role=job", "-o", "name")
    return sorted(told.split())


def logs(sites):
    """Give what all agents of the marketplace have said."""
    told = sites.kubectl("get", "namespaces", "-l", f"dynamos.dev/testbed={NAME},dynamos.dev/party", "-o", "name")
    words = ("-l", "dynamos.dev/role=agent,dynamos.dev/testbed", "--tail=-1")
    return "".join(sites.kubectl("logs", "-n", name.partition("/")[2], *words) for name in told.split())


def through(found, source):
    return {cell["target"] for cell in found["cells"] if cell["source"] == source and cell["observed"]}


def interrupted(made, sites, number):
    """Begin a proof, and end it by a signal when its pods are there; give its exit code."""
    with subprocess.Popen(command(made), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        try:
            eventually("pods of a proof are there", lambda: len(left(sites)) > 1, within=60)
            os.kill(running.pid, number)
            return running.wait(WITHIN)
        finally:
            running.kill()


def test_a_marketplace_is_proven_by_command_and_a_policy_that_is_away_is_a_leak(sites, tmp_path):
    with market(sites, tmp_path, NAME) as made:
        made.stack.up()

        def warm() -> bool:
            made.ask("fleet-age", USER)
            return bool(jobs(sites))

        eventually("a pod of a job waits", warm, within=120)
        _holds(made, sites)
        _leaves_nothing(made, sites)
        _leaks(made, sites)


def _holds(made, sites):
    with scenes.world(sites):
        code, found, said = proven(made)
    assert (code, found["holds"], found["untold"]) == (0, True, []), said
    assert {cell["source"] for cell in found["cells"]} >= set(PROVEN)
    reached = through(found, "outsider")
    assert {name.partition(" ")[0] for name in reached} == {"API", "DNS", "kubelet", "node", "metadata", "internet"}
    assert through(found, f"job of {PARTY}") == {f"hail double of {PARTY}"}
    assert any(cell["target"].startswith("job-") and cell["observed"] for cell in found["cells"])
    assert left(sites) == []
    said = logs(sites)
    assert "pool.warm" in said
    assert "pool.lost" not in said, "a pod that waits for a job does not mind who knocks"
    assert made.ask("fleet-age", USER)


def _leaves_nothing(made, sites):
    assert interrupted(made, sites, signal.SIGTERM) == 130
    assert left(sites) == []
    interrupted(made, sites, signal.SIGKILL)
    assert left(sites)
    code, found, said = proven(made)
    assert code == 0, said
    assert {each["name"] for each in found["untold"]} == {"metadata", f"internet {scenes.INTERNET[0]}"}
    assert left(sites) == []


def _leaks(made, sites):
    sites.kubectl("delete", "networkpolicies", "job", "nothing-else", "-n", f"{NAME}-{PARTY}")
    code, found, said = proven(made)
    assert code == 70
    assert "[not-isolated]" in said
    leaks = {(cell["source"], cell["target"]) for cell in found["cells"] if cell["verdict"] == "leak"}
    out = {target.partition(" ")[0] for source, target in leaks if source == f"job of {PARTY}"}
    assert out >= {"API", "kubelet", "node", "DNS"}
    into = {(source, target) for source, target in leaks if source != f"job of {PARTY}"}
    assert ("outsider", f"job double of {PARTY}") in into
    assert {source for source, _ in into} == {"outsider"}, "everybody else is held by its own policies"
    assert left(sites) == []
