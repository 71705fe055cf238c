"""A cluster of the tests' own leaves nothing on the machine, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster import groups
from cluster.beginnings import Beginning
from cluster.clusters import Cluster
from cluster.layouts import REPOSITORY
from cluster.specs import profile_of
from dynamos.kit.errors import Conflict, Unavailable
from dynamos.testbed.boxes import Box
from support.clusters import GROUP, eventually, needs_cluster
from support.worlds import Held, machine_state

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group(GROUP)]
_UP = """
import os, sys, time
sys.path[:0] = {paths!r}
from pathlib import Path
from cluster.beginnings import Beginning
from cluster.clusters import Cluster
from cluster.specs import profile_of
Cluster.up(Path({folder!r}), profile_of(nodes=1), owner=os.getpid())
print("up", flush=True)
time.sleep(600)
"""


def boxes(cluster: Cluster) -> list[Box]:
    """Every set of namespaces that a cluster is in."""
    machines = [cluster.box(machine.name) for machine in cluster.spec.machines]
    return [Box(cluster.folder / "init", "init", ""), Box(cluster.folder / "wan", "wan", ""), *machines]


def leaves_nothing(cluster: Cluster, before: dict[str, str], end: Callable[[], object]) -> None:
    life = cluster.life
    with Held(*boxes(cluster)) as held:
        assert len(held.inhabitants()) > 10, "a cluster is many processes"
        end()
        eventually("every process is gone", lambda: not held.inhabitants())
    eventually("every group is gone", lambda: not groups.left(life.group, life.below))
    assert machine_state() == before
    assert Cluster.find(cluster.folder) is None


def test_down_leaves_nothing_and_may_be_repeated(tmp_path: Path) -> None:
    needs_cluster()
    before = machine_state()
    cluster = Cluster.up(tmp_path, profile_of(nodes=1), owner=os.getpid())
    with pytest.raises(Conflict):
        Cluster.up(tmp_path, profile_of(nodes=1))
    leaves_nothing(cluster, before, cluster.down)
    cluster.down()
    assert not cluster.kubeconfig.exists()


def test_a_killed_init_leaves_nothing_and_the_next_one_comes_up(tmp_path: Path) -> None:
    needs_cluster()
    before = machine_state()
    for _ in range(2):
        cluster = Cluster.up(tmp_path, profile_of(nodes=1), owner=os.getpid())
        init = Box(tmp_path / "init", "init", "")
        leaves_nothing(cluster, before, lambda init=init: os.kill(init.pid, signal.SIGKILL))


def test_it_ends_with_its_owner(tmp_path: Path) -> None:
    needs_cluster()
    before = machine_state()
    script = _UP.format(paths=[str(REPOSITORY / "tests"), str(REPOSITORY)], folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        cluster = Cluster.find(tmp_path)
        assert cluster is not None
        leaves_nothing(cluster, before, owner.kill)


def test_groups_that_a_killed_keeper_left_go_with_the_next_one(tmp_path: Path) -> None:
    needs_cluster()
    cluster = Cluster.up(tmp_path, profile_of(nodes=1), owner=os.getpid())
    life = cluster.life
    with Held(*boxes(cluster)) as held:
        os.kill(life.keeper, signal.SIGKILL)
        eventually("every process is gone", lambda: not held.inhabitants())
    assert groups.left(life.group, life.below)
    following = Cluster.up(tmp_path, profile_of(nodes=1), owner=os.getpid())
    following.down()
    assert not groups.left(life.group, life.below)


def test_what_fails_on_the_way_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_cluster()
    before = machine_state()

    def fail(*_: object) -> None:
        raise Unavailable("no control plane today")

    monkeypatch.setattr(Beginning, "_control", fail)
    with pytest.raises(Unavailable, match="no control plane today"):
        Cluster.up(tmp_path, profile_of(nodes=1), owner=os.getpid())
    assert machine_state() == before
    assert Cluster.find(tmp_path) is None
