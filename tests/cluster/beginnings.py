"""How a cluster begins: everything at once, each part as soon as what it needs is there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from cluster import commands, fabrics
from cluster.addons import addons, names
from cluster.configs import FOLDER, POLICIES
from cluster.files import Files, files_of
from cluster.images import own_images
from cluster.imports import imported
from cluster.insides import inside
from cluster.layouts import REPOSITORY, Layout, Life, python
from cluster.specs import API_PORT, Machine
from cluster.volumes import VOLUMES
from cluster.waiting import answers, until
from dynamos.kit.errors import Cancelled, Unavailable
from dynamos.testbed import messages
from dynamos.testbed.boxes import Box
from dynamos.testbed.wans import Wan

T = TypeVar("T")
_LOG = "cluster.log"
_WITHIN = 120.0


def keep(layout: Layout, life: Life, owner: int) -> Life:
    """Start the keeper, and through it the cluster's init; give the life with their pids. Raises Unavailable."""
    (layout.folder / "init").mkdir(exist_ok=True)
    told, tell = os.pipe()
    log = os.open(layout.folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with messages.listener(layout.folder / "init") as listener:
        spec = {"owner": owner, "tell": tell, "listener": listener.fileno(), "folders": [VOLUMES]}
        process = subprocess.Popen(
            python("keepers", json.dumps(spec | {"group": life.group, "below": life.below})),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(tell, listener.fileno()),
            cwd="/",
            env={},
            start_new_session=True,
        )
    for fd in (tell, log):
        os.close(fd)
    with os.fdopen(told, "rb") as answer:
        text = answer.read()
    threading.Thread(target=process.wait, daemon=True).start()  # it is our child as long as we live
    if not text:
        raise Unavailable("a cluster cannot be made here", where=str(layout.folder / _LOG))
    begun = replace(life, **json.loads(text), keeper=process.pid)
    layout.write(begun)
    try:
        until("the cluster's init", lambda: layout.init.alive, within=_WITHIN)
    except BaseException:
        process.kill()  # and with it, by the kernel, whatever it has begun
        raise
    return begun


class Beginning:
    """Brings the machines of one cluster up. What fails ends the waits of the rest."""

    def __init__(self, layout: Layout, life: Life) -> None:
        self._layout = layout
        self._life = life
        self._spec = layout.spec
        self._listens = threading.Event()
        self._failed = threading.Event()

    def all(self) -> None:
        """Bring everything up, and wait until it is ready. Raises what the first part failed with."""
        parts: list[Future[Any]] = []
        try:
            with ThreadPoolExecutor(16) as pool, socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
                self._submit(pool, listener, parts)
        except Cancelled:
            raised = (part.exception() for part in parts)
            raise next(error for error in raised if error and not isinstance(error, Cancelled)) from None

    def _submit(self, pool: ThreadPoolExecutor, listener: socket.socket, parts: list[Future[Any]]) -> None:
        wan, images = pool.submit(self._lay_network), pool.submit(own_images, self._layout.programs)
        files = self._write_files(listener.getsockname()[1])
        nodes = [pool.submit(self.node, node, files[node.name], wan, images) for node in self._spec.nodes]
        control = pool.submit(self._control, files[self._spec.control.name], wan, listener)
        parts += [wan, images, control, *nodes]
        for each in parts:
            each.add_done_callback(self._note)
        try:
            self._finish(nodes)
        finally:
            self._failed.set()  # whatever still waits does so in vain

    def node(self, node: Machine, files: Files, wan: Future[Wan], images: Future[list[Path]]) -> None:
        """Bring a node up; its kubelet begins as soon as the API server listens, and images come meanwhile."""
        box = self._boot(node, files)
        plugin = (Path(__file__).parent / "policies" / "joining.py").read_bytes()
        box.put(f"/usr/lib/cni/{POLICIES}", f"#!{sys.executable} -IS\n".encode() + plugin, mode=0o755)
        box.put("/etc/cni/net.d/10-pods.conflist", files["network.conflist"])
        box.start("containerd", commands.containerd())
        fabrics.plug(wan.result(), node, box)
        self._until("containerd answers", lambda: box.run(commands.ctr("version"), check=False).code == 0)
        pause, *others = images.result()
        imported(box, pause)
        self._until("the API server listens", self._listens.is_set)
        box.start("policies", python("policies.agents", node.name, FOLDER, self._spec.api))
        box.start("kubelet", commands.kubelet(self._layout.programs, node))
        box.start("kube-proxy", commands.proxy(self._layout.programs))
        for archive in others:
            imported(box, archive)

    def again(self, node: Machine) -> None:
        """Bring a node up that was there before."""
        self._listens.set()
        wan, images = fabrics.wan_of(self._layout.network), own_images(self._layout.programs)
        self.node(node, self._layout.files(node), _known(wan), _known(images))

    def _note(self, done: Future[object]) -> None:
        if done.exception():
            self._failed.set()

    def _write_files(self, port: int) -> dict[str, Files]:
        made, own = files_of(self._spec, port)
        for name, files in made.items():
            for file, content in files.items():
                self._layout.put(f"files/{name}/{file}", content)
        for file, content in own.items():
            self._layout.put(file, content)
        return made

    def _lay_network(self) -> Wan:
        self._layout.network.mkdir(exist_ok=True)
        words = python("fabrics", str(self._layout.network), fabrics.words(self._spec), plain=False)
        self._layout.init.run(words, within=_WITHIN)
        return fabrics.wan_of(self._layout.network)

    def _boot(self, machine: Machine, files: Files) -> Box:
        """Start a machine, and write its files."""
        box = self._layout.box(machine.name)
        box.folder.mkdir(parents=True, exist_ok=True)
        shown = {str(REPOSITORY), sys.prefix, sys.base_prefix, str(self._layout.programs)} - {"/usr"}
        spec = {
            "name": machine.name,
            "group": f"{self._life.group}/{machine.name}",
            "below": self._life.below,
            "size": "50%",
            "show": sorted(shown),
            "share": [VOLUMES],
        }
        with messages.listener(box.folder) as listener:
            words = python("machines", json.dumps(spec))
            self._layout.init.start(f"machine-{machine.name}", words, fds=[listener.fileno()])
        self._until(f"the machine {machine.name}", lambda: box.alive)
        for name, content in files.items():
            box.put(f"{FOLDER}/{name}", content, mode=0o600)
        box.put("/etc/resolv.conf", b"")
        box.set_names({each.name: each.ip for each in self._spec.machines if each != machine})
        return box

    def _control(self, files: Files, wan: Future[Wan], listener: socket.socket) -> None:
        """Bring the control plane up. `listener` is where the API is reached from this machine."""
        control, programs = self._boot(self._spec.control, files), self._layout.programs
        control.start("etcd", commands.etcd(programs))
        fabrics.plug(wan.result(), self._spec.control, control)
        self._until_port(control, "etcd", 2379)
        control.start("kube-apiserver", commands.api_server(programs, self._spec))
        forward = [sys.executable, "-I", "-S", str(Path(__file__).with_name("forwards.py"))]
        control.start("forward", [*forward, "3", "127.0.0.1", str(API_PORT)], fds=[listener.fileno()])
        self._until_port(control, "the API server", API_PORT)
        self._listens.set()
        control.start("kube-controller-manager", commands.controller_manager(programs))
        control.start("kube-scheduler", commands.scheduler(programs))
        control.start("volumes", python("volumes", FOLDER, self._spec.api))

    def _finish(self, nodes: list[Future[None]]) -> None:
        """Make what a cluster has from its beginning, and wait until it is ready."""
        self._until("the API server listens", self._listens.is_set)
        asked = self._layout.asked(self._failed.is_set)
        asked.api_ready()
        asked.make(addons())
        self._until("images are on the nodes", lambda: all(node.done() for node in nodes))
        asked.make(names(len(self._spec.nodes)))
        asked.nodes_ready([node.name for node in self._spec.nodes])
        asked.deployed("kube-system", "coredns")

    def _until_port(self, box: Box, what: str, port: int) -> None:
        with box.namespace() as network:
            inside(network, lambda: self._until(f"{what} listens", lambda: answers("127.0.0.1", port)))

    def _until(self, what: str, probe: Callable[[], bool]) -> None:
        until(what, probe, within=_WITHIN, over=self._failed.is_set)


def _known(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future
