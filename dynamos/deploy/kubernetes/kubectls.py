"""The program `kubectl`, on the cluster that a testbed is on: what it is asked, and what its complaints mean."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dynamos.deploy.kubernetes.plans import Manifest
from dynamos.kit.errors import (
    Broken,
    DynamosError,
    Full,
    JobFailed,
    NotFound,
    Refused,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from dynamos.testbed.hosts import Completed

SECONDS = 30.0
_SHOWN = 500


class Asked(Protocol):
    """A cluster that can be asked in the words of `kubectl`."""

    def __call__(self, *words: str, stdin: bytes = b"", within: float = SECONDS) -> Completed:
        """Raises what `complaint` makes of a failure, TimedOut, NotFound without the program or the kubeconfig."""
        ...


@dataclass(frozen=True, slots=True)
class Kubectl:
    """A cluster that is reached by a kubeconfig and a context of it; an empty one is the current one."""

    kubeconfig: str
    context: str = ""

    def __call__(self, *words: str, stdin: bytes = b"", within: float = SECONDS) -> Completed:
        program = shutil.which("kubectl")
        if program is None:
            raise NotFound("kubectl is not installed", hint="put it on PATH")
        if not Path(self.kubeconfig).is_file():
            hint = "dynamos stack up notes where it is"
            raise NotFound("the kubeconfig is not there any more", where=self.kubeconfig, hint=hint)
        context = ["--context", self.context] if self.context else []
        argv = [program, "--kubeconfig", self.kubeconfig, *context, *words]
        try:
            # Ctrl-C is ours to hear: what is begun is to be undone.
            done = subprocess.run(
                argv, input=stdin, capture_output=True, check=False, timeout=within, start_new_session=True
            )
        except subprocess.TimeoutExpired:
            raise TimedOut(f"kubectl {words[0]} did not end within {within:g} s", where=self.kubeconfig) from None
        if done.returncode:
            raise complaint(words[0], done.stderr.decode(errors="replace").strip(), self.kubeconfig)
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class PodHost:
    """The only container of a pod, as a host to run programs in. It needs no shell."""

    asked: Asked
    name: str
    namespace: str
    pod: str
    python: Sequence[str] = ("python",)

    def run(
        self, argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, within: float = SECONDS
    ) -> Completed:
        """Run a command to its end. Raises as `Asked` does, whatever `check` says: who failed cannot be told apart."""
        del check
        words = ["exec", "--stdin", "--quiet", "--namespace", self.namespace, self.pod, "--", *argv]
        return self.asked(*words, stdin=stdin or b"", within=within)


def listed(asked: Asked, *words: str) -> list[Manifest]:
    """Give the objects that `kubectl get WORDS` tells of. Raises Broken where it tells something else."""
    told = asked("get", *words, "--output", "json", "--ignore-not-found").stdout
    if not told.strip():
        return []
    try:
        found: Mapping[str, Any] = json.loads(told)
        return list(found["items"]) if "items" in found else [dict(found)]
    except (ValueError, TypeError, KeyError):
        raise Broken(f"kubectl get printed {told[:200]!r}") from None


def complaint(verb: str, said: str, where: str) -> DynamosError:
    """Give the error that fits what `kubectl` has said when it failed. Pure."""
    found = next(((kind, hint) for marks, kind, hint in _MEANINGS if any(mark in said for mark in marks)), None)
    kind, hint = found or (JobFailed, "")
    code = {Full: "quota", Refused: "cluster-refuses"}.get(kind, "")
    return kind(f"kubectl {verb}: {said[-_SHOWN:] or 'no word of why'}", where=where, hint=hint, code=code)


_MEANINGS: tuple[tuple[tuple[str, ...], type[DynamosError], str], ...] = (
    (("exceeded quota",), Full, "wait until jobs have ended, or raise cluster.quota in the profile"),
    (("violates PodSecurity",), Broken, ""),
    (("timed out waiting",), TimedOut, "the cluster goes on with it: look again later"),
    (("Forbidden", "forbidden"), Refused, "use a context that may do that: whoever deployed it could"),
    (("Unauthorized", "must be logged in", "provide credentials"), Unauthenticated,
     "renew what the kubeconfig says of you, or choose another context"),
    (("Unable to connect", "was refused", "connection refused", "i/o timeout", "no such host", "TLS handshake",
      "connection reset", "the server is currently unable", "ServiceUnavailable", "context deadline exceeded"),
     Unavailable, "is the cluster up? `kubectl cluster-info` tells"),
    (("NotFound", "not found", "does not exist"), NotFound, ""),
)  # fmt: skip
