"""A Kubernetes cluster of the tests' own: brought up in seconds on one machine, ended without a trace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from cluster import commands, fabrics, groups
from cluster.beginnings import Beginning, keep
from cluster.imports import imported
from cluster.insides import inside
from cluster.layouts import Layout, Life
from cluster.needs import PROGRAMS, check_needs
from cluster.specs import ClusterSpec
from dynamos.kit.errors import Conflict, JobFailed, Refused
from dynamos.model.profiles import Profile
from dynamos.testbed import messages
from dynamos.testbed.boxes import Box
from dynamos.testbed.endings import Ending
from dynamos.testbed.locks import locked

T = TypeVar("T")
_WITHIN, _LONG = 120.0, 300.0


class Cluster:
    """A cluster that is up. Any process of root may use it at the same time."""

    def __init__(self, layout: Layout, life: Life) -> None:
        self._layout = layout
        self.life = life
        self.spec: ClusterSpec = layout.spec
        self.folder: Path = layout.folder
        self.programs: Path = layout.programs

    # Beginning and end

    @classmethod
    def up(cls, folder: Path, profile: Profile, *, programs: Path = PROGRAMS, owner: int = 0) -> Self:
        """Bring up the cluster of a profile's sites, nodes and links, and wait until it is ready for use.

        With `owner`, a pid, it ends when that process does. Raises Conflict where there is one in the folder already,
        BadInput where the sites make no cluster, Unavailable where this machine lacks something, TimedOut. Nothing is
        left of what failed.
        """
        layout = Layout(folder.resolve(), profile, programs)
        check_needs(programs)
        with locked(layout.folder, within=_WITHIN):
            if cls.find(folder):
                raise Conflict("there is a cluster already", where=str(folder), hint="python -m tests.cluster down")
            _sweep(layout.folder)
            cluster = cls(layout, Life.fresh())
            try:
                cluster.life = keep(layout, cluster.life, owner)
                Beginning(layout, cluster.life).all()
            except BaseException:
                cluster.down()
                raise
        return cluster

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Give the cluster whose files are in a folder, None where there is none or it has ended."""
        found = Layout.read(folder.resolve())
        return cls(*found) if found and found[1].goes_on else None

    def down(self) -> None:
        """End everything of it, and wait until nothing is left on this machine but logs. May be repeated."""
        if self.life.goes_on:
            ending, keeper = Ending(self.life.pid), Ending(self.life.keeper)
            ending.kill()
            ending.wait(within=_WITHIN, what="the cluster")
            keeper.wait(within=_WITHIN, what="the cluster's keeper")
        groups.remove(self.life.group, self.life.below)
        self._layout.forget()
        for left in self.folder.rglob(messages.SOCKET):
            left.unlink(missing_ok=True)

    # Its use

    @property
    def kubeconfig(self) -> Path:
        """The file for kubectl and clients, as this machine reaches the cluster, with every right."""
        return self._layout.kubeconfig

    def box(self, name: str) -> Box:
        """Give a machine as a host to run commands in. Raises NotFound."""
        return self._layout.box(name)

    def inside(self, work: Callable[[], T], name: str = "") -> T:
        """Do work in the network of a machine (the first node if not said), where pods and services are reached."""
        with self.box(name or self.spec.nodes[0].name).namespace() as network:
            return inside(network, work)

    def entered(self, argv: Sequence[str], name: str = "") -> int:
        """Run a command of this machine in the network of one of the cluster's, with kubectl and KUBECONFIG at hand,
        and give its exit code."""
        with self.box(name or self.spec.nodes[0].name).namespace() as network:
            path = f"{self.programs}:{os.environ.get('PATH', '')}"
            env = os.environ | {"KUBECONFIG": str(self.folder / "inside.kubeconfig"), "PATH": path}
            entry = ["nsenter", f"--net=/proc/self/fd/{network}", "--", *argv]
            return subprocess.run(entry, pass_fds=[network], env=env, check=False).returncode

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl with every right, and give what it says. Raises JobFailed, with `check`, where it fails."""
        argv = [str(self.programs / "kubectl"), f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=_LONG)
        if check and done.returncode:
            raise JobFailed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def load(self, archive: Path, nodes: Sequence[str] = ()) -> list[str]:
        """Import an archive (of the OCI layout, or docker's) into the nodes (all if not said), and give the names that
        pods can use: each with its tag, and with its digest. Raises as `imported` does."""
        names = list(nodes) or [node.name for node in self.spec.nodes]
        with ThreadPoolExecutor(len(names)) as pool:
            return list(pool.map(lambda name: imported(self.box(name), archive), names)).pop()

    # Faults

    def kill(self, name: str) -> None:
        """End a machine at once, as if it lost its power."""
        self._layout.init.stop(f"machine-{self._layout.machine(name).name}")

    def start(self, name: str) -> None:
        """Start a node that was killed. Images and pods that were on it are gone; volumes are there.

        Raises Refused for the control plane: what it knew was in memory.
        """
        machine = self._layout.machine(name)
        if machine == self.spec.control:
            raise Refused("the control plane is not started again: what it knew was in memory", hint="down, then up")
        Beginning(self._layout, self.life).again(machine)

    def partition(self, name: str) -> None:
        """Cut a machine from the network of its site: it goes on, alone."""
        self._set_port(name, "down")

    def heal(self, name: str) -> None:
        """Join a machine that was cut off to its site's network again."""
        self._set_port(name, "up")

    def stop_api(self) -> None:
        """End the API server; what runs goes on."""
        self.box(self.spec.control.name).stop("kube-apiserver")

    def start_api(self) -> None:
        """Start the API server again, and wait until it is ready."""
        control = self.box(self.spec.control.name)
        control.start("kube-apiserver", commands.api_server(self.programs, self.spec))
        self._layout.asked().api_ready()

    def _set_port(self, name: str, state: str) -> None:
        machine = self._layout.machine(name)
        router = fabrics.wan_of(self._layout.network).router(machine.site)
        router.run(["ip", "link", "set", fabrics.port(machine), state])


def _sweep(folder: Path) -> None:
    """Remove the groups of a cluster whose keeper was killed too."""
    found = Layout.read(folder)
    if found and found[1].group.startswith(groups.PREFIX):
        with suppress(OSError):
            groups.remove(found[1].group, found[1].below)
