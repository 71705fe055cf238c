"""Choices: what somebody wants of an experiment this time, and the plan and profiles that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import Field

from dynamos.deploy import profiles
from dynamos.experiments import designs, venues
from dynamos.experiments.designs import Plan
from dynamos.experiments.factors import Cell, Factor
from dynamos.experiments.runs import BASES, Run
from dynamos.experiments.scripts import Experiment, digest_of, in_script, levels_for, load
from dynamos.kit.errors import BadInput, DynamosError
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
        return self.bases.get(Path(name).stem, name)

    def profile(self, cell: Cell) -> Profile:
        """Give the resolved profile that a cell's trials run on. Raises BadInput that names the cell's levels."""
        found = profiles.load(self.base(cell))
        if self.experiment.shape is None:
            return found
        levels = levels_for(cell, self.factors, "testbed")
        with in_script(self.experiment.script):
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
    with in_script(script):
        for cell in designs.cells(factors) if experiment.needs != "nothing" else ():
            levels = levels_for(cell, factors, "testbed")
            name = f"profile {designs.shown({each: cell[each] for each in levels if each in cell})}".strip()
            if name not in settings:
                settings[name] = venues.profile_digest(draft.profile(cell))
        plan = designs.plan(
            experiment.name,
            factors,
            repetitions=repetitions,
            seed=choices.seed,
            warmups=experiment.warmups,
            baseline=experiment.baseline,
            settings=settings,
        )
    return replace(draft, plan=plan)


def again(run: Run) -> Prepared:
    """Plan a run from its folder alone. Raises BadInput where that gives another plan: something in it was changed."""
    bases = {path.stem: path for path in (run.folder / BASES).glob("*.yaml")}
    prepared = prepare(run.script, Choices.model_validate(run.choices), bases=bases)
    if prepared.plan.digest != run.plan.digest:
        told = f": {', '.join(_changed(run, prepared)) or 'the order of its trials'} changed"
        hint = "restore what was in it, or start a new run"
        raise BadInput(f"the folder gives another plan than it was made with{told}", where=str(run.folder), hint=hint)
    return prepared


def unchanged(run: Run, script: Path) -> Prepared:
    """Plan a run from its folder, whose script and profiles must be those that there are now, too.

    Raises BadInput that names what has changed since.
    """
    hint = f"dynamos experiment run {run.folder} --resume goes on with what it began with; or start a new run"
    try:
        now = prepare(script, Choices.model_validate(run.choices))
    except DynamosError as error:
        told = f"what the run began with cannot be read any more: {error.message}"
        raise BadInput(told, where=error.where or str(script), hint=hint) from error
    if now.plan.digest != run.plan.digest:
        told = ", ".join(_changed(run, now)) or "the plan"
        raise BadInput(f"what the run began with has changed since: {told}", where=str(script), hint=hint)
    return again(run)


def _changed(run: Run, prepared: Prepared) -> list[str]:
    before, now = run.plan.settings, prepared.plan.settings
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def start(base: Path, prepared: Prepared) -> Run:
    """Make the run folder of a plan, with the script and the profiles that it begins with."""
    bases: dict[str, str] = {}
    for found in dict.fromkeys(prepared.base(trial.cell) for trial in prepared.plan.trials):
        name, text = Path(found).stem, venues.written(profiles.load(found))
        if bases.setdefault(name, text) != text:
            raise BadInput(f"two profiles have the name {name!r}", where=str(found), hint="give one another name")
    return Run.create(base, prepared.plan, prepared.experiment.script, prepared.choices.as_json(), bases)
