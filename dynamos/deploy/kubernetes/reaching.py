"""The way from this machine to an API on a cluster: its address from outside, or a port that `kubectl` forwards."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from dynamos.deploy.kubernetes.clusters import context_of, kubeconfig_of
from dynamos.deploy.kubernetes.gateways import PORT
from dynamos.deploy.states import StateFolder, explained, write_private
from dynamos.jobs import linux
from dynamos.kit.errors import NotFound, Unavailable
from dynamos.knowledge.permissions import API
from dynamos.model.clusters import control_namespace
from dynamos.model.profiles import Profile
from dynamos.model.values import Value

OPEN_SECONDS = 20.0
_SAID = re.compile(rb"Forwarding from (127\.0\.0\.1:\d+) ")
_END_SECONDS = 2.0


class Reach(Value):
    """How an API on a cluster is reached: `address` from outside, empty where a port has to be forwarded."""

    kubeconfig: str
    context: str
    namespace: str
    address: str = ""

    @classmethod
    def of(cls, profile: Profile) -> Reach:
        """Give the way that a profile makes. Raises NotFound, BadInput for its kubeconfig."""
        cluster = profile.cluster
        address = f"https://{cluster.ingress.host}" if cluster.ingress else ""
        path, context = str(kubeconfig_of(cluster).resolve()), context_of(cluster)
        return cls(kubeconfig=path, context=context, namespace=control_namespace(profile.name), address=address)

    @classmethod
    def read(cls, folder: StateFolder) -> Reach:
        """Read what `note` wrote. Raises NotFound where the testbed is on no cluster."""
        with explained(folder.reach):
            text = folder.reach.read_bytes()
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            raise NotFound("this tells of no cluster", where=str(folder.reach), hint="dynamos stack up") from None

    def note(self, folder: StateFolder) -> None:
        """Write it into the testbed's state, for the commands that ask the API."""
        with explained(folder.reach):
            write_private(folder.reach, self.model_dump_json(by_alias=True))

    @property
    def command(self) -> list[str]:
        """The words that forward a port of this machine which is free."""
        told = ["--kubeconfig", self.kubeconfig, *(["--context", self.context] if self.context else [])]
        return ["kubectl", *told, "--namespace", self.namespace, "port-forward", f"service/{API}", f":{PORT}"]


@dataclass
class Forward:
    """A port of this machine that leads to the API as long as it is not closed, nor we have ended."""

    address: str
    _process: subprocess.Popen[bytes]

    @classmethod
    def open(cls, reach: Reach, *, within: float = OPEN_SECONDS) -> Forward:
        """Forward a port. Raises Unavailable where there is no `kubectl`, or with what it says."""
        program = shutil.which("kubectl")
        if program is None:
            hint = "install kubectl, or give the API's address with --api"
            raise Unavailable("kubectl is not installed, by which the API is reached", hint=hint)
        process = subprocess.Popen(
            [program, *reach.command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to hear
            preexec_fn=_ends_with(os.getpid()),  # noqa: PLW1509  it makes two system calls
        )
        found, said = _hear(process, time.monotonic() + within)
        if found:
            return cls(f"http://{found}", process)
        cls("", process).close()
        hint = f"kubectl --namespace {reach.namespace} get pods"
        raise Unavailable(f"the API cannot be reached: {said or 'no word of it'}", where=reach.namespace, hint=hint)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


def _hear(process: subprocess.Popen[bytes], end: float) -> tuple[str, str]:
    """Give the address that is forwarded; else an empty one and what was said."""
    assert process.stdout is not None
    said = b""
    while (left := end - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left)[0]:
            break
        part = os.read(process.stdout.fileno(), 65536)
        said += part
        if found := _SAID.search(said):
            return found[1].decode(), ""
        if not part:
            break
    return "", said.decode(errors="replace").strip()[-500:]


def _ends_with(parent: int) -> Callable[[], None]:
    """Give what has a child end when we do, however we end."""

    def ask() -> None:
        if sys.platform == "linux":
            with suppress(OSError):
                linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return ask
