"""Objects of a cluster, by their manifests."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import KubeConfig

_PLURALS = {"NetworkPolicy": "networkpolicies", "PriorityClass": "priorityclasses", "Ingress": "ingresses",
            "StorageClass": "storageclasses"}  # fmt: skip
_SECONDS = 20.0
MANAGER = "stand-in"


class NotMade(Exception):
    """The cluster does not take it, or it does not become what it shall."""


class Gone(NotMade):
    """There is no such object."""


class Api:
    """The API server of a context."""

    def __init__(self, kubeconfig: str, context: str) -> None:
        config = KubeConfig.from_file(kubeconfig).get(context or None)
        assert config is not None
        params = client_adapter.ConnectionParams(timeout=httpx2.Timeout(_SECONDS), trust_env=False)
        self._client = client_adapter.Client(config, params)

    def apply(self, wanted: dict[str, Any], *, new: bool) -> None:
        """Make the object what is wanted. A new one must not be there yet, unless it is as labelled."""
        if new:
            self._check_ours(wanted)
        query = {"fieldManager": MANAGER, "force": "true"}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        self._done(
            self._client.patch(self.path(wanted), params=query, headers=headers, content=json.dumps(wanted).encode())
        )

    def get(self, wanted: dict[str, Any]) -> Any:
        return self._done(self._client.get(self.path(wanted)))

    def items(self, version: str, kind: str, namespace: str, **query: str) -> list[Any]:
        sample = {"apiVersion": version, "kind": kind, "metadata": {"name": "", "namespace": namespace}}
        return list(self._done(self._client.get(self.path(sample).rstrip("/"), params=query))["items"])

    def delete(self, there: dict[str, Any]) -> None:
        body = {"propagationPolicy": "Foreground" if there["kind"] != "Namespace" else "Background"}
        try:
            self._done(self._client.request("DELETE", self.path(there), json=body))
        except Gone:
            return

    def path(self, wanted: dict[str, Any]) -> str:
        version, kind, metadata = wanted["apiVersion"], wanted["kind"], wanted["metadata"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        space = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        plural = _PLURALS.get(kind, f"{kind.lower()}s")
        return f"{root}{space}/{plural}/{metadata['name']}"

    def _check_ours(self, wanted: dict[str, Any]) -> None:
        try:
            there = self.get(wanted)
        except Gone:
            return
        labels = wanted["metadata"].get("labels", {})
        held = there["metadata"].get("labels", {})
        if any(held.get(key) != value for key, value in labels.items()):
            raise NotMade(f"{wanted['kind']} {wanted['metadata']['name']!r} exists already")

    def _done(self, answer: Any) -> Any:
        if answer.status_code == 404:
            raise Gone(answer.text)
        if answer.status_code >= 400:
            try:
                raise NotMade(answer.json()["message"])
            except (ValueError, KeyError):
                raise NotMade(answer.text) from None
        return answer.json()
