"""A cluster for one runner on this machine: pods are local processes with the real courier, and no kernel's walls.

It tells of them as a cluster does, and can be told to refuse, to have no room, or to lose what it has.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dynamos.jobs.pods.api import TAKEN, WARM
from dynamos.jobs.pods.manifests import COURIER, Manifest
from dynamos.jobs.pods.runner import KubernetesRunner
from dynamos.jobs.pods.seen import PodSeen, seen
from dynamos.jobs.pods.settings import LAUNCHER, POOL, PORT, Home, PodsConfig
from dynamos.kit.errors import Conflict, DynamosError

SOURCE = Path(__file__).resolve().parents[2] / "dynamos/jobs/pods/courier"
BUILT = Path(__file__).resolve().parents[2] / ".tools/courier/courier"
_GRACE_SECONDS = 1.0
_numbers = itertools.count(1)


@cache
def courier_program() -> Path:
    """Build the courier, once for all test processes. Skips where there is no Go."""
    if sys.platform != "linux":
        pytest.skip("couriers run on Linux")
    if shutil.which("go") is None:
        pytest.skip("the courier is built with Go, which is not installed")
    BUILT.parent.mkdir(parents=True, exist_ok=True)
    with (BUILT.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(BUILT), "."]
        subprocess.run(command, cwd=SOURCE, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
    return BUILT


def loopback() -> str:
    """Give an address of this machine that nobody else uses."""
    return f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{next(_numbers) % 254 + 1}"


class LocalPod:
    """One pod: its folder, its processes, and what is told of it."""

    def __init__(self, manifest: Manifest, files: dict[str, bytes]) -> None:
        self.manifest = manifest
        self.name: str = manifest["metadata"]["name"]
        self.folder = Path(tempfile.mkdtemp(prefix="pod-"))
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.status: dict[str, Any] = {"phase": "Pending", "containerStatuses": []}
        # an address of its own: loopback has plenty
        self.address = loopback()
        (self.folder / "pass").mkdir()
        (self.folder / "launch").symlink_to(courier_program())
        for name, content in files.items():
            (self.folder / "pass" / name).write_bytes(content)
        self.task: asyncio.Task[None] | None = None

    def place(self, container: Manifest, path: str) -> str:
        """Give where something in a container's file system is here."""
        if path == LAUNCHER:
            return str(self.folder / "launch")
        places = {"dynamos": self.folder / "shared", "pass": self.folder / "pass"}
        mounts = sorted(container["volumeMounts"], key=lambda mount: -len(mount["mountPath"]))
        for mount in mounts:
            if path == mount["mountPath"] or path.startswith(mount["mountPath"] + "/"):
                if mount["name"] not in places:
                    return path
                there = places[mount["name"]] / mount.get("subPath", "")
                return str(there) + path.removeprefix(mount["mountPath"])
        return path


class LocalPods:
    """The contract `Pods` over local processes."""

    def __init__(self) -> None:
        self.pods: dict[str, LocalPod] = {}
        self.made: list[str] = []
        self.taken: list[str] = []
        self.refuses: DynamosError | None = None
        self.room = True
        self.missing_images: set[str] = set()
        self.away: DynamosError | None = None
        self._watchers: set[asyncio.Queue[PodSeen]] = set()

    async def create(self, secret: Manifest, pod: Manifest) -> None:
        for error in (self.refuses, self.away):
            if error is not None:
                raise error
        files = {name: base64.b64decode(value) for name, value in secret["data"].items()}
        found = self.pods[pod["metadata"]["name"]] = LocalPod(pod, files)
        self.made.append(found.name)
        found.task = asyncio.create_task(self._run(found))

    async def take(self, name: str, *, seconds: float) -> None:
        if self.away is not None:
            raise self.away
        pod = self.pods.get(name)
        if pod is None or pod.manifest["metadata"]["labels"][POOL] != WARM:
            raise Conflict("the pod is not warm any more", where=name)
        pod.manifest["metadata"]["labels"][POOL] = TAKEN
        assert 0 < seconds <= pod.manifest["spec"]["activeDeadlineSeconds"]
        pod.manifest["spec"]["activeDeadlineSeconds"] = seconds
        self.taken.append(name)
        self._tell(pod)

    async def delete(self, name: str) -> None:
        if self.away is not None:
            raise self.away
        if (pod := self.pods.get(name)) is None:
            return
        pod.manifest["metadata"]["deletionTimestamp"] = "now"
        self._tell(pod)
        if pod.task is not None:
            pod.task.cancel()
            await asyncio.wait((pod.task,))
        below = [pid for process in pod.processes.values() for pid in _below(process.pid)]
        for process in pod.processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        waiting = [asyncio.ensure_future(process.wait()) for process in pod.processes.values()]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=_GRACE_SECONDS)
            if late:
                self.kill(name)
                await asyncio.wait(late)
        for pid in below:  # a container ends with everything in it
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.pods.pop(name, None)
        shutil.rmtree(pod.folder, ignore_errors=True)
        self._tell(pod, gone=True)

    async def watch(self) -> AsyncIterator[PodSeen]:
        queue: asyncio.Queue[PodSeen] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            for pod in list(self.pods.values()):
                yield seen(pod.manifest | {"status": pod.status})
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    async def close(self) -> None:
        for name in list(self.pods):
            await self.delete(name)

    # faults

    def kill(self, name: str, container: str = "") -> None:
        """Kill the processes of a pod, or of one container, as a kernel without memory does."""
        for each, process in self.pods[name].processes.items():
            if container in ("", each):
                for pid in (process.pid, *_below(process.pid)):  # a container ends with everything in it
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    def tell(self, name: str, **status: Any) -> None:
        """Have the cluster tell this of a pod."""
        self.pods[name].status |= status
        self._tell(self.pods[name])

    # the kubelet

    def _tell(self, pod: LocalPod, *, gone: bool = False) -> None:
        told = seen(pod.manifest | {"status": pod.status}, gone=gone)
        for queue in self._watchers:
            queue.put_nowait(told)

    async def _run(self, pod: LocalPod) -> None:
        if not self.room:
            why = "0/2 nodes are available: 2 Insufficient memory."
            told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
            self.tell(pod.name, conditions=[told])
            return
        pod.manifest["spec"]["nodeName"] = "here"
        containers = pod.manifest["spec"]["containers"]
        for container in containers:
            if container["image"] in self.missing_images:
                waiting = {"reason": "ErrImagePull", "message": f"{container['image']}: not found"}
                self.tell(pod.name, containerStatuses=[{"name": container["name"], "state": {"waiting": waiting}}])
                return
            await self._start(pod, container)
            if hook := container.get("lifecycle", {}).get("postStart"):
                words = [str(courier_program()), *hook["exec"]["command"][1:]]
                await self._spawn(pod, f"hook of {container['name']}", words, _env(pod, container))
                await pod.processes[f"hook of {container['name']}"].wait()
                del pod.processes[f"hook of {container['name']}"]
            self.tell(pod.name, podIP=pod.address, phase="Running")

    async def _start(self, pod: LocalPod, container: Manifest) -> None:
        words = [pod.place(container, word) for word in container.get("command", [])]
        words = [sys.executable if word == "python" else word for word in words]
        if not words:
            words = [str(courier_program()), *container["args"]]
        process = await self._spawn(pod, container["name"], words, _env(pod, container))
        self._state(pod, container["name"], {"running": {}})
        asyncio.create_task(self._see_end(pod, container["name"], process))  # noqa: RUF006  ends with its process

    @staticmethod
    async def _spawn(pod: LocalPod, name: str, words: list[str], env: dict[str, str]) -> asyncio.subprocess.Process:
        """Start a process of a pod. Where the pod goes meanwhile, it is among those that go with it."""
        starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*words, env=env, stdin=subprocess.DEVNULL))
        try:
            await asyncio.shield(starting)
        finally:
            pod.processes[name] = await starting
        return pod.processes[name]

    async def _see_end(self, pod: LocalPod, name: str, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        code = 128 - code if code < 0 else code
        self._state(pod, name, {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}})

    def _state(self, pod: LocalPod, name: str, state: dict[str, Any]) -> None:
        others = [each for each in pod.status["containerStatuses"] if each["name"] != name]
        pod.status["containerStatuses"] = [*others, {"name": name, "state": state}]
        if pod.name in self.pods:
            self._tell(pod)


def _below(pid: int) -> list[int]:
    """Give the processes below one, whichever of its threads started them."""
    children: list[int] = []
    threads: list[str] = []
    with suppress(OSError):  # it has ended
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
    for thread in threads:
        with suppress(OSError):
            children += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return [*children, *(below for child in children for below in _below(child))]


def _env(pod: LocalPod, container: Manifest) -> dict[str, str]:
    given = {each["name"]: each["value"] for each in container.get("env", [])}
    ours = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if container["name"] == COURIER:
        ours = {
            "COURIER_FOLDER": pod.place(container, "/dynamos"),
            "COURIER_PASS": pod.place(container, "/pass"),
            "COURIER_LISTEN": f"{pod.address}:{PORT}",
        }
    return {**given, **ours}


def config(**changed: Any) -> PodsConfig:
    """Give what a runner over local pods is told."""
    told = {"namespace": "here-uva", "testbed": "here", "image": "dynamos", "courier": "courier", "warm": 0,
            "claim": "data", "data_at": tempfile.gettempdir(), "programs": "support.runners"}  # fmt: skip
    return PodsConfig.model_validate({**told, **changed})


async def local_runner(pods: LocalPods | None = None, home: Home | None = None, **changed: Any) -> KubernetesRunner:
    """Open a runner over local pods."""
    home = home or Home("UVA", pod="agent-0", uid="0", address=loopback())
    return await KubernetesRunner.open(config(**changed), home, pods or LocalPods(), data=Path(tempfile.gettempdir()))
