"""Openings in namespaces of a real API server, made with just the rights that an agent has."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynamos.middleware.network.cluster import ClusterOpenings
from dynamos.middleware.network.openings import Home

KUBECTL = Path(__file__).parents[2] / ".tools/kubernetes/kubectl"
VERBS = ["create", "delete", "list"]
RESTRICTED = {
    "name": "agent",
    "image": "dynamos.local/none:1",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}


class Kubectl:
    """An administrator of the cluster."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._argv = [str(program), "--kubeconfig", str(kubeconfig)]

    def __call__(self, *words: str, stdin: str = "", within: float = 60.0) -> str:
        done = subprocess.run(
            [*self._argv, *words], input=stdin, capture_output=True, text=True, timeout=within, check=False
        )
        if done.returncode:
            raise AssertionError(done.stderr)
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def uid(self, kind: str, name: str, namespace: str) -> str:
        return self("get", kind, name, "-n", namespace, "-o", "jsonpath={.metadata.uid}")


def kubectl_of(request: pytest.FixtureRequest) -> Kubectl:
    """Give the administrator of the tests' cluster, or of the one whose kubeconfig DYNAMOS_TEST_KUBECONFIG names."""
    if named := os.environ.get("DYNAMOS_TEST_KUBECONFIG"):
        return Kubectl(KUBECTL, Path(named))
    return Kubectl(KUBECTL, request.getfixturevalue("cluster").kubeconfig)


def party_objects(namespace: str) -> list[dict[str, Any]]:
    """Give a party's namespace with what denies everything, and two pods of agents that nobody runs."""
    here = {"namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, **here},
            "spec": {
                "serviceAccountName": "agent",
                "automountServiceAccountToken": False,
                "nodeSelector": {"dynamos.dev/site": "nowhere"},
                "containers": [RESTRICTED],
            },
        }
        for name in ("agent-0", "agent-1")
    ]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent", **here}},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": {"name": "agent", **here},
            "rules": [{"apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"], "verbs": VERBS}],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "agent", **here},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "agent"},
            "subjects": [{"kind": "ServiceAccount", "name": "agent", **here}],
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "deny", **here},
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        },
        *pods,
    ]


def account(kubectl: Kubectl, namespace: str, folder: Path) -> Path:
    """Write a kubeconfig of the agent's account of a namespace."""
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    token = kubectl("create", "token", "agent", "-n", namespace).strip()
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / f"{namespace}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


def ground(kubectl: Kubectl, folder: Path, make: Callable[..., Any]) -> Callable[[], Any]:
    """Give what `test_openings` works on."""

    @asynccontextmanager
    async def made() -> AsyncIterator[Any]:
        prefix = f"openings-{secrets.token_hex(3)}"
        namespaces = {party: f"{prefix}-{party}" for party in ("united", "clearing", "klm")}
        own = namespaces["united"]
        kubectl.apply(*party_objects(own))
        kubeconfig = account(kubectl, own, folder)

        def home(pod: str = "agent-0", uid: str = "") -> Home:
            return Home("united", prefix, namespaces, pod, uid or kubectl.uid("pod", pod, own))

        place = make(lambda home: ClusterOpenings(home, kubeconfig=str(kubeconfig)), home)
        try:
            yield place
        finally:
            await place.close()
            with contextlib.suppress(AssertionError):
                kubectl("delete", "namespace", own, "--wait=false")

    return made
