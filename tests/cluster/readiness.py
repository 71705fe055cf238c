"""Asks a cluster through its API as its administrator: makes objects, and waits until things are ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cluster.waiting import until
from cluster.watches import Api

USER = "admin"
_WITHIN = 120.0
Thing = dict[str, Any]


class Asked:
    """A cluster that begins. Every wait ends early where `over` tells that it will not come up."""

    def __init__(self, folder: Path, server: str, over: Callable[[], bool] = lambda: False) -> None:
        self._api = Api(folder, USER, server)
        self._over = over

    def api_ready(self) -> None:
        """Wait until the API server is ready and has made the namespaces of its own. Raises TimedOut."""
        self._until("the API server is ready", lambda: self._get("/api/v1/namespaces/kube-system"))

    def make(self, objects: Sequence[Thing]) -> None:
        """Make objects; those that are there stay as they are. Raises TimedOut with what the server said."""
        for each in objects:
            self._until(f"{each['kind']} {each['metadata']['name']} is made", lambda each=each: self._made(each))

    def nodes_ready(self, names: Sequence[str]) -> None:
        """Wait until nodes are Ready. Raises TimedOut."""

        def ready() -> bool:
            nodes = (self._get("/api/v1/nodes") or {"items": []})["items"]
            return set(names) <= {node["metadata"]["name"] for node in nodes if _condition(node, "Ready")}

        self._until(f"nodes {', '.join(names)} are Ready", ready)

    def deployed(self, namespace: str, name: str) -> None:
        """Wait until a deployment has all of its pods, and they serve. Raises TimedOut."""

        def serves() -> bool:
            found = self._get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
            return bool(found) and found.get("status", {}).get("readyReplicas", 0) >= found["spec"]["replicas"]

        self._until(f"the deployment {name} serves", serves)

    def _made(self, thing: Thing) -> bool:
        status, told = self._api.ask("POST", collection(thing), thing)
        if status in (HTTPStatus.CREATED, HTTPStatus.CONFLICT):
            return True
        raise ConnectionError(f"{status}: {told.get('message')}")

    def _get(self, path: str) -> Thing | None:
        status, told = self._api.ask("GET", path)
        return told if status == HTTPStatus.OK else None

    def _until(self, what: str, probe: Callable[[], Any]) -> None:
        until(what, probe, within=_WITHIN, over=self._over)


def collection(thing: Thing) -> str:
    """Give the path at which objects of a thing's kind are made."""
    version, kind = thing["apiVersion"], thing["kind"].lower()
    plural = f"{kind}es" if kind.endswith("s") else f"{kind}s"
    space = thing["metadata"].get("namespace")
    place = f"namespaces/{space}/" if space else ""
    return f"/{'apis' if '/' in version else 'api'}/{version}/{place}{plural}"


def _condition(thing: Thing, name: str) -> bool:
    conditions = thing.get("status", {}).get("conditions") or ()
    return any(each["type"] == name and each["status"] == "True" for each in conditions)
