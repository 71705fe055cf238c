"""Archives: an image as one tar file in the OCI image layout, which containerd, podman and skopeo read."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

from dynamos.deploy.images import manifests
from dynamos.deploy.images.manifests import Image
from dynamos.deploy.states import explained
from dynamos.kit.errors import BadInput, NotFound

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def write(found: Image, path: Path, registry: str, *, architecture: str) -> None:
    """Write an image as an archive, in one step: an interruption leaves what was there, or nothing."""
    half = path.with_name(f".{path.name}.half")
    try:
        with explained(half), tarfile.open(half, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, "oci-layout", _LAYOUT)
            _add(tar, "index.json", manifests.index(found, registry, architecture=architecture))
            blobs = {blob.digest: blob for blob in (found.config, found.manifest)}
            layers = {layer.digest: layer for layer in found.layers}
            for digest in sorted([*blobs, *layers]):
                name = f"blobs/{digest.replace(':', '/')}"
                if digest in blobs:
                    _add(tar, name, blobs[digest].content)
                else:
                    with layers[digest].path.open("rb") as file:
                        tar.addfile(_member(name, layers[digest].size), file)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


class Archive:
    """An archive that is there, open for reading."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises NotFound where there is none, BadInput where the file is not a whole archive."""
        if not path.is_file():
            raise NotFound("there is no such image", where=str(path), hint="dynamos images build")
        self.path = path
        with ExitStack() as opened, explained(path):
            try:
                self._tar = opened.enter_context(tarfile.open(path, "r:"))
                self._members = {member.name: member for member in self._tar}
            except tarfile.TarError as error:
                raise self._broken(str(error)) from None
            self.manifest_digest = self._pinned()
            self.manifest_bytes = self.blob(self.manifest_digest)
            self.manifest: dict[str, Any] = self._json(self.manifest_bytes)
            for digest, size in self.sizes().items():
                member = self._members.get(_name(digest))
                if member is None or member.size != size:
                    raise self._broken(f"{digest} is missing or cut off")
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def sizes(self) -> dict[str, int]:
        """Give the digests of the configuration and the layers, with their sizes in bytes."""
        return {each["digest"]: int(each["size"]) for each in (self.manifest["config"], *self.manifest["layers"])}

    def config(self) -> dict[str, Any]:
        """Give the image's configuration."""
        return self._json(self.blob(self.manifest["config"]["digest"]))

    def blob(self, digest: str) -> bytes:
        """Give the bytes of a blob."""
        with self.open(digest) as file:
            return file.read()

    def open(self, digest: str) -> IO[bytes]:
        """Open a blob for reading."""
        member = self._members.get(_name(digest))
        file = self._tar.extractfile(member) if member else None
        if file is None:
            raise self._broken(f"{digest} is missing")
        return file

    def _pinned(self) -> str:
        member = self._members.get("index.json")
        file = self._tar.extractfile(member) if member else None
        if file is None:
            raise self._broken("it has no index.json")
        found = {each["digest"] for each in self._json(file.read()).get("manifests", [])}
        if len(found) != 1:
            raise self._broken(f"it holds {len(found)} images, not one")
        return str(found.pop())

    def _json(self, text: bytes) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads(text)
        except ValueError:
            raise self._broken("its index or manifest is not JSON") from None
        return told

    def _broken(self, why: str) -> BadInput:
        return BadInput(f"this is not a whole image archive: {why}", where=str(self.path), hint="dynamos images build")


def _name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_member(name, len(content)), io.BytesIO(content))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member
