"""References to images, pinned by digest: what the manifests of pods say, and what a build left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dynamos.deploy.states import explained
from dynamos.kit.errors import BadInput, NotFound

LOCAL = "dynamos.local"
"""The registry of images that are on the nodes already. There is no such host, and none is ever asked."""
NAMES = ("dynamos", "bus", "courier")
RECORD = "images.json"


@dataclass(frozen=True, slots=True)
class Images:
    """The images that pods are made of: `REGISTRY/NAME:VERSION@sha256:…`."""

    dynamos: str
    courier: str
    bus: str


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built. `archive` and `sbom` are files beside the record; sizes are bytes."""

    name: str
    version: str
    digest: str
    archive: str
    sbom: str
    architecture: str
    size: int
    unpacked: int
    contents: Mapping[str, int]
    """How many packages of each kind are in it: debian, python, go."""

    def reference(self, registry: str = "") -> str:
        """Give its pinned reference in a registry, without one that of images that are on the nodes already."""
        return f"{registry or LOCAL}/{self.name}:{self.version}@{self.digest}"


def read(folder: Path) -> dict[str, Built]:
    """Give what was built into a folder, by name. Raises NotFound where nothing was, BadInput for a broken record."""
    path = folder / RECORD
    if not path.is_file():
        raise NotFound("no images were built here", where=str(folder), hint=f"dynamos images build --to {folder}")
    with explained(path):
        text = path.read_bytes()
    try:
        return {name: Built(**{**told, "name": name}) for name, told in json.loads(text)["images"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        hint = f"dynamos images build --to {folder}"
        raise BadInput("this record of images is broken", where=str(path), hint=hint) from None


def write(folder: Path, built: Mapping[str, Built]) -> None:
    """Write the record of a folder, in one step."""
    told = {name: {key: value for key, value in asdict(each).items() if key != "name"} for name, each in built.items()}
    half = folder / f".{RECORD}.half"
    with explained(half):
        half.write_text(json.dumps({"images": told}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        half.replace(folder / RECORD)


def images(folder: Path, registry: str = "") -> Images:
    """Give the pinned references of all images of a folder. Raises NotFound that names what was not built."""
    built = read(folder)
    if missing := [name for name in NAMES if name not in built]:
        hint = f"dynamos images build --to {folder}"
        raise NotFound(f"not built yet: {', '.join(missing)}", where=str(folder), hint=hint)
    return Images(**{name: built[name].reference(registry) for name in NAMES})
