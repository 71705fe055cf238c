"""Openings as NetworkPolicies of a Kubernetes cluster. The one module of the middleware that knows its client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from lightkube import AsyncClient
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.resources.networking_v1 import NetworkPolicy

from dynamos.kit.errors import BadInput, Broken, DynamosError, Full, NotFound, Refused, Unavailable
from dynamos.middleware.network.openings import Home, Opening, denies_all, labels, manifest, receivers_of

ANSWER_SECONDS = 5.0
_BUSY = 429
_OURS = 500
"""Codes from here on tell of a server that is not well, and not of what was asked."""


class ClusterOpenings:
    """The NetworkPolicies of one agent, in the namespace of its party."""

    def __init__(self, home: Home, *, kubeconfig: str = "") -> None:
        """Raises BadInput where there is no account to ask a cluster with."""
        self._home = home
        try:
            config = KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_service_account()
            self._client = AsyncClient(
                config, namespace=home.namespace, timeout=httpx2.Timeout(ANSWER_SECONDS), trust_env=False
            )
        except (ConfigError, OSError, ValueError) as error:
            hint = "an agent outside of a cluster needs policies.kubeconfig"
            raise BadInput(
                f"no cluster can be asked: {error}", where=home.party, code="no-cluster", hint=hint
            ) from None

    async def put(self, opening: Opening) -> None:
        with self._faults():
            try:
                policy: NetworkPolicy = NetworkPolicy.from_dict(manifest(opening, self._home))  # type: ignore[assignment]
                await self._client.create(policy)
            except ApiError as error:
                if error.status.reason != "AlreadyExists":  # what an answer that was lost told
                    raise

    async def remove(self, name: str) -> None:
        with self._faults():
            try:
                await self._client.delete(NetworkPolicy, name)
            except ApiError as error:
                if error.status.code != NotFound.status:
                    raise

    async def names(self) -> tuple[str, ...]:
        # The name and not only the pod's id: a pod of a set comes back under its name, and its openings are to go.
        mine = [each.metadata for each in await self._all() if each.metadata]
        own = [each for each in mine if any(owner.name == self._home.pod for owner in each.ownerReferences or ())]
        return tuple(each.name or "" for each in own)

    async def receivers(self) -> frozenset[str]:
        return frozenset(peer for each in await self._all() if each.spec for peer in receivers_of(each.spec.to_dict()))

    async def denies(self) -> bool:
        with self._faults():
            found = [each async for each in self._client.list(NetworkPolicy)]
        return any(denies_all(each.spec.to_dict()) for each in found if each.spec)

    async def _all(self) -> list[NetworkPolicy]:
        with self._faults():
            return [each async for each in self._client.list(NetworkPolicy, labels={**labels(self._home)})]

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
            raise Unavailable(what, where=self._home.namespace, code="cluster-away") from None

    def _fault(self, error: ApiError) -> DynamosError:
        code, message, where = error.status.code or 0, error.status.message or "", self._home.namespace
        if code == _BUSY or code >= _OURS:
            return Unavailable(f"the cluster is busy: {message}", where=where, code="cluster-away")
        if "exceeded quota" in message:
            return Full(message, where=where, code="quota", hint="raise the quota of the party's namespace")
        if code in (401, Refused.status):
            hint = "the agent's role needs create, list and delete of networkpolicies in its own namespace"
            return Refused(message, where=where, code="cluster-refuses", hint=hint)
        if code == NotFound.status:
            return NotFound(message, where=where, code="no-namespace")
        return Broken(f"the cluster does not take it: {message}", where=where)
