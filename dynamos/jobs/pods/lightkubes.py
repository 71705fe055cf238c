"""Pods of a real cluster. The one module of the runner that knows its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from lightkube import AsyncClient
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.resources.core_v1 import Pod, Secret
from lightkube.types import CascadeType, PatchType

from dynamos.jobs.pods.api import TAKEN, WARM
from dynamos.jobs.pods.manifests import Manifest
from dynamos.jobs.pods.seen import PodSeen, seen
from dynamos.jobs.pods.settings import AGENT, POOL, Home, PodsConfig
from dynamos.kit.errors import BadInput, Broken, Conflict, DynamosError, Full, NotFound, Refused, Unavailable

ANSWER_SECONDS = 10.0
_SILENT_SECONDS = 60
_BUSY, _OURS, _UNPROCESSABLE = 429, 500, 422
_POOL_PATH = "/metadata/labels/" + POOL.replace("/", "~1")
_HINT = "the agent's role needs create, list, watch, patch and delete of pods, and create and delete of secrets"


class LightkubePods:
    """The pods of one agent in its party's namespace."""

    def __init__(self, config: PodsConfig, home: Home) -> None:
        """Raises BadInput where there is no account to ask a cluster with."""
        self._home = home
        self._namespace = config.namespace
        try:
            account = (
                KubeConfig.from_file(Path(config.kubeconfig).expanduser())
                if config.kubeconfig
                else KubeConfig.from_service_account()
            )
            self._client = AsyncClient(
                account, namespace=config.namespace, timeout=httpx2.Timeout(ANSWER_SECONDS), trust_env=False
            )
        except (ConfigError, OSError, ValueError) as error:
            raise BadInput(
                f"no cluster can be asked: {error}", where=home.party, code="no-cluster",
                hint="an agent outside of a cluster needs pods.kubeconfig",
            ) from None  # fmt: skip

    async def create(self, secret: Manifest, pod: Manifest) -> None:
        for kind, manifest in ((Secret, secret), (Pod, pod)):
            with self._faults():
                try:
                    made: Any = kind.from_dict(manifest)
                    await self._client.create(made)
                except ApiError as error:
                    if error.status.reason != "AlreadyExists":  # what an answer that was lost told
                        raise

    async def take(self, name: str, *, seconds: float) -> None:
        patch = [
            {"op": "test", "path": _POOL_PATH, "value": WARM},
            {"op": "replace", "path": _POOL_PATH, "value": TAKEN},
            {"op": "replace", "path": "/spec/activeDeadlineSeconds", "value": max(1, int(seconds))},
        ]
        with self._faults():
            try:
                await self._client.patch(Pod, name, patch, patch_type=PatchType.JSON)
            except ApiError as error:
                if error.status.code in (NotFound.status, Conflict.status, _UNPROCESSABLE):
                    raise Conflict(f"the pod is not warm any more: {error.status.message}", where=name) from None
                raise

    async def delete(self, name: str) -> None:
        for kind in (Pod, Secret):
            with self._faults():
                try:
                    await self._client.delete(kind, name, cascade=CascadeType.BACKGROUND)
                except ApiError as error:
                    if error.status.code != NotFound.status:
                        raise

    async def watch(self) -> AsyncIterator[PodSeen]:
        known: set[str] = set()
        labels: dict[str, Any] = {AGENT: self._home.labels[AGENT]}
        while True:
            with self._faults():
                listed = self._client.list(Pod, labels=labels)
                now = [seen(pod.to_dict()) async for pod in listed]
                for name in known - {pod.name for pod in now}:
                    yield PodSeen(name, gone=True)
                known = {pod.name for pod in now}
                for pod in now:
                    yield pod
                async with aclosing(self._changes(labels, listed.resourceVersion)) as changes:
                    async for pod in changes:
                        (known.discard if pod.gone else known.add)(pod.name)
                        yield pod

    async def _changes(self, labels: dict[str, Any], version: str) -> AsyncGenerator[PodSeen]:
        """Give changes for as long as there are any: a silent connection may have nobody at its other end."""
        events = self._client.watch(Pod, labels=labels, resource_version=version, server_timeout=_SILENT_SECONDS)
        waiting = aiter(events)
        while True:
            try:
                async with asyncio.timeout(_SILENT_SECONDS + ANSWER_SECONDS):
                    event, found = await anext(waiting)
            except (TimeoutError, StopAsyncIteration):
                return
            yield seen(found.to_dict(), gone=event == "DELETED")

    async def close(self) -> None:
        await self._client.aclose()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except ApiError as error:
            raise self._fault(error) from None
        except httpx2.HTTPError as error:
            what = f"the cluster does not answer: {error or type(error).__name__}"
            raise Unavailable(what, where=self._namespace, code="cluster-away") from None

    def _fault(self, error: ApiError) -> DynamosError:
        code, message, where = error.status.code or 0, error.status.message or "", self._namespace
        if "exceeded quota" in message:
            return Full(message, where=where, code="quota", hint="raise the quota of the party's namespace, or wait")
        if code == _BUSY or code >= _OURS:
            return Unavailable(f"the cluster is busy: {message}", where=where, code="cluster-away")
        if "violates PodSecurity" in message:
            return Broken(f"the namespace does not take our pods: {message}", where=where)
        if code in (401, Refused.status):
            return Refused(message, where=where, code="cluster-refuses", hint=_HINT)
        if code == NotFound.status:
            return NotFound(message, where=where, code="no-namespace")
        return Broken(f"the cluster does not take it: {message}", where=where)
