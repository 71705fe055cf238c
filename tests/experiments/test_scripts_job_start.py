"""job_start on a cluster: chains run as pods, cold, warm and by plain Jobs; where they cannot, trials say so."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamos.deploy import data, profiles
from dynamos.deploy.images import references
from dynamos.experiments import podtrials
from dynamos.experiments.beds import Bed, Skipped
from dynamos.experiments.chains import Chain
from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.records import Record, Status
from dynamos.experiments.runs import find
from dynamos.experiments.scripts import load
from dynamos.jobs.pods.hails import HAIL_PORT
from dynamos.kit.errors import BadInput, NotFound
from dynamos.model.clusters import Cluster

rooms = pytest.importorskip("dynamos.experiments.rooms")
from dynamos.experiments import plainjobs  # noqa: E402  it needs the same

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "experiments" / "job_start.py"
IMAGES = Path(os.environ.get("DYNAMOS_TESTS_IMAGES", ROOT / ".dynamos/images"))


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    each = {"version": "1", "digest": "sha256:0", "archive": "", "sbom": "", "architecture": "", "size": 0,
            "unpacked": 0, "contents": {}}  # fmt: skip
    told = {"images": dict.fromkeys(references.NAMES, each)}
    (folder / references.RECORD).write_text(json.dumps(told))
    return folder


def kubeconfig(folder: Path) -> Path:
    """A file with two contexts, neither of which leads anywhere."""
    path = folder / "config"
    here = {"server": "https://127.0.0.1:1", "certificate-authority": "ca.crt"}
    contexts = [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("one", "other")]
    path.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "one", "contexts": contexts,
        "clusters": [{"name": "c", "cluster": here}], "users": [{"name": "u", "user": {"token": "t"}}],
    }))  # fmt: skip
    return path


def bed(folder: Path, **cluster: Any) -> Bed:
    profile = profiles.load("bench").model_copy(update={"cluster": Cluster(**cluster)})
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return Bed(profile, scratch=scratch)


def test_without_a_cluster_a_trial_is_skipped_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    chain = Chain(["sql-query"], tmp_path)
    with pytest.raises(Skipped, match="no images were built here"):
        podtrials.run(bed(tmp_path), "kubernetes-cold", chain, [])
    monkeypatch.setattr(podtrials, "built", lambda _: _record(tmp_path))
    with pytest.raises(Skipped, match=r"nothing says which cluster .*KUBECONFIG"):
        podtrials.run(bed(tmp_path), "kubernetes-cold", chain, [])
    with pytest.raises(Skipped, match="there is no kubeconfig"):
        podtrials.run(bed(tmp_path, kubeconfig="absent"), "kubernetes-cold", chain, [])
    kubeconfig(tmp_path)
    with pytest.raises(Skipped, match=r"no cluster can be asked.*No such file"):
        podtrials.run(bed(tmp_path, kubeconfig="config"), "kubernetes-cold", chain, [])
    (tmp_path / "config").write_text((tmp_path / "config").read_text().replace("certificate-authority: ca.crt", ""))
    with pytest.raises(Skipped, match="the cluster does not answer"):
        podtrials.run(bed(tmp_path, kubeconfig="config"), "kubernetes-cold", chain, [])


def _record(folder: Path) -> Path:
    made = folder / "made"
    made.mkdir(exist_ok=True)
    each = references.Built("", "1", "sha256:0", "", "", "", 0, 0, {})
    references.write(made, dict.fromkeys(references.NAMES, each))
    return made


def test_a_users_own_kubeconfig_is_not_taken_unasked(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube")
    with pytest.raises(NotFound, match="nothing says which cluster"):
        rooms.Place.of(bed(tmp_path).profile, built, tmp_path)


def test_the_context_of_the_profile_is_the_one_that_is_meant(tmp_path: Path, built: Path) -> None:
    path = kubeconfig(tmp_path)
    place = rooms.Place.of(bed(tmp_path, kubeconfig=str(path)).profile, built, tmp_path / "scratch")
    assert place.kubeconfig == str(path)
    there = bed(tmp_path, kubeconfig=str(path), context="other", registry="registry.example.org/d")
    place = rooms.Place.of(there.profile, built, there.scratch)
    told = yaml.safe_load(Path(place.kubeconfig).read_text())
    assert told["current-context"] == "other"
    assert told["clusters"][0]["cluster"]["certificate-authority"] == str(tmp_path / "ca.crt")
    assert stat.S_IMODE(Path(place.kubeconfig).stat().st_mode) == 0o600
    assert place.images.courier == "registry.example.org/d/courier:1@sha256:0"
    with pytest.raises(NotFound, match="'another'"):
        rooms.Place.of(bed(tmp_path, kubeconfig=str(path), context="another").profile, built, tmp_path)


def test_pods_get_the_files_and_reach_nothing_but_who_they_hail(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"\0rows")
    namespace, walls, held = rooms.furniture("alone", tmp_path)
    assert namespace.metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted"
    (hail,) = walls.spec.egress
    assert [(port.protocol, port.port) for port in hail.ports] == [("UDP", HAIL_PORT)]
    assert walls.spec.policyTypes == ["Ingress", "Egress"]
    assert base64.b64decode(held.binaryData["rows.parquet"]) == b"\0rows"
    (tmp_path / "more.parquet").write_bytes(bytes(1_000_000))
    with pytest.raises(BadInput, match="do not fit"):
        rooms.furniture("alone", tmp_path)


def test_a_plain_job_makes_the_pod_once_and_the_pod_has_its_labels() -> None:
    pod = {"metadata": {"name": "job-1", "namespace": "n", "labels": {"a": "b"}}, "spec": {"restartPolicy": "Never"}}
    job = plainjobs.job_of(pod)
    assert job["metadata"]["name"] == "job-1"
    assert (job["spec"]["backoffLimit"], job["spec"]["completions"]) == (0, 1)
    assert job["spec"]["template"] == {"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never"}}


# Claims, over trials that nobody made


def trials(count: int = 5, **levels: dict[str, float]) -> Outcomes:
    began = datetime(2026, 1, 2, tzinfo=UTC)
    return Outcomes.of([
        Record(number=number, repetition=number, cell={"runner": runner.replace("_", "-"), "rows": 1000},
               status=Status.DONE, measures=dict(measures), began=began, seconds=1.0)
        for runner, measures in levels.items() for number in range(count)
    ])  # fmt: skip


def verdict(words: str, outcomes: Outcomes) -> Any:
    (claim,) = [each for each in load(SCRIPT).claims if words in each.words]
    return claim.find(outcomes)


@pytest.mark.parametrize(
    ("cold", "warm", "count", "holds"),
    [(900, 200, 5, True), (1100, 200, 5, False), (900, 300, 5, False), (900, 200, 2, None)],
)
def test_pods_keep_within_their_bounds_or_not(cold: float, warm: float, count: int, holds: bool | None) -> None:
    some = trials(count, kubernetes_cold={"first": cold}, kubernetes_warm={"first": warm})
    found, shown = verdict("by a cold pod", some)
    assert found is holds
    assert f"kubernetes-warm: median {warm} ms of {count}" in shown


def test_a_cluster_that_was_not_there_decides_nothing() -> None:
    assert verdict("by a cold pod", trials(request={"first": 1.0}))[0] is None
    assert verdict("A plain Job", trials(request={"first": 1.0})) == (None, "no Job was run")
    assert verdict("by a cold pod", trials(kubernetes_warm={"first": 1.0}))[0] is None


@pytest.mark.parametrize(("late", "count", "holds"), [(1500, 5, True), (10, 5, False), (1500, 2, None)])
def test_a_plain_job_is_told_late_or_not(late: float, count: int, holds: bool | None) -> None:
    assert verdict("A plain Job", trials(count, kubernetes_job={"clean_up": late}))[0] is holds


# For real


@pytest.mark.cluster
@pytest.mark.e2e
@pytest.mark.system
@pytest.mark.xdist_group("cluster")
def test_a_quick_run_on_a_cluster(request: pytest.FixtureRequest) -> None:
    try:
        images = references.read(IMAGES)
    except NotFound as error:
        pytest.skip(str(error))
    cluster = request.getfixturevalue("cluster")
    for name in ("dynamos", "courier"):
        cluster.load(IMAGES / images[name].archive)
    with tempfile.TemporaryDirectory(prefix="dynamos-job-start-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "state").mkdir()
        (folder / "state" / "images").symlink_to(IMAGES.resolve())
        data.prepare("bench", folder / "state" / "data" / "bench")
        argv = [sys.executable, "-m", "dynamos.cli.main", "experiment", "run", "job_start", "--quick", "--seed", "1"]
        argv += ["--set", f"runner={','.join(podtrials.RUNNERS)}", "--repeat", "1"]
        argv += ["--runs", str(folder / "runs"), "--state", str(folder / "state")]
        with (folder / "said").open("w+") as said:
            code = inside(cluster, argv, said.fileno())
            assert code == 0, (folder / "said").read_text()
        outcomes = Outcomes.of(find(folder / "runs", "job_start").records())
    assert len(outcomes.done) == len(outcomes) == 3, [record.error for record in outcomes]
    cold, warm = (outcomes.where(runner=f"kubernetes-{kind}").values("first") for kind in ("cold", "warm"))
    assert warm < cold
    left = cluster.kubectl("get", "namespaces", "-l", "dynamos.dev/testbed=alone", "-o", "json")
    assert all(each["metadata"].get("deletionTimestamp") for each in json.loads(left)["items"])


def inside(cluster: Any, argv: list[str], said: int) -> int:
    """Run a command where pods are reached, as `python -m tests.cluster enter` does."""
    with cluster.box(cluster.spec.nodes[0].name).namespace() as network:
        env = os.environ | {"KUBECONFIG": str(cluster.folder / "inside.kubeconfig")}
        entry = ["nsenter", f"--net=/proc/self/fd/{network}", "--", *argv]
        done = subprocess.run(
            entry, cwd=ROOT, pass_fds=[network], env=env, stdout=said, stderr=said, check=False, timeout=500
        )
    return done.returncode
