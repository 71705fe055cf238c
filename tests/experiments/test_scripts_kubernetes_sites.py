"""kubernetes_sites: a stretched cluster for real; parties by site, skips with their reasons, and claims."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dynamos.deploy import profiles
from dynamos.deploy.images import references
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.records import Record, Status
from dynamos.experiments.runs import find
from dynamos.experiments.scripts import load
from dynamos.kit.errors import JobFailed, Mistake, Mistakes, NotFound, Unavailable
from dynamos.model.clusters import Cluster

stretches = pytest.importorskip("dynamos.experiments.stretches")

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "kubernetes_sites.py"
IMAGES = Path(os.environ.get("DYNAMOS_TESTS_IMAGES", ROOT / ".dynamos/images"))
NEAR, FAR = ("safety-board", "registry", "united"), ("delta", "jetblue", "weather")


def test_the_script_is_a_program_with_a_question_claims_background_and_limits() -> None:
    declared = load(SCRIPT)
    assert os.access(SCRIPT, os.X_OK)
    assert declared.name == "kubernetes_sites"
    assert declared.question.endswith("?")
    assert len(declared.claims) == 4
    assert declared.background.strip()
    assert declared.limits


@pytest.mark.parametrize("leaves", [True, False])
def test_parties_are_put_on_the_sites_that_there_are(leaves: bool) -> None:
    spread = stretches.spread(profiles.load("kubernetes"), {"here": NEAR, "there": FAR}, leaves=leaves)
    assert spread.control_site == "here"
    assert spread.site_of("delta") == "there"
    assert spread.cluster.leaves is leaves
    assert spread.cluster.warm_pods == 2


def test_a_marketplace_of_the_same_profile_is_not_touched() -> None:
    profile = profiles.load("kubernetes")
    assert stretches.spread(profile, {"here": NEAR, "there": FAR}, leaves=False).name != profile.name


class Looks:
    """What a look at a cluster gives, one answer after the other."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self._answers = list(answers)

    def look(self) -> Any:
        if wheres := self._answers.pop(0):
            raise Mistakes([Mistake(where, "it is not there", "") for where in wheres])
        return "a plan"


def test_nodes_may_take_a_while_to_tell_of_images() -> None:
    late = Looks(("$.cluster.registry",), ("$.cluster.registry", "$.cluster.registry"), ())
    assert stretches.patiently(late.look, within=60, every=0) == "a plan"


@pytest.mark.parametrize(
    ("answers", "within"),
    [([("$.cluster.registry",)], 0), ([("$.cluster.registry", "$.name"), ()], 60), ([("$.name",), ()], 60)],
)
def test_what_else_is_in_the_way_is_told_at_once_and_images_in_the_end(
    answers: list[tuple[str, ...]], within: float
) -> None:
    with pytest.raises(Mistakes):
        stretches.patiently(Looks(*answers).look, within=within, every=0)


def kubectl(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_kubectl_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl(tmp_path, 'echo "no such namespace" >&2; exit 1', monkeypatch)
    with pytest.raises(JobFailed, match="kubectl get: no such namespace"):
        stretches.Kubectl(Cluster())("get", "pods")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(Unavailable, match="kubectl is not installed"):
        stretches.Kubectl(Cluster())("get", "pods")


def test_without_a_cluster_that_is_named_none_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(NotFound, match="nothing says which cluster"):
        stretches.sites(Cluster())


@pytest.mark.e2e
def test_without_a_cluster_every_trial_is_skipped_with_its_reason(tmp_path: Path) -> None:
    done = quickly(tmp_path, {"KUBECONFIG": ""})
    assert done.returncode == Unavailable.exit, done.stdout + done.stderr
    assert "no trial could be made" in done.stderr
    records = find(tmp_path / "runs", "kubernetes_sites").records()
    told = {str(record.cell["layout"]): str((record.error or {}).get("message")) for record in records}
    assert {record.status for record in records} == {Status.SKIPPED}
    assert "nothing says which cluster" in told["stretched"]
    assert "a profile names one cluster" in told["cluster-per-site"]


def quickly(folder: Path, env: dict[str, str], within: float = 120.0) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", "kubernetes_sites", "--quick", "--seed", "1"]
    argv += ["--runs", str(folder / "runs"), "--state", str(folder / "state")]
    env = os.environ | {"DYNAMOS_STATE": str(folder / "state")} | env
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=within, check=False)


# Claims, over trials that nobody made


def trials(*measures: dict[str, Any], layout: str = "stretched") -> Outcomes:
    began = datetime(2026, 1, 2, tzinfo=UTC)
    return Outcomes.of([
        Record(number=number, repetition=number, cell={"layout": layout}, status=Status.DONE, measures=each,
               began=began, seconds=1.0)
        for number, each in enumerate(measures)
    ])  # fmt: skip


def verdict(words: str, outcomes: Outcomes) -> Any:
    (claim,) = [each for each in load(SCRIPT).claims if words in each.words]
    found = claim.find(outcomes)
    return found[0] if isinstance(found, tuple) else found


def test_a_requestor_who_is_left_without_a_word_refutes_it() -> None:
    assert verdict("every requestor learns", trials({"near": "answered", "far": "refused"})) is True
    assert verdict("every requestor learns", trials({"near": "answered", "far": "hung"})) is False
    assert verdict("every requestor learns", trials({"compute": 1.0})) is None


def test_a_control_site_that_stands_still_refutes_it() -> None:
    assert verdict("goes on", trials({"near": "answered"}, {"near": "answered"})) is True
    assert verdict("goes on", trials({"near": "answered"}, {"near": "failed"})) is False
    assert verdict("goes on", trials({"compute": 1.0})) is None


def test_a_cluster_that_does_not_recover_refutes_it() -> None:
    assert verdict("by itself", trials({"near": "answered", "recovered": 2.0})) is True
    assert verdict("by itself", trials({"near": "answered", "recovered": 2.0}, {"near": "failed"})) is False
    assert verdict("by itself", trials({"compute": 1.0})) is None


@pytest.mark.parametrize(("leaves", "holds"), [(500.0, True), (2000.0, False), (1100.0, None), (None, None)])
def test_leaves_are_quieter_or_not(leaves: float | None, holds: bool | None) -> None:
    one = trials({"idle": 1000.0}, {"idle": 1200.0})
    many = trials({"idle": leaves} if leaves else {}, layout="stretched-leaves")
    assert verdict("sends less", Outcomes.of([*one, *many])) is holds


# For real


@pytest.mark.cluster
@pytest.mark.soak
@pytest.mark.system
@pytest.mark.xdist_group("cluster")
def test_a_quick_run_on_a_stretched_cluster(tmp_path: Path) -> None:
    from cluster.clusters import Cluster as Own  # noqa: PLC0415  Linux only
    from cluster.needs import missing  # noqa: PLC0415
    from cluster.specs import profile_of  # noqa: PLC0415

    from support.wans import netem_needs  # noqa: PLC0415

    if reason := missing():
        pytest.skip(str(reason))
    netem_needs()
    try:
        images = references.read(IMAGES)
    except NotFound as error:
        pytest.skip(str(error))
    own = Own.up(tmp_path / "c", profile_of(("here", "there"), 1, [("here", "there", "25ms")]), owner=os.getpid())
    try:
        for each in images.values():
            own.load(IMAGES / each.archive)
        env = {
            "KUBECONFIG": str(own.kubeconfig), "DYNAMOS_CLUSTER_WORLD": str(own.folder / "wan"),
            "DYNAMOS_IMAGES": str(IMAGES.resolve()), "PATH": f"{own.programs}:{os.environ['PATH']}",
        }  # fmt: skip
        done = quickly(tmp_path, env, within=900)
        assert done.returncode == 0, done.stdout + done.stderr
        left = json.loads(own.kubectl("get", "namespaces", "-l", "app.kubernetes.io/part-of=dynamos", "-o", "json"))
        assert not left["items"]
    finally:
        own.down()
    outcomes = Outcomes.of(find(tmp_path / "runs", "kubernetes_sites").records())
    (made,) = outcomes.done
    (skipped,) = outcomes.skipped
    assert made.cell["layout"] == "stretched"
    assert skipped.cell["layout"] == "cluster-per-site"
    assert made.measures["near"] is not None
    assert outcomes.median("compute") is not None
    assert (outcomes.median("idle") or 0) > 0
