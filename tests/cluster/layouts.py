"""Where a running cluster has its files on this machine, and what is kept of it there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from cluster import groups
from cluster.files import ADMIN_FILES, Files
from cluster.readiness import Asked
from cluster.specs import ClusterSpec, Machine, spec_of
from dynamos.kit.errors import NotFound
from dynamos.model.profiles import Profile
from dynamos.testbed.boxes import Box
from dynamos.testbed.endings import born

REPOSITORY = Path(__file__).resolve().parents[2]
_FACTS = "cluster.json"
_BOOT = "import sys; sys.path[:0] = {paths!r}; from cluster.{module} import main; main(*sys.argv[1:])"


@dataclass(frozen=True, slots=True)
class Life:
    """The processes that a cluster is: `pid`, born at a time, has all of it below; its `keeper` outlives that, and
    removes its control groups `group`, `below` these of each controller."""

    group: str
    below: dict[str, str]
    pid: int = 0
    born: int = 0
    keeper: int = 0

    @classmethod
    def fresh(cls) -> Self:
        """Give one that has not begun, with groups that nobody has."""
        return cls(f"{groups.PREFIX}{os.urandom(4).hex()}", groups.parents())

    @property
    def goes_on(self) -> bool:
        return bool(self.pid) and born(self.pid) == self.born


class Layout:
    """The files of one cluster in a folder."""

    def __init__(self, folder: Path, profile: Profile, programs: Path) -> None:
        self.folder = folder
        self.profile = profile
        self.programs = programs
        self.spec: ClusterSpec = spec_of(profile)
        self.init = Box(folder / "init", "cluster", "")
        self.network = folder / "wan"

    @classmethod
    def read(cls, folder: Path) -> tuple[Self, Life] | None:
        """Give what is written in a folder, None where nothing is."""
        try:
            told: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            layout = cls(folder, Profile.model_validate(told["profile"]), Path(told["programs"]))
            return layout, Life(**told["life"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, life: Life) -> None:
        """Write down what `read` gives."""
        profile = json.loads(self.profile.model_dump_json(by_alias=True))
        told = {"profile": profile, "programs": str(self.programs), "life": asdict(life)}
        self.put(_FACTS, json.dumps(told).encode())

    def forget(self) -> None:
        """Remove what leads to a cluster that is no more. Logs stay."""
        for left in (_FACTS, *ADMIN_FILES):
            (self.folder / left).unlink(missing_ok=True)

    def asked(self, over: Callable[[], bool] = lambda: False) -> Asked:
        """Give what asks the cluster as its administrator; its waits end early where `over` says so."""
        server = json.loads(self.kubeconfig.read_bytes())["clusters"][0]["cluster"]["server"]
        return Asked(self.folder, server, over)

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def machine(self, name: str) -> Machine:
        """Give what a machine is. Raises NotFound."""
        found = next((each for each in self.spec.machines if each.name == name), None)
        if found is None:
            known = ", ".join(each.name for each in self.spec.machines)
            raise NotFound(f"there is no machine {name!r}", hint=f"machines: {known}")
        return found

    def box(self, name: str) -> Box:
        """Give a machine as a host to run commands in. Raises NotFound where the cluster has none of that name."""
        return Box(self.folder / "machines" / name, name, self.machine(name).site)

    def put(self, name: str, content: bytes) -> None:
        """Write a file that nobody else may read, below the folder. Nobody sees half of it."""
        path = self.folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        near = path.with_name(f".{path.name}")
        near.touch(mode=0o600)
        near.write_bytes(content)
        near.rename(path)

    def files(self, machine: Machine) -> Files:
        """Give the files of a machine, as they were put at `files/NAME/`."""
        return {path.name: path.read_bytes() for path in (self.folder / "files" / machine.name).iterdir()}


def python(module: str, *words: str, plain: bool = True) -> list[str]:
    """Give the command that runs a module of the cluster's. A plain one needs the standard library only."""
    paths = [str(REPOSITORY / "tests"), str(REPOSITORY)]
    options = ["-I", "-S"] if plain else []
    return [sys.executable, *options, "-c", _BOOT.format(paths=paths, module=module), *words]
