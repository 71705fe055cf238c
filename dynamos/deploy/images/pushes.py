"""Pushes: images from a folder to a registry, only what is not there yet, each with its bill of materials."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamos.deploy.images import manifests, references, registries, sboms
from dynamos.deploy.images.archives import Archive
from dynamos.deploy.images.manifests import INDEX, MANIFEST, Blob
from dynamos.deploy.images.references import Built
from dynamos.deploy.images.registries import Registry
from dynamos.deploy.states import explained
from dynamos.kit.digests import canonical
from dynamos.kit.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image that is at a registry now: how many bytes were sent, and how many were there already."""

    name: str
    reference: str
    sent: int
    skipped: int


def push(
    folder: Path,
    registry: str,
    client: Registry,
    names: Sequence[str] = (),
    *,
    said: Callable[[str], None] = lambda _: None,
) -> list[Pushed]:
    """Push images that were built into a folder to a registry (host[:port][/path]), all that there are or the named.

    The manifest comes last: a push that breaks off leaves nothing that could be pulled, and the next one goes on with
    what is missing. Raises Conflict where an archive is not the one that the folder's record tells of.
    """
    built = references.read(folder)
    if missing := [name for name in names if name not in built]:
        raise NotFound(f"not built yet: {', '.join(missing)}", where=str(folder), hint="dynamos images build")
    done = []
    for name in names or built:
        done.append(_push(folder, registry, client, built[name]))
        said(f"{done[-1].reference}  {done[-1].sent / 1e6:.1f} MB sent, {done[-1].skipped / 1e6:.1f} MB were there")
    return done


def _push(folder: Path, registry: str, client: Registry, built: Built) -> Pushed:
    _, path = registries.split(registry)
    repository = f"{path}/{built.name}" if path else built.name
    sent = skipped = 0
    with Archive(folder / built.archive) as archive:
        if archive.manifest_digest != built.digest:
            raise Conflict("the archive is not the one of the record", where=str(archive.path), hint="build it again")
        for digest, size in archive.sizes().items():
            if client.has(repository, digest):
                skipped += size
                continue
            with archive.open(digest) as blob:
                client.upload(repository, digest, size, blob)
            sent += size
        client.put(repository, built.version, MANIFEST, archive.manifest_bytes, built.digest)
        manifest = Blob(MANIFEST, archive.manifest_bytes)
    with explained(folder / built.sbom):
        bill = Blob(sboms.MEDIA_TYPE, (folder / built.sbom).read_bytes())
    _attach(client, repository, manifest, bill, title=built.sbom)
    return Pushed(built.name, built.reference(registry), sent, skipped)


def _attach(client: Registry, repository: str, subject: Blob, bill: Blob, *, title: str) -> None:
    """Put a bill as a manifest that refers to the image; where the registry does not list such, under the tag that
    the specification has for that."""
    attached, empty = manifests.attachment(subject, bill.media_type, bill, title=title)
    for blob in (empty, bill):
        if not client.has(repository, blob.digest):
            client.upload(repository, blob.digest, len(blob.content), io.BytesIO(blob.content))
    if client.put(repository, attached.digest, MANIFEST, attached.content, attached.digest):
        return
    tag = subject.digest.replace(":", "-")
    there = client.manifest(repository, tag)
    entry = attached.descriptor(artifactType=bill.media_type)
    index = Blob(INDEX, canonical(_with(json.loads(there) if there else {}, entry)))
    client.put(repository, tag, INDEX, index.content, index.digest)


def _with(index: dict[str, Any], entry: dict[str, object]) -> dict[str, Any]:
    """Give an index that lists `entry` too; what others have attached stays."""
    others = [each for each in index.get("manifests", []) if each["digest"] != entry["digest"]]
    return {**index, "schemaVersion": 2, "mediaType": INDEX, "manifests": [*others, entry]}
