"""Asks a cluster through its API: makes objects, and waits until things are ready."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cluster.waiting import until

_WITHIN = 60.0


@lru_cache(maxsize=8)
def client(kubeconfig: Path, stamp: float = 0.0) -> Any:
    """Give a client with every right."""
    from lightkube import Client, KubeConfig  # noqa: PLC0415  it takes long to import

    return Client(config=KubeConfig.from_file(kubeconfig), timeout=10.0, trust_env=False)


def _client(kubeconfig: Path) -> Any:
    return client(kubeconfig, kubeconfig.stat().st_mtime)


def api_ready(kubeconfig: Path) -> None:
    """Wait until the API server answers and has made the namespaces of its own. Raises TimedOut."""
    from lightkube.resources.core_v1 import Namespace  # noqa: PLC0415

    asked = _client(kubeconfig)
    until("the API server is ready", lambda: _try(lambda: asked.get(Namespace, "kube-system")), within=_WITHIN)


def make(kubeconfig: Path, objects: Sequence[dict[str, Any]]) -> None:
    """Make objects; those that are there stay as they are."""
    from lightkube import ApiError, codecs  # noqa: PLC0415

    asked = _client(kubeconfig)

    def made(each: dict[str, Any]) -> bool:
        try:
            asked.create(codecs.from_dict(each))
        except ApiError as error:
            return error.status.code == 409
        return True

    for each in objects:
        what = f"{each['kind']} {each['metadata']['name']} is made"
        until(what, lambda each=each: _try(lambda: made(each)), within=_WITHIN)


def nodes_ready(kubeconfig: Path, names: Sequence[str], *, within: float = _WITHIN) -> None:
    """Wait until nodes are Ready. Raises TimedOut."""
    from lightkube.resources.core_v1 import Node  # noqa: PLC0415

    asked = _client(kubeconfig)

    def ready() -> bool:
        conditions = {node.metadata.name: node.status.conditions or [] for node in asked.list(Node)}
        found = {
            name for name, all_ in conditions.items() if any(c.type == "Ready" and c.status == "True" for c in all_)
        }
        return found >= set(names)

    until(f"nodes {', '.join(names)} are Ready", lambda: _try(ready), within=within)


def deployed(kubeconfig: Path, namespace: str, name: str) -> None:
    """Wait until a deployment has a pod that serves. Raises TimedOut."""
    from lightkube.resources.apps_v1 import Deployment  # noqa: PLC0415

    asked = _client(kubeconfig)
    probe = lambda: (asked.get(Deployment, name, namespace=namespace).status.readyReplicas or 0) > 0  # noqa: E731
    until(f"deployment {name} serves", lambda: _try(probe), within=_WITHIN)


def _try(work: Any) -> Any:
    """Give what work gives, None where the API server does not answer or refuses."""
    import httpx2 as httpx  # noqa: PLC0415  what this client is made of
    from lightkube import ApiError  # noqa: PLC0415

    try:
        return work()
    except (ApiError, httpx.HTTPError):
        return None
