"""Images for job pods in tests: ours, with the services of the tests and the sources as they are here."""

from __future__ import annotations

import compileall
import os
import shutil
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

import support
from dynamos.deploy.images import archives, builds, layers, manifests, recipes, references, wheels
from dynamos.deploy.images.layers import Layer
from dynamos.jobs.pods.settings import LAUNCHER
from dynamos.kit.errors import NotFound
from support.pods import courier_program

FOLDER = "DYNAMOS_TESTS_IMAGES"
"""Where images have been built; else where `dynamos images build` puts them."""
CHECKOUT = Path(__file__).resolve().parents[2]


def archives_in(folder: Path) -> tuple[dict[str, str], list[Path]]:
    """Write the images of job pods into a folder; give their references by name, and the archives. Skips where our own
    image has not been built."""
    base = Path(os.environ.get(FOLDER, CHECKOUT / ".dynamos/images"))
    try:
        references.read(base)["dynamos"]
    except (NotFound, KeyError):
        pytest.skip(f"there is no image of ours in {base}: `dynamos images build` makes it")
    root, room = folder / "courier", folder / "sources"
    (root).mkdir()
    shutil.copy(courier_program(), root / "courier")
    recipes.furnish(root)
    _sources(room)
    launcher = room / LAUNCHER.lstrip("/")
    launcher.parent.mkdir(parents=True)
    shutil.copy(courier_program(), launcher)
    own = layers.write(room, folder / "sources.tar.gz", made_by="tests")
    carried = layers.write(root, folder / "courier.tar.gz", made_by="tests")
    made = {
        "dynamos": _image(folder, "dynamos-tests", [*_layers(base, folder), own], recipes.DYNAMOS),
        "courier": _image(folder, "courier-tests", [carried], recipes.COURIER),
    }
    return {name: reference for name, (reference, _) in made.items()}, [path for _, path in made.values()]


def _sources(room: Path) -> None:
    site = room / wheels.SITE
    for package in (CHECKOUT / "dynamos", Path(support.__path__[0])):
        shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("__pycache__", "courier"))
    compileall.compile_dir(site, stripdir=str(room), prependdir="/", quiet=2,
                           invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)  # fmt: skip


def _layers(base: Path, folder: Path) -> list[Layer]:
    """Give the layers of our image, each as a file."""
    found = []
    with archives.Archive(base / references.read(base)["dynamos"].archive) as archive:
        for told, diff in zip(archive.manifest["layers"], archive.config()["rootfs"]["diff_ids"], strict=True):
            path = folder / told["digest"].partition(":")[2]
            with archive.open(told["digest"]) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
            found.append(Layer(path, told["digest"], diff, told["size"], 0))
    return found


def _image(folder: Path, name: str, found: list[Layer], runs: manifests.Runs) -> tuple[str, Path]:
    machine = builds.architecture()
    image = manifests.image(name, "tests", found, runs, architecture=machine)
    path = folder / f"{name}.tar"
    archives.write(image, path, references.LOCAL, architecture=machine)
    return f"{references.LOCAL}/{name}:tests@{image.digest}", path
