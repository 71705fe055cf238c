"""A Kubernetes cluster of the tests' own: brought up in seconds on one machine, ended without a trace."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from cluster import commands, fabrics, groups, readiness
from cluster.configs import FOLDER, POLICIES
from cluster.files import Files, files_of
from cluster.images import own_images
from cluster.insides import inside
from cluster.needs import PROGRAMS, check_needs
from cluster.specs import API_PORT, ClusterSpec, Machine, spec_of
from cluster.volumes import VOLUMES
from cluster.waiting import answers, until
from dynamos.kit.errors import Conflict, NotFound, Unavailable
from dynamos.model.profiles import Profile
from dynamos.testbed import messages
from dynamos.testbed.boxes import Box
from dynamos.testbed.endings import Ending, born
from dynamos.testbed.locks import locked

T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parents[2]
_FACTS, _LOG = "cluster.json", "cluster.log"
_BOOT = "import sys; sys.path[:0] = {paths!r}; from cluster.{module} import main; main()"
_IMPORTED = re.compile(r"unpacking (\S+) \((sha256:[0-9a-f]{64})\)")
_START_SECONDS, _LONG_SECONDS = 60.0, 300.0


class Cluster:
    """A cluster whose files are in a folder. `spec` says what it is made of."""

    def __init__(self, folder: Path, profile: Profile, told: dict[str, Any]) -> None:
        self.folder = folder
        self.profile = profile
        self.spec: ClusterSpec = spec_of(profile)
        self._told = told
        self._init = Box(folder / "init", "cluster", "")

    # Beginning and end

    @classmethod
    def up(cls, folder: Path, profile: Profile, *, programs: Path = PROGRAMS, owner: int = 0) -> Self:
        """Bring up the cluster of a profile's sites, nodes and links, and wait until it is ready for use.

        With `owner`, a pid, it ends when that process does. Raises Conflict where there is one in the folder already,
        Unavailable where this machine lacks something, TimedOut.
        """
        check_needs(programs)
        folder = folder.resolve()
        with locked(folder, within=_START_SECONDS):
            if cls.find(folder):
                raise Conflict("there is a cluster already", where=str(folder), hint="python -m tests.cluster down")
            _sweep(folder)
            cluster = cls(
                folder, profile, {"group": f"{groups.PREFIX}{os.urandom(4).hex()}", "below": groups.parents()}
            )
            cluster._told |= {"profile": json.loads(profile.model_dump_json(by_alias=True)), "programs": str(programs)}
            try:
                cluster._keep(owner)
                cluster._begin()
            except BaseException:
                cluster.down()
                raise
        return cluster

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """Give the cluster whose files are in a folder, None where there is none or it has ended."""
        told = _facts(folder.resolve())
        if not told or born(told.get("pid", 0)) != told.get("born"):
            return None
        return cls(folder.resolve(), Profile.model_validate(told["profile"]), told)

    def down(self) -> None:
        """End everything of it and wait until nothing is left on this machine but logs. May be repeated."""
        for name in ("pid", "keeper"):
            if pid := self._told.get(name):
                ending = Ending(pid)
                if name == "pid":
                    ending.kill()
                ending.wait(within=_START_SECONDS, what="the cluster")
        groups.remove(self._told["group"], self._told["below"])
        for left in (self.kubeconfig, self.folder / _FACTS, *self.folder.rglob(messages.SOCKET)):
            left.unlink(missing_ok=True)

    @property
    def kubeconfig(self) -> Path:
        """The file for kubectl and clients, as this machine reaches the cluster, with every right."""
        return self.folder / "kubeconfig"

    @property
    def programs(self) -> Path:
        return Path(self._told["programs"])

    # Its machines

    def machine(self, name: str) -> Machine:
        """Give what a machine is. Raises NotFound."""
        found = next((each for each in self.spec.machines if each.name == name), None)
        if found is None:
            known = ", ".join(each.name for each in self.spec.machines)
            raise NotFound(f"there is no machine {name!r}", hint=f"machines: {known}")
        return found

    def box(self, name: str) -> Box:
        """Give a machine as a host to run commands in."""
        machine = self.machine(name)
        return Box(self.folder / "machines" / name, name, machine.site)

    def inside(self, work: Callable[[], T], name: str = "") -> T:
        """Do work in the network of a machine (the first node if not said), where pods and services are reached."""
        with self.box(name or self.spec.nodes[0].name).namespace() as network:
            return inside(network, work)

    def entered(self, argv: Sequence[str], name: str = "") -> int:
        """Run a command of this machine in the network of one of the cluster's, with kubectl and KUBECONFIG at hand,
        and give its exit code."""
        with self.box(name or self.spec.nodes[0].name).namespace() as network:
            env = os.environ | {
                "KUBECONFIG": str(self.folder / "inside.kubeconfig"),
                "PATH": f"{self.programs}:{os.environ.get('PATH', '')}",
            }
            entry = ["nsenter", f"--net=/proc/self/fd/{network}", "--", *argv]
            return subprocess.run(entry, pass_fds=[network], env=env, check=False).returncode

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl with every right, and give what it says."""
        argv = [str(self.programs / "kubectl"), f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=_LONG_SECONDS)
        if check and done.returncode:
            raise Unavailable(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def load(self, archive: Path, nodes: Sequence[str] = ()) -> list[str]:
        """Import an archive (of the OCI layout, or docker's) into the nodes (all if not said), and give the names that
        pods can use: each with its tag, and with its digest."""
        names = list(nodes) or [node.name for node in self.spec.nodes]
        with ThreadPoolExecutor(len(names)) as pool:
            return next(iter(pool.map(lambda name: _imported(self.box(name), archive), names)))

    # Faults

    def kill(self, name: str) -> None:
        """End a machine at once, as if it lost its power."""
        self.machine(name)
        self._init.stop(f"machine-{name}")

    def start(self, name: str) -> None:
        """Start a machine that was killed. Images and pods that were on it are gone; volumes are there."""
        machine = self.machine(name)
        files = {path.name: path.read_bytes() for path in (self.folder / "files" / name).iterdir()}
        wan, ready = fabrics.wan_of(self.folder / "wan"), threading.Event()
        ready.set()
        if machine == self.spec.control:
            raise NotFound("the control plane is not started again: what it knew was in memory")
        self._begin_node(machine, files, _known(wan), _known(own_images(self.programs)), ready)

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
        readiness.api_ready(self.kubeconfig)

    def _set_port(self, name: str, state: str) -> None:
        machine = self.machine(name)
        router = fabrics.wan_of(self.folder / "wan").router(machine.site)
        router.run(["ip", "link", "set", fabrics.port(machine), state])

    # How it begins

    def _keep(self, owner: int) -> None:
        """Start the keeper, and through it the cluster's init."""
        (self.folder / "init").mkdir(exist_ok=True)
        told, tell = os.pipe()
        log = os.open(self.folder / _LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with messages.listener(self.folder / "init") as listener:
            spec = {"owner": owner, "tell": tell, "listener": listener.fileno(), "folders": [VOLUMES]}
            process = subprocess.Popen(
                _python("keepers", spec | {name: self._told[name] for name in ("group", "below")}),
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
        with os.fdopen(told, "rb") as answers_:
            text = answers_.read()
        threading.Thread(target=process.wait, daemon=True).start()  # it is our child as long as we live
        if not text:
            raise Unavailable("a cluster cannot be made here", where=str(self.folder / _LOG))
        self._told |= json.loads(text) | {"keeper": process.pid}
        _write(self.folder / _FACTS, json.dumps(self._told).encode())
        until("the cluster's init", lambda: self._init.alive, within=_START_SECONDS)

    def _begin(self) -> None:
        """Start everything at once, each as soon as what it needs is there."""
        with ThreadPoolExecutor(16) as pool, socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            ready = threading.Event()
            wan = pool.submit(self._lay_network)
            files, config = files_of(self.spec, listener.getsockname()[1])
            _write(self.kubeconfig, config)
            _write(
                self.folder / "inside.kubeconfig",
                config.replace(f"https://127.0.0.1:{listener.getsockname()[1]}".encode(), self.spec.api.encode()),
            )
            images = pool.submit(own_images, self.programs)
            work: list[Future[None]] = [
                pool.submit(self._begin_control, files[self.spec.control.name], wan, ready, listener)
            ]
            work += [
                pool.submit(self._begin_node, node, files[node.name], wan, images, ready) for node in self.spec.nodes
            ]
            work.append(pool.submit(self._finish, ready))
            try:
                for each in work:
                    each.result()
            except BaseException:
                ready.set()
                raise

    def _lay_network(self) -> Any:
        (self.folder / "wan").mkdir(exist_ok=True)
        paths = [str(REPOSITORY / "tests"), str(REPOSITORY)]
        boot = f"import sys; sys.path[:0] = {paths!r}; from cluster.fabrics import main; main(*sys.argv[1:])"
        words = [sys.executable, "-c", boot, str(self.folder / "wan"), fabrics.words(self.spec)]
        self._init.run(words, within=_START_SECONDS)
        return fabrics.wan_of(self.folder / "wan")

    def _boot(self, machine: Machine, files: Files) -> Box:
        """Start a machine, and write its files."""
        box = self.box(machine.name)
        box.folder.mkdir(parents=True, exist_ok=True)
        kept = self.folder / "files" / machine.name
        kept.mkdir(parents=True, exist_ok=True)
        spec = {
            "name": machine.name,
            "group": f"{self._told['group']}/{machine.name}",
            "below": self._told["below"],
            "size": "50%",
            "show": sorted({str(REPOSITORY), sys.prefix, sys.base_prefix, str(self.programs)} - {"/usr"}),
            "share": [VOLUMES],
        }
        with messages.listener(box.folder) as listener:
            self._init.start(f"machine-{machine.name}", _python("machines", spec), fds=[listener.fileno()])
        until(f"the machine {machine.name}", lambda: box.alive, within=_START_SECONDS)
        for name, content in files.items():
            _write(kept / name, content)
            box.put(f"{FOLDER}/{name}", content, mode=0o600)
        box.put("/etc/resolv.conf", b"")
        box.set_names({each.name: each.ip for each in self.spec.machines if each != machine})
        return box

    def _begin_control(self, files: Files, wan: Future[Any], ready: threading.Event, listener: socket.socket) -> None:
        control = self._boot(self.spec.control, files)
        control.start("etcd", commands.etcd(self.programs))
        fabrics.plug(wan.result(), self.spec.control, control)
        self._until_port("etcd", 2379)
        control.start("kube-apiserver", commands.api_server(self.programs, self.spec))
        forward = [
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("forwards.py")),
            "3",
            "127.0.0.1",
            str(API_PORT),
        ]
        control.start("forward", forward, fds=[listener.fileno()])
        self._until_port("the API server", API_PORT)
        ready.set()
        control.start("kube-controller-manager", commands.controller_manager(self.programs))
        control.start("kube-scheduler", commands.scheduler(self.programs))
        control.start("volumes", [*_python("volumes"), FOLDER, self.spec.api])

    def _until_port(self, what: str, port: int) -> None:
        def wait() -> None:
            until(f"{what} listens", lambda: answers("127.0.0.1", port), within=_START_SECONDS)

        self.inside(wait, self.spec.control.name)

    def _begin_node(
        self, node: Machine, files: Files, wan: Future[Any], images: Future[list[Path]], ready: threading.Event
    ) -> None:
        box = self._boot(node, files)
        plugin = (Path(__file__).parent / "policies" / "joining.py").read_bytes()
        box.put(f"/usr/lib/cni/{POLICIES}", f"#!{sys.executable} -IS\n".encode() + plugin, mode=0o755)
        box.put("/etc/cni/net.d/10-pods.conflist", files["network.conflist"])
        box.start("containerd", commands.containerd())
        fabrics.plug(wan.result(), node, box)
        until(
            "containerd answers", lambda: not box.run(commands.ctr("version"), check=False).code, within=_START_SECONDS
        )
        for archive in images.result():
            _imported(box, archive)
        ready.wait(_START_SECONDS)
        words = [node.name, FOLDER, self.spec.api]
        box.start("policies", [*_python("policies.agents"), *words])
        box.start("kubelet", commands.kubelet(self.programs, node))
        box.start("kube-proxy", commands.proxy(self.programs))

    def _finish(self, ready: threading.Event) -> None:
        """Make what a cluster has from its beginning, and wait until it is ready."""
        from cluster.addons import addons  # noqa: PLC0415

        ready.wait(_START_SECONDS)
        readiness.api_ready(self.kubeconfig)
        readiness.make(self.kubeconfig, addons(len(self.spec.nodes)))
        readiness.nodes_ready(self.kubeconfig, [node.name for node in self.spec.nodes])
        readiness.deployed(self.kubeconfig, "kube-system", "coredns")


def _imported(box: Box, archive: Path) -> list[str]:
    """Import an archive into a node, and give its names."""
    try:
        fd = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"there is no such archive: {error.strerror}", where=str(archive)) from None
    try:
        done = box.run(commands.ctr("images", "import", "/proc/self/fd/3"), fds=[fd], within=_LONG_SECONDS)
    finally:
        os.close(fd)
    names = []
    for name, digest in _IMPORTED.findall(done.text):
        pinned = f"{_repository(name)}@{digest}"
        box.run(commands.ctr("images", "tag", "--force", name, pinned))
        names += [name, pinned]
    if not names:
        raise Unavailable(f"nothing was imported: {done.text.strip()}", where=str(archive))
    return names


def _repository(name: str) -> str:
    """Give the name of an image without its tag and digest."""
    plain = name.partition("@")[0]
    head, _, tail = plain.rpartition(":")
    return head if head and "/" not in tail else plain


def _python(module: str, spec: dict[str, Any] | None = None) -> list[str]:
    """Give the command that runs a module of the cluster's which needs the standard library only."""
    paths = [str(REPOSITORY / "tests"), str(REPOSITORY)]
    words = [sys.executable, "-I", "-S", "-c", _BOOT.format(paths=paths, module=module)]
    return words if spec is None else [*words, json.dumps(spec)]


def _facts(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told


def _sweep(folder: Path) -> None:
    """Remove what a cluster left whose keeper was killed too."""
    told = _facts(folder)
    if told.get("group", "").startswith(groups.PREFIX):
        with suppress(OSError):
            groups.remove(told["group"], told["below"])


def _write(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read."""
    near = path.with_name(f".{path.name}")
    near.touch(mode=0o600)
    near.write_bytes(content)
    near.rename(path)


def _known(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future
