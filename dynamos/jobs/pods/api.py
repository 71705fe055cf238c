"""The contract of a cluster as far as running jobs needs one, and nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from dynamos.jobs.pods.manifests import Manifest
from dynamos.jobs.pods.seen import PodSeen

WARM, TAKEN, COLD, REHEARSAL = "warm", "taken", "cold", "rehearsal"


class Pods(Protocol):
    """The pods of one agent in one namespace.

    Every call may raise Unavailable (the cluster does not answer), Refused (the agent's role does not allow it) and
    Full (the namespace's quota).
    """

    async def create(self, secret: Manifest, pod: Manifest) -> None:
        """Make a pod, and before it the secret of its courier."""
        ...

    async def take(self, name: str, *, seconds: float) -> None:
        """Turn a warm pod into a taken one, that ends after `seconds` from its start. Raises Conflict where it is not
        warm any more: of those who take the same pod at once, one succeeds."""
        ...

    async def delete(self, name: str) -> None:
        """End a pod, and its secret. Does nothing where there is none."""
        ...

    def watch(self) -> AsyncIterator[PodSeen]:
        """Give every pod of this agent that there is, then every change, without an end."""
        ...

    async def close(self) -> None:
        """Let go of the cluster. Pods stay as they are."""
        ...
