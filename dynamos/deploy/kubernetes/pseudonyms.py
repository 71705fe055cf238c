"""The key that a party's pseudonyms are made with: a Secret of its own namespace, which its agent makes the first time.

Whoever deploys never has it, and it is in no manifest. It goes when the namespace goes.
"""

from __future__ import annotations

import base64
import secrets

import httpx2
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Secret

from dynamos.deploy.kubernetes.labels import OURS, PART_OF
from dynamos.deploy.kubernetes.parties import PSEUDONYMS
from dynamos.kit.errors import BadInput, Conflict, NotFound, Refused, Unavailable

KEY = "key"
_SECONDS = 5.0
_BYTES = 32


def kept(namespace: str, *, client: Client | None = None) -> bytes:
    """Give the namespace's key, made if there is none; the same to everybody who asks.

    Raises Refused where the account may not have it, Unavailable where the API server does not answer.
    """
    try:
        ours = client or Client(
            config=KubeConfig.from_service_account(), timeout=httpx2.Timeout(_SECONDS), trust_env=False
        )
        return _found(ours, namespace) or _made(ours, namespace)
    except ConfigError as error:
        raise BadInput(f"an agent in a pod has an account: {error}", where=namespace) from None
    except ApiError as error:
        if error.status.code in (401, Refused.status):
            hint = f"the agent's role needs `create` of secrets, and `get` of the one that is called {PSEUDONYMS}"
            raise Refused(error.status.message or "", where=namespace, hint=hint) from None
        raise Unavailable(f"the cluster does not keep the key: {error.status.message}", where=namespace) from None
    except httpx2.HTTPError as error:
        raise Unavailable(f"the cluster does not answer: {error!r}", where=namespace) from None


def _made(client: Client, namespace: str) -> bytes:
    key = secrets.token_bytes(_BYTES)
    told = {KEY: base64.b64encode(key).decode()}
    label = {PART_OF: OURS}
    metadata = ObjectMeta(name=PSEUDONYMS, namespace=namespace, labels=label)
    try:
        client.create(Secret(metadata=metadata, data=told, type="Opaque", immutable=True))
    except ApiError as error:
        if error.status.code != Conflict.status:
            raise
        return _found(client, namespace)  # another replica was first
    return key


def _found(client: Client, namespace: str) -> bytes:
    try:
        held = client.get(Secret, PSEUDONYMS, namespace=namespace)
    except ApiError as error:
        if error.status.code != NotFound.status:
            raise
        return b""
    return base64.b64decode((held.data or {}).get(KEY, ""))
