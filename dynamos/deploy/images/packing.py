"""Packing: a folder of one's own as an image, for services that are a few files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dynamos.deploy.images import archives, layers, manifests
from dynamos.deploy.images.builds import architecture
from dynamos.deploy.images.manifests import Runs
from dynamos.deploy.images.references import LOCAL
from dynamos.deploy.states import explained
from dynamos.kit.errors import NotFound


def pack(root: Path, archive: Path, *, name: str, version: str, runs: Runs, registry: str = LOCAL) -> str:
    """Write what is in the folder `root` as an image of one layer, and give its pinned reference.

    It runs as nobody in particular, on the kind of processor of this machine. Raises NotFound where there is no such
    folder, BadInput where something in it has no place in an image.
    """
    if not root.is_dir():
        raise NotFound("there is no such folder", where=str(root))
    archive.parent.mkdir(parents=True, exist_ok=True)
    with explained(archive), tempfile.TemporaryDirectory(prefix=".pack-", dir=archive.parent) as room:
        layer = layers.write(root, Path(room) / "layer.tar.gz", made_by=name)
        image = manifests.image(name, version, [layer], runs, architecture=architecture())
        archives.write(image, archive, registry, architecture=architecture())
    return f"{registry}/{name}:{version}@{image.digest}"
