"""Choices: what somebody wants of an experiment this time, and the plan and profiles that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from dynamos.deploy import profiles
from dynamos.experiments import designs, venues
from dynamos.experiments.designs import Plan
from dynamos.experiments.factors import Cell, Factor
from dynamos.experiments.runs import PROFILES, Run
from dynamos.experiments.scripts import Experiment, digest_of, levels_for, load
from dynamos.kit.errors import BadInput
from dynamos.model.profiles import Profile
from dynamos.model.values import Value

PROFILE = "profile"
"""A factor of this name has profiles as its levels."""


class Choices(Value):
    """What was asked for on the command line. With the script and its profiles they give the same plan again."""

    quick: bool = False
    picks: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    repetitions: int | None = Field(default=None, ge=1)
    profile: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Prepared:
    """An experiment with the plan that the choices give."""

    experiment: Experiment
    choices: Choices
    plan: Plan
    factors: tuple[Factor, ...]
    bases: Mapping[str, Path] = field(default_factory=dict)
    """Where profiles are found by name, before those that come with DYNAMOS."""

    def base(self, cell: Cell) -> Path | str:
        """Give the profile that a cell begins with."""
        name = str(cell.get(PROFILE) or self.choices.profile or self.experiment.profile)
        return self.bases.get(name, name)

    def profile(self, cell: Cell) -> Profile:
        """Give the resolved profile that a cell's trials run on. Raises BadInput that names the cell's levels."""
        found = profiles.load(self.base(cell))
        if self.experiment.shape is None:
            return found
        levels = levels_for(cell, self.factors, "testbed")
        shaped = self.experiment.shape(found, **levels)
        if not isinstance(shaped, Profile):
            where, told = str(self.experiment.script), designs.shown(cell)
            raise BadInput(f"the function of the testbed gave no profile for {told}", where=where)
        return shaped


def prepare(script: Path, choices: Choices, *, bases: Mapping[str, Path] | None = None) -> Prepared:
    """Read a script, and plan it. Raises what is wrong with it or with the choices, all at once where it can be."""
    experiment = load(script)
    factors = designs.chosen(experiment.factors, choices.picks, quick=choices.quick)
    repetitions = choices.repetitions or (experiment.quick_repetitions if choices.quick else experiment.repetitions)
    empty = Plan(experiment.name, choices.seed, repetitions, (), {})
    draft = Prepared(experiment, choices, empty, factors, dict(bases or {}))
    settings = {"script": digest_of(script), "needs": experiment.needs}
    if experiment.needs != "nothing":
        for cell in designs.cells([factor for factor in factors if factor.changes == "testbed"]):
            profile = draft.profile(cell)
            settings[f"profile {designs.shown(cell)}".strip()] = venues.profile_digest(profile)
    plan = designs.plan(
        experiment.name,
        factors,
        repetitions=repetitions,
        seed=choices.seed,
        warmups=experiment.warmups,
        baseline=experiment.baseline,
        settings=settings,
    )
    return Prepared(experiment, choices, plan, factors, draft.bases)


def again(run: Run) -> Prepared:
    """Plan a run from its folder alone. Raises BadInput where that gives another plan: something in it was changed."""
    bases = {path.stem: path for path in (run.folder / PROFILES / "bases").glob("*.yaml")}
    prepared = prepare(run.script, Choices.model_validate(run.choices), bases=bases)
    if prepared.plan.digest != run.plan.digest:
        changed = [name for name, value in prepared.plan.settings.items() if run.plan.settings.get(name) != value]
        told = f": {', '.join(changed)}" if changed else ""
        raise BadInput(f"the folder gives another plan than it was made with{told}", where=str(run.folder))
    return prepared


def start(base: Path, prepared: Prepared) -> Run:
    """Make the run folder of a plan, with the script and the profiles that it begins with."""
    run = Run.create(base, prepared.plan, prepared.experiment.script, prepared.choices.as_json())
    if prepared.experiment.needs != "nothing":
        folder = run.folder / PROFILES / "bases"
        folder.mkdir()
        for found in {str(prepared.base(trial.cell)) for trial in prepared.plan.trials}:
            profile = profiles.load(found)
            name = Path(found).stem
            (folder / f"{name}.yaml").write_text(venues.written(profile), encoding="utf-8")
    return run
