"""Rooms: a namespace of a cluster that exists, in which one trial runs its pods, and which goes with the trial."""

from __future__ import annotations

import base64
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import yaml
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.resources.core_v1 import ConfigMap, Namespace
from lightkube.resources.networking_v1 import NetworkPolicy

from dynamos.deploy.images.references import Images, images
from dynamos.deploy.kubernetes.clusters import context_of, kubeconfig_of
from dynamos.jobs.pods.hails import HAIL_PORT
from dynamos.jobs.pods.settings import PORT, ROLE, PodsConfig
from dynamos.kit.errors import BadInput, NotFound, Refused, Unavailable
from dynamos.model.clusters import Cluster
from dynamos.model.profiles import Profile

TESTBED: Final = "alone"
_DATA = "data"
_HTTPS = 443
_MOST_BYTES = 1_000_000  # what a ConfigMap takes is little more
_ANSWER_SECONDS, _AWAY = 10.0, "cluster-away"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_LABELS = {"app.kubernetes.io/part-of": "dynamos", "dynamos.dev/testbed": TESTBED}
_PATHS = {"clusters": ("certificate-authority",), "users": ("client-certificate", "client-key", "tokenFile")}


@dataclass(frozen=True)
class Place:
    """A cluster, and what it runs pods of. An empty `kubeconfig` is the service account of the pod that we are in."""

    kubeconfig: str
    images: Images

    def address(self) -> str:
        """Give where pods find us: our address on the way to the cluster, "" where that stays inside this machine."""
        with _configured(self.kubeconfig) as told, suppress(OSError):
            known = told.get()
            server = urlsplit(known.cluster.server if known else "")
            way = socket.create_connection((server.hostname, server.port or _HTTPS), timeout=_ANSWER_SECONDS)
            with way:
                own = ip_address(way.getsockname()[0])
            return "" if own.is_loopback else str(own)
        return ""

    @classmethod
    def of(cls, profile: Profile, built: Path, scratch: Path) -> Place:
        """Give the cluster that a profile, KUBECONFIG or the pod that we are in names, with the images of the folder
        `built`. Raises NotFound or BadInput where there is none."""
        cluster = profile.cluster
        pinned = images(built, cluster.registry)
        if cluster.kubeconfig or cluster.context or os.environ.get("KUBECONFIG"):
            return cls(str(_of_context(cluster, kubeconfig_of(cluster), scratch)), pinned)
        if not _ACCOUNT.is_file():  # what is in ~/.kube may be a cluster where nobody wants experiments
            raise NotFound(
                "nothing says which cluster pods are to run in", hint="KUBECONFIG or `cluster` in the profile"
            )
        return cls("", pinned)


@contextmanager
def room(place: Place, data: Path) -> Iterator[PodsConfig]:
    """Make a namespace with the files of a folder in it and give what a runner of pods is told of it; remove it after.

    Pods are walled in as a party's are: they hail us and reach nothing else, and only their couriers are reached.
    Raises Unavailable and Refused where the cluster does not answer or does not let us, BadInput for too much data.
    """
    name = f"dynamos-{TESTBED}-{secrets.token_hex(4)}"
    config = PodsConfig(
        namespace=name, testbed=TESTBED, image=place.images.dynamos, courier=place.images.courier,
        kubeconfig=place.kubeconfig, config_map=_DATA, warm=1,
    )  # fmt: skip
    objects = furniture(name, data)
    with _client(place) as client, _faults(name):
        try:
            for each in objects:
                client.create(each)
            yield config
        finally:
            with suppress(ApiError, httpx2.HTTPError):  # it may not have been made; what fails above is told
                client.delete(Namespace, name)


def furniture(name: str, data: Path) -> list[Any]:
    """Give a namespace and what is in it before any pod is, in their order. Raises BadInput. Pure but for the files."""
    files = {path.name: path.read_bytes() for path in sorted(data.iterdir())}
    if (size := sum(map(len, files.values()))) > _MOST_BYTES:
        raise BadInput(f"{size:,} B of data do not fit into a ConfigMap", where=str(data), hint="ask for fewer rows")
    inside = {"namespace": name, "labels": _LABELS}
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    walls = {
        "podSelector": {"matchLabels": {ROLE: "job"}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": PORT, "protocol": "TCP"}]}],  # wherever we are; couriers know us by TLS
        "egress": [{"ports": [{"port": HAIL_PORT, "protocol": "UDP"}]}],
    }
    held = {file: base64.b64encode(content).decode() for file, content in files.items()}
    return [
        Namespace.from_dict({"metadata": {"name": name, "labels": {**_LABELS, **enforced}}}),
        NetworkPolicy.from_dict({"metadata": {"name": "job", **inside}, "spec": walls}),
        ConfigMap.from_dict({"metadata": {"name": _DATA, **inside}, "binaryData": held}),
    ]


@contextmanager
def _client(place: Place) -> Iterator[Any]:
    with _configured(place.kubeconfig) as told:
        client = Client(told, timeout=httpx2.Timeout(_ANSWER_SECONDS), trust_env=False)
    yield client


@contextmanager
def _configured(kubeconfig: str) -> Iterator[KubeConfig]:
    try:
        yield KubeConfig.from_file(kubeconfig) if kubeconfig else KubeConfig.from_service_account()
    except (ConfigError, OSError, ValueError) as error:
        raise BadInput(f"no cluster can be asked: {error}", where=kubeconfig) from None


@contextmanager
def _faults(name: str) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        kind = Refused if error.status.code in (401, Refused.status) else Unavailable
        raise kind(f"the cluster does not make a namespace: {error.status.message}", where=name) from None
    except httpx2.HTTPError as error:
        raise Unavailable(
            f"the cluster does not answer: {error or type(error).__name__}", where=name, code=_AWAY
        ) from None


def _of_context(cluster: Cluster, path: Path, scratch: Path) -> Path:
    """Give a kubeconfig whose current context is the one that is meant: another file where it is not so already."""
    meant = context_of(cluster)
    if not cluster.context:
        return path.resolve()
    told = yaml.safe_load(path.read_text(encoding="utf-8")) | {"current-context": meant}
    for group, members in _PATHS.items():
        for each in told.get(group) or ():
            content = each.get(group.removesuffix("s")) or {}
            content |= {name: str(path.parent.resolve() / content[name]) for name in members if content.get(name)}
    made = scratch / "kubeconfig"
    made.touch(mode=0o600)
    made.write_text(yaml.safe_dump(told), encoding="utf-8")
    return made
