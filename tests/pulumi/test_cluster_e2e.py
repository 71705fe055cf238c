"""A marketplace on a real cluster by the real engine, from nothing to nothing; and what is in the way of that."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest
import yaml

from dynamos.kit.errors import JobFailed
from support.markets import REQUESTS, asked, market

pytestmark = [pytest.mark.cluster, pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("cluster")]
ASKED = [
    ("delay-by-origin", "ann@safety-board.example", "--result", "united"),
    ("delay-through-third-party", "ann@safety-board.example"),
    ("fleet-age", "meg@united.example"),
]


@pytest.fixture
def name():
    return f"m{secrets.token_hex(3)}"


def test_it_answers_as_the_laptop_does_is_changed_in_place_and_leaves_nothing(cluster, tmp_path, name):
    with market(cluster, tmp_path, name) as made:
        done = made.stack.up()
        assert done.outputs["namespaces"]["united"] == f"{name}-united"
        assert "[secret]" not in str(done.outputs)
        laptop = tmp_path / "laptop"
        _dynamos("up", "laptop", "--state", str(laptop))
        try:
            for name_of, *words in ASKED:
                there = asked(laptop, "laptop", REQUESTS / f"{name_of}.json", *words)
                assert made.ask(name_of, *words) == there
        finally:
            _dynamos("down", "--state", str(laptop))
        assert not made.stack.preview().changed
        made.stack.refresh()
        assert not made.stack.preview().changed
        made.write("  warmPods: 1\n")
        steps = {(step.action, step.kind) for step in made.stack.up().steps}
        assert steps == {("update", "Secret"), ("update", "Deployment"), ("update", "ResourceQuota")}
        assert made.ask(*ASKED[0])
        made.stack.destroy()
        assert made.left() == []
        assert not (made.state / name / "cluster.json").exists()


def test_what_is_somebody_elses_or_not_there_is_told_before_anything_is_made(cluster, tmp_path, name):
    with market(cluster, tmp_path, name) as made:
        cluster.kubectl("create", "namespace", f"{name}-delta")
        try:
            parties = "united, delta, jetblue, weather, registry, safety-board"
            made.write(f"  storageClass: nowhere\nsites: {{moon: {{parties: [{parties}]}}}}\n")
            with pytest.raises(JobFailed) as caught:
                made.stack.up()
            told = "\n".join([str(caught.value), *caught.value.facts["log"]])
            for words in (
                "somebody else's",
                "no storage class 'nowhere'",
                "no node of the cluster is ready at site 'moon'",
            ):
                assert words in told
            assert made.left() == [f"namespace/{name}-delta"]
        finally:
            cluster.kubectl("delete", "namespace", f"{name}-delta")


def test_a_cluster_that_does_not_answer_is_told_as_such(cluster, tmp_path, name):
    with market(cluster, tmp_path, name) as made:
        bad = tmp_path / "kubeconfig"
        told = yaml.safe_load(cluster.kubeconfig.read_text())
        for each in told["clusters"]:
            each["cluster"]["server"] = "https://127.0.0.1:1"
        bad.write_text(yaml.safe_dump(told))
        made.profile.write_text(made.profile.read_text().replace(str(cluster.kubeconfig), str(bad)))
        with pytest.raises(JobFailed, match="no cluster answers"):
            made.stack.preview()
        assert made.left() == []


def test_what_is_printed_as_manifests_is_taken_by_the_api_server(cluster, tmp_path, name):
    with market(cluster, tmp_path, name) as made:
        folder = tmp_path / "out"
        _dynamos("manifests", str(made.profile), "--state", str(made.state), "--to", str(folder))
        try:
            cluster.kubectl("apply", "--server-side", "-k", str(folder / "namespaces"))
            for place in (folder / "private", folder):
                told = cluster.kubectl("apply", "--server-side", "--dry-run=server", "-k", str(place))
                assert "serverside-applied (server dry run)" in told
                assert "Warning" not in told
        finally:
            cluster.kubectl("delete", "-k", str(folder / "namespaces"))
        assert made.left() == []


def _dynamos(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "dynamos.cli.main", *words], capture_output=True, text=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
