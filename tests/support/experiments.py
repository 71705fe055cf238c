"""Experiments for tests: scripts of a few lines, sweeps over them, and a venue that does what a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from dynamos.experiments.choices import Choices, Prepared, prepare, start
from dynamos.experiments.records import Record
from dynamos.experiments.runs import Run
from dynamos.experiments.sweeps import Progress, Sweep
from dynamos.experiments.venues import Venue
from dynamos.kit.errors import DynamosError
from dynamos.model.profiles import Profile

BODY = """
@experiment.trial
def trial(bed, rows):
    return {"total": rows}
"""


def script(folder: Path, body: str = BODY, *, name: str = "tiny", **more: Any) -> Path:
    """Write a script with one factor, `rows`, and one measure, `total`, unless `more` says otherwise, as source."""
    said = {
        "factors": '[Factor("rows", [1, 2, 3])]',
        "measures": '[Measure("total", "count", main=True)]',
        "needs": '"nothing"',
        "repetitions": "2",
        **more,
    }
    declared = "".join(f"    {key}={value},\n" for key, value in said.items())
    path = folder / f"{name}.py"
    path.write_text(
        "import os, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from dynamos.experiments import Experiment, Factor, Measure\n"
        f'experiment = Experiment(\n    "{name}", "Does it?",\n{declared})\n{dedent(body)}'
    )
    return path


def cases(**bodies: str) -> str:
    """Give a trial function with a factor `case` that does for each level what its source says."""
    lines = ["\n@experiment.trial\ndef trial(bed, case):\n    here = Path(__file__).parent\n"]
    lines += [f'    if case == "{case}":\n{indent(dedent(body), " " * 8)}\n' for case, body in bodies.items()]
    return "".join([*lines, '    return {"total": 1}\n'])


@dataclass
class FakeVenue:
    """Testbeds that are only counted. `fails` may raise before one is there, `ends` tells which of them have ended."""

    fails: Callable[[int, Profile], DynamosError | None] = lambda *_: None
    ends: Callable[[int], bool] = lambda _: False
    name: str = "fake"
    opened: list[str] = field(default_factory=list)
    closed: int = 0

    def open(self, profile: Profile, path: Path) -> Mapping[str, Any]:
        self.opened.append(profile.name)
        if error := self.fails(len(self.opened), profile):
            raise error
        return {"profile": str(path)}

    def alive(self) -> bool:
        return not self.ends(len(self.opened))

    def close(self) -> None:
        self.closed += 1


@dataclass
class Swept:
    run: Run
    prepared: Prepared
    told: list[Progress] = field(default_factory=list)

    def go(self, venue: Venue | None = None) -> list[Record]:
        """Make the trials that are left, and give all records that are no warm-up's."""
        Sweep(self.run, self.prepared, venue or FakeVenue(), self.told.append).go()
        return self.records()

    def records(self) -> list[Record]:
        return [record for record in self.run.records() if not record.warmup]

    def only(self, **levels: Any) -> Record:
        found = [each for each in self.records() if levels.items() <= each.cell.items()]
        assert len(found) == 1, found
        return found[0]


def swept(folder: Path, path: Path, **choices: Any) -> Swept:
    """Begin a run of a script, whose order is always the same."""
    prepared = prepare(path, Choices(**{"seed": 1, **choices}))
    return Swept(start(folder / "runs", prepared), prepared)
