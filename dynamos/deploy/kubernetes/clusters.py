"""A cluster that is reached by a kubeconfig. The module by which a controller asks it; pods do so in `pseudonyms`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import yaml
from lightkube import Client
from lightkube.config import client_adapter
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.decoders import decode_object, decode_status
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.generic_resource import create_global_resource
from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
from lightkube.resources.core_v1 import Namespace, Node, PersistentVolumeClaim, Service
from lightkube.resources.discovery_v1 import EndpointSlice
from lightkube.resources.scheduling_v1 import PriorityClass
from lightkube.resources.storage_v1 import StorageClass

from dynamos.deploy.kubernetes import facts
from dynamos.deploy.kubernetes.facts import Facts, Questions, Right
from dynamos.deploy.kubernetes.labels import SITE
from dynamos.kit.errors import BadInput, Broken, NotFound, Refused, Unauthenticated, Unavailable
from dynamos.kit.words import suggest
from dynamos.model import clusters

T = TypeVar("T")
SECONDS = 5.0
_AT_ONCE = 8
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_HOME = Path("~/.kube/config")
_CALICO_KEY, _CILIUM_KEY = "projectcalico.org/WireguardPublicKey", "network.cilium.io/wg-pub-key"
_CILIUM = create_global_resource("cilium.io", "v2", "CiliumNode", "ciliumnodes")


class Lightkube:
    """A cluster as the profile says how to reach it."""

    def __init__(self, cluster: clusters.Cluster) -> None:
        """Raises NotFound where there is no such kubeconfig or context, BadInput where it cannot be read."""
        self._path = kubeconfig_of(cluster)
        self._config = _context(self._path, cluster.context)
        params = client_adapter.ConnectionParams(timeout=httpx2.Timeout(SECONDS), trust_env=False)
        with _read(self._path):
            self._client = Client(config=self._config, timeout=httpx2.Timeout(SECONDS), trust_env=False)
            self._raw = client_adapter.Client(self._config, params)

    @property
    def server(self) -> str:
        """Where its API server is, seen from here."""
        return str(self._config.cluster.server)

    def look(self, questions: Questions) -> Facts:
        with self._faults():
            version = self._version()
            acquaint()
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cluster") as pool:
                allowed = list(pool.map(self._may, questions.rights))
            refused = tuple(right for right, may in zip(questions.rights, allowed, strict=True) if not may)
            return Facts(
                version=version,
                nodes=tuple(self._nodes()),
                classes={_name(each): _is_default(each) for each in self._listed(StorageClass)},
                namespaces=self._labels(Namespace, questions.namespaces),
                priorities=self._labels(PriorityClass, questions.priorities),
                claims=frozenset(claim for claim in questions.claims if self._has_claim(*claim)),
                refused=refused,
                api_servers=self._api_servers(),
            )

    def api_servers(self) -> tuple[tuple[str, int], ...]:
        with self._faults():
            return self._api_servers()

    def _nodes(self) -> Iterator[facts.Node]:
        """Give the nodes. Of those of Cilium, other objects tell whether they encrypt."""
        keyed = {_name(each) for each in self._listed(_CILIUM) if _annotations(each).get(_CILIUM_KEY)}
        for each in self._listed(Node):
            encrypts = bool(_annotations(each).get(_CALICO_KEY)) or _name(each) in keyed
            yield replace(_node(each), encrypts=encrypts)

    def _version(self) -> tuple[int, int]:
        answer = self._raw.get("/version")
        answer.raise_for_status()
        told = answer.json()
        return int(told["major"]), int(str(told["minor"]).rstrip("+"))

    def _may(self, right: Right) -> bool:
        asked = ResourceAttributes(
            verb=right.verb, group=right.group, resource=right.resource, namespace=right.namespace
        )
        review = SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=asked))
        answer = self._client.create(review)
        return bool(answer.status and answer.status.allowed)

    def _listed(self, kind: Any) -> list[Any]:
        """Give all objects of a kind; none where we may not see them, or the cluster has no such kind: what follows
        from that is told elsewhere."""
        try:
            return list(self._client.list(kind))
        except (ApiError, httpx2.HTTPStatusError) as error:
            if error.response.status_code not in (NotFound.status, Refused.status):
                raise
            return []

    def _labels(self, kind: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
        found = {}
        for name in names:
            try:
                found[name] = dict(self._client.get(kind, name).metadata.labels or {})
            except ApiError as error:
                if error.status.code not in (NotFound.status, Refused.status):
                    raise
        return found

    def _has_claim(self, namespace: str, name: str) -> bool:
        try:
            self._client.get(PersistentVolumeClaim, name, namespace=namespace)
        except ApiError as error:
            if error.status.code not in (NotFound.status, Refused.status):
                raise
            return False
        return True

    def _api_servers(self) -> tuple[tuple[str, int], ...]:
        """Give the address of the service `kubernetes` and those behind it: policies see the one or the others."""
        found: list[tuple[str, int]] = []
        service = self._client.get(Service, "kubernetes", namespace="default")
        if service.spec and service.spec.clusterIP:
            found += [(service.spec.clusterIP, int(port.port)) for port in service.spec.ports or ()]
        labels: Any = {"kubernetes.io/service-name": "kubernetes"}
        for each in self._client.list(EndpointSlice, namespace="default", labels=labels):
            ports = [int(port.port) for port in each.ports or () if port.port]
            found += [(address, port) for end in each.endpoints or () for address in end.addresses for port in ports]
        return tuple(dict.fromkeys(found))

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (ApiError, httpx2.HTTPStatusError) as error:
            code = error.response.status_code
            said = error.status.message if isinstance(error, ApiError) else str(error)
            if code == Unauthenticated.status:
                hint = "renew what the kubeconfig says of you, or choose another context"
                raise Unauthenticated("the cluster does not know us", where=self.server, hint=hint) from None
            if code == Refused.status:
                raise Refused(f"the cluster does not let us look: {said}", where=self.server) from None
            raise Unavailable(f"the cluster is not well: {said}", where=self.server) from None
        except httpx2.HTTPError as error:
            hint = f"is it up? `kubectl --kubeconfig {self._path} cluster-info` tells"
            raise Unavailable(f"no cluster answers: {error}", where=self.server, hint=hint) from None
        except (ValueError, KeyError) as error:
            raise Broken(f"the cluster says what we do not understand: {error!r}", where=self.server) from None


def acquaint() -> None:
    """Have the decoder know what threads are to decode. In msgspec 0.22 two that are the first with a type crash."""
    decode_object(b'{"spec": {}}', SelfSubjectAccessReview)
    decode_status(b"{}")


def kubeconfig_of(cluster: clusters.Cluster) -> Path:
    """Give the path of the file that says how a cluster is reached: as the profile says, else as `kubectl` finds it."""
    told = cluster.kubeconfig or os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
    return Path(told or _HOME).expanduser()


def context_of(cluster: clusters.Cluster) -> str:
    """Give the context that is meant. Raises NotFound, BadInput."""
    path = kubeconfig_of(cluster)
    return _context(path, cluster.context).context_name or ""


def _context(path: Path, name: str) -> SingleConfig:
    hint = "say where it is in cluster.kubeconfig or KUBECONFIG"
    if not path.is_file():
        raise NotFound("there is no kubeconfig", where=str(path), hint=hint)
    with _read(path):
        told = KubeConfig.from_file(path)
        known = sorted(told.contexts)
        if name and name not in known:
            near = suggest(name, known) or f"known: {', '.join(known) or 'none'}"
            raise NotFound(f"the kubeconfig has no context {name!r}", where=str(path), hint=near)
        found = told.get(name or None)
    if found is None:
        raise NotFound("the kubeconfig has no current context", where=str(path), hint="say cluster.context")
    return found


@contextmanager
def _read(path: Path) -> Iterator[None]:
    try:
        yield
    except NotFound:
        raise
    except (ConfigError, yaml.YAMLError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"the kubeconfig cannot be used: {error}", where=str(path)) from None


def _node(node: Node) -> facts.Node:
    status, spec = node.status, node.spec
    conditions = {each.type: each.status for each in (status.conditions or ())} if status else {}
    ready = conditions.get("Ready") == "True" and not (spec and spec.unschedulable)
    images = frozenset(name for image in (status.images or ()) for name in image.names or ()) if status else frozenset()
    labels = (node.metadata.labels if node.metadata else None) or {}
    return facts.Node(_name(node), labels.get(SITE, ""), ready, images)


def _annotations(each: Any) -> dict[str, str]:
    return dict((each.metadata.annotations if each.metadata else None) or {})


def _is_default(kind: StorageClass) -> bool:
    return bool(kind.metadata and (kind.metadata.annotations or {}).get(_DEFAULT) == "true")


def _name(each: Any) -> str:
    return str(each.metadata.name)
