"""What the OCI image specification wants to be said of an image: its configuration, its manifest, its index. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dynamos.deploy.images.layers import Layer
from dynamos.kit.digests import canonical

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
NOBODY = 65532
"""Whom images run as: a user and a group of this number, with no rights and no name elsewhere."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are named by their digest."""

    media_type: str
    content: bytes
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", f"sha256:{hashlib.sha256(self.content).hexdigest()}")

    def descriptor(self, **more: object) -> dict[str, object]:
        """Give what another document says of it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content), **more}


@dataclass(frozen=True, slots=True)
class Runs:
    """How a container of an image is started."""

    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"


@dataclass(frozen=True, slots=True)
class Image:
    """An image in parts: the layers are files, the rest is said here."""

    name: str
    version: str
    manifest: Blob
    config: Blob
    layers: tuple[Layer, ...]

    @property
    def digest(self) -> str:
        """The digest of the manifest: what a reference is pinned to."""
        return self.manifest.digest


def image(
    name: str, version: str, layers: Sequence[Layer], runs: Runs, *, architecture: str, description: str = ""
) -> Image:
    """Describe an image of these layers."""
    config = Blob(CONFIG, canonical(_config(layers, runs, architecture)))
    annotations = {"org.opencontainers.image.title": name, "org.opencontainers.image.version": version}
    if description:
        annotations["org.opencontainers.image.description"] = description
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
        "annotations": annotations,
    }
    return Image(name, version, Blob(MANIFEST, canonical(manifest)), config, tuple(layers))


def index(found: Image, registry: str, *, architecture: str) -> bytes:
    """Give the index of an archive, with the image under its tag and under its digest.

    containerd takes both names as they are; so a kubelet finds an image by the pinned reference without a registry.
    """
    platform = {"architecture": architecture, "os": "linux"}
    tag = {
        "io.containerd.image.name": f"{registry}/{found.name}:{found.version}",
        "org.opencontainers.image.ref.name": found.version,
    }
    pinned = {"io.containerd.image.name": f"{registry}/{found.name}@{found.digest}"}
    manifests = [found.manifest.descriptor(platform=platform, annotations=each) for each in (tag, pinned)]
    return canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})


def attachment(subject: Blob, kind: str, content: Blob, *, title: str) -> tuple[Blob, Blob]:
    """Describe something about an image, such as its bill of materials, as a manifest that refers to it.

    Gives that manifest and the (empty) configuration that it names.
    """
    empty = Blob(EMPTY, b"{}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": empty.descriptor(),
        "layers": [content.descriptor(annotations={"org.opencontainers.image.title": title})],
        "subject": subject.descriptor(),
    }
    return Blob(MANIFEST, canonical(manifest)), empty


def _config(layers: Sequence[Layer], runs: Runs, architecture: str) -> dict[str, object]:
    environment = [f"{name}={value}" for name, value in sorted(runs.environment.items())]
    started: dict[str, object] = {
        "User": f"{NOBODY}:{NOBODY}",
        "Env": environment,
        "Entrypoint": list(runs.entrypoint),
        "WorkingDir": runs.folder,
    }
    if runs.command:
        started["Cmd"] = list(runs.command)
    return {
        "created": _EPOCH,
        "architecture": architecture,
        "os": "linux",
        "config": started,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": _EPOCH, "created_by": layer.made_by} for layer in layers],
    }
