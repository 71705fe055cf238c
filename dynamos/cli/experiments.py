"""`experiment`: run scripts that measure, look at their runs, and set two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dynamos.cli import comparisons, targets
from dynamos.cli.shows import Format, FormatOption, note
from dynamos.cli.targets import ApiOption, StateOption
from dynamos.kit.errors import BadInput, DynamosError, Unavailable

if TYPE_CHECKING:
    from dynamos.experiments.choices import Prepared
    from dynamos.experiments.designs import Trial
    from dynamos.experiments.records import Record
    from dynamos.experiments.runs import Run
    from dynamos.experiments.venues import Venue

Wanted: TypeAlias = dict[str, Any]
"""Choices that were made, by their names."""

RUNS = "runs"
SCRIPTS = "experiments"

app = typer.Typer(no_args_is_help=True, help="Run scripts that measure, look at their runs, set two side by side.")
app.command()(comparisons.compare)

ScriptArgument = Annotated[
    str, typer.Argument(metavar="SCRIPT", help="A script, the name of one in experiments/, or a run folder.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or an experiment's name: its latest.")]
RunsOption = Annotated[
    Path, typer.Option("--runs", envvar="DYNAMOS_RUNS", help="The folder that holds the folders of runs.")
]


def add(main: typer.Typer) -> None:
    main.add_typer(app, name="experiment")


@app.command("list")
def list_(format: FormatOption = Format.TABLE, runs: RunsOption = Path(RUNS)) -> None:  # noqa: A002
    """List the experiments that there are, each with its question and its runs; a script that cannot be read, with
    what is wrong with it."""
    from dynamos.cli.shows import print_json, print_table

    found = [_listed(path, runs) for path in sorted(scripts().glob("*.py"))]
    if format is Format.JSON:
        print_json(found)
        return
    names = ("experiment", "question", "profile", "runs")
    rows = [[str(each.get("error") or each.get(name, "")) if name == "question" else each.get(name, "")
             for name in names] for each in found]  # fmt: skip
    print_table(names, rows, empty=f"no scripts in {scripts()}")


def _listed(path: Path, runs: Path) -> dict[str, Any]:
    from dynamos.experiments.scripts import load

    try:
        experiment = load(path)
    except DynamosError as error:
        return {"experiment": path.stem, "script": str(path), "error": f"cannot be read: {error}"}
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "profile": experiment.profile,
        "needs": experiment.needs,
        "runs": sum(not each.parent.is_symlink() for each in (runs / experiment.name).glob("*/run.json")),
        "script": str(path),
    }


@app.command()
def run(
    script: ScriptArgument,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FACTOR=A,B", help="Only these levels; may be repeated. Any numbers, of numbers."
        ),
    ] = None,
    repeat: Annotated[int | None, typer.Option("--repeat", min=1, help="So many repetitions of every cell.")] = None,
    profile: Annotated[str, typer.Option("--profile", help="Another testbed than the script's.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Few levels and repetitions: does it work here?")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="The order of the trials, to have it again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and how long it will take.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the latest run of this script, or that of the folder.")
    ] = False,
    api: ApiOption = "",
    stack: Annotated[
        str, typer.Option("--stack", metavar="PROFILE", help="On the stack of a profile, which is up and stays.")
    ] = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    runs: RunsOption = Path(RUNS),
    state: StateOption = Path(targets.STATE),
) -> None:
    """Run an experiment: every trial in a random order, then the tables and a report, whose path is printed. A run
    folder in place of the script is run again as it was. Ctrl-C stops it; `--resume` goes on without a lost or repeated
    trial. Ends with 0 where it is whole and no claim is refuted, whatever became of single trials; 2 where the script,
    an option or the run's folder is wrong, or has changed; 6 where somebody is at the run; 7 where a claim does not
    hold; 8 where no trial could be made, or testbeds end again and again; 10 on a full disk; 130 after Ctrl-C."""
    from dynamos.experiments import choices as asked

    if stack and (api or profile not in ("", stack)):
        raise BadInput("--stack says where trials run already", where="--stack", hint="leave --api and --profile out")
    wanted = _choices(sets, repeat, profile or stack, quick=quick, seed=seed)
    prepared, found = _prepared(script, wanted, runs, resume=resume)
    if dry_run:
        _print_plan(prepared, found, format)
        return
    found = found or asked.start(runs, prepared)
    venue = _venue(prepared, found, state, api=api, stack=stack)
    note(str(found.folder))
    _sweep(found, prepared, venue)
    _finish(found, prepared)


def _prepared(script: str, wanted: Wanted, runs: Path, *, resume: bool) -> tuple[Prepared, Run | None]:
    """Give the plan, and the run that it is to go on with, if there is one."""
    import secrets

    from dynamos.experiments import choices as asked
    from dynamos.experiments.choices import Choices
    from dynamos.experiments.runs import RUN, find
    from dynamos.experiments.runs import Run as Folder
    from dynamos.experiments.scripts import load

    if (Path(script) / RUN).is_file():
        found = Folder.open(Path(script))
        _same(found, wanted)
        return asked.again(found), found if resume else None
    path = script_file(script)
    if resume:
        found = find(runs, load(path).name)
        _same(found, wanted)
        return asked.unchanged(found, path), found
    return asked.prepare(path, Choices.model_validate({"seed": secrets.randbelow(1 << 31), **wanted})), None


def _same(run: Run, wanted: Wanted) -> None:
    """Raise BadInput where a run was asked for with other choices than these."""
    from dynamos.experiments.choices import Choices

    made = Choices.model_validate(run.choices)
    other = [name for name, value in wanted.items() if getattr(made, name) != value]
    if other:
        hint = "leave them out to have the run as it was, or start a new one from the script"
        raise BadInput(f"the run was made with other {', '.join(other)}", where=str(run.folder), hint=hint)


@app.command()
def status(run: RunArgument, format: FormatOption = Format.TABLE, runs: RunsOption = Path(RUNS)) -> None:  # noqa: A002
    """Tell how far a run is: trials done, failed, skipped and left, and why some failed."""
    from dynamos.cli.shows import print_json, print_table
    from dynamos.experiments.runs import find

    found = find(runs, run)
    records = found.records()
    counts = {word: sum(str(each.status) == word for each in records) for word in ("done", "failed", "skipped")}
    told = {"run": str(found.folder), "experiment": found.plan.experiment, **counts, "left": len(found.left())}
    why = reasons(records)
    if format is Format.JSON:
        print_json({**told, "reasons": [{"reason": reason, "trials": many} for reason, many in why]})
        return
    print_table(("", ""), list(told.items()))
    if why:
        print_table(("why", "trials"), why)


@app.command()
def report(run: RunArgument, runs: RunsOption = Path(RUNS)) -> None:
    """Write tables and report of a run again, and print the report's path."""
    from dynamos.experiments.finishing import finish
    from dynamos.experiments.runs import find
    from dynamos.experiments.scripts import load

    found = find(runs, run)
    print(finish(found, load(found.script)))


def scripts() -> Path:
    """Give where the scripts are: here, else in the checkout that this program is from."""
    from dynamos.deploy.places import shipped

    here = Path(SCRIPTS)
    return here if here.is_dir() else shipped().parent / SCRIPTS


def script_file(name: str) -> Path:
    """Find a script by path, or by name among those that there are. Raises NotFound that names near ones."""
    from dynamos.kit.errors import NotFound
    from dynamos.kit.words import suggest

    for path in (Path(name), scripts() / f"{name.removesuffix('.py')}.py"):
        if path.is_file():
            return path.resolve()
    known = sorted(path.stem for path in scripts().glob("*.py"))
    hint = suggest(name, known) or (f"there are {', '.join(known)}" if known else "give a path")
    raise NotFound(f"there is no experiment {name!r}", hint=hint)


def reasons(records: list[Record]) -> list[tuple[str, int]]:
    """Give why trials failed or were skipped, with how many for each reason, most first."""
    counted: dict[str, int] = {}
    for record in records:
        if record.error:
            told = " · ".join(
                str(record.error[name]) for name in ("where", "message", "hint") if record.error.get(name)
            )
            counted[told] = counted.get(told, 0) + 1
    return sorted(counted.items(), key=lambda item: -item[1])


def _choices(sets: list[str] | None, repeat: int | None, profile: str, *, quick: bool, seed: int | None) -> Wanted:
    """Give what was said on the command line, by the names of choices, and nothing that was not."""
    picks: dict[str, tuple[str, ...]] = {}
    for text in sets or ():
        name, sign, levels = text.partition("=")
        if not sign or not levels:
            raise BadInput(f"{text!r} sets nothing", where="--set", hint="--set FACTOR=LEVEL,LEVEL")
        picks[name.strip()] = (*picks.get(name.strip(), ()), *(level.strip() for level in levels.split(",")))
    said = {"picks": picks or None, "repetitions": repeat, "profile": profile or None, "quick": quick or None}
    return {name: value for name, value in {**said, "seed": seed}.items() if value is not None}


def _venue(prepared: Prepared, run: Run, state: Path, *, api: str, stack: str) -> Venue:
    import os

    from dynamos.experiments.venues import Elsewhere, local

    needs, token = prepared.experiment.needs, os.environ.get("DYNAMOS_TOKEN", "")
    if api and needs != "marketplace":
        raise BadInput(f"{prepared.experiment.name} needs {needs}, which no address gives", where="--api")
    if stack and needs == "nothing":
        raise BadInput(f"{prepared.experiment.name} needs no testbed", where="--stack", hint="leave it out")
    if api:
        return Elsewhere(api, token, run.journals)
    if stack:
        from dynamos.cli.stacks import stack_of
        from dynamos.deploy import profiles
        from dynamos.experiments.stacks import OnStack

        outputs = stack_of(stack, state).outputs()
        return OnStack.of(profiles.load(stack), state, outputs, needs=needs, journals=run.journals, token=token)
    return local(state, run, needs)


def _sweep(run: Run, prepared: Prepared, venue: Venue) -> None:
    from dynamos.cli.sweeps import interruptible, watched
    from dynamos.experiments.sweeps import Sweep

    try:
        with interruptible(), watched() as told:
            Sweep(run, prepared, venue, told).go()
    except (KeyboardInterrupt, DynamosError):
        note(f"stopped; dynamos experiment run {run.folder} --resume goes on")
        raise


def _finish(run: Run, prepared: Prepared) -> None:
    """Write the report, print what the claims came to, and end with a code that tells it."""
    from dynamos.cli.shows import console
    from dynamos.experiments.finishing import finish
    from dynamos.experiments.outcomes import Outcomes

    records = run.records()
    path = finish(run, prepared.experiment)
    outcomes = Outcomes.of(records)
    out, refuted = console(), False
    for claim in prepared.experiment.claims:
        held, shown = settle(claim, outcomes)
        refuted = refuted or held is False
        word, style = {True: ("holds", "green"), False: ("does not hold", "red"), None: ("cannot be told", "yellow")}[
            held
        ]
        out.print(f"[{style}]{word}[/]  {claim.words}" + (f" [dim]({shown})[/]" if shown else ""))
    out.print(f"{len(outcomes.done)} trials done, {len(outcomes.failed)} failed, {len(outcomes.skipped)} skipped")
    for reason, many in reasons(records)[:5]:
        out.print(f"[dim]{many} x[/] {reason}")
    print(path)
    if not outcomes.done:
        why = reasons(records)
        raise Unavailable("no trial could be made", where=str(run.folder), hint=why[0][0] if why else "")
    if refuted:
        raise typer.Exit(7)


def settle(claim: Any, outcomes: Any) -> tuple[bool | None, str]:
    """Give whether a claim holds, and what shows it; a claim that fails at it cannot be told."""
    from dynamos.experiments.claims import settle as settled

    return settled(claim, outcomes)


def _print_plan(prepared: Prepared, run: Run | None, format: Format) -> None:  # noqa: A002
    """Print what there is to do, of a run that is gone on with what is left, and how long it will take."""
    from dynamos.cli.shows import print_json, print_table
    from dynamos.cli.sweeps import duration
    from dynamos.experiments.designs import cells, shown
    from dynamos.experiments.factors import written
    from dynamos.experiments.forecasts import Forecast

    plan, factors, forecast = prepared.plan, prepared.factors, Forecast(prepared)
    left = run.left() if run else list(plan.trials)
    if run:
        for record in run.records():
            forecast.ended(record)
    warm, many = sum(trial.warmup for trial in left), len(cells(factors))
    if format is Format.JSON:
        told = {**plan.as_dict(), "trials": [trial.as_dict() for trial in left]}
        print_json({**told, "digest": plan.digest, "cells": many, "seconds": round(forecast.seconds, 1)})
        return
    levels = [(factor.label, factor.changes, ", ".join(map(written, factor.all))) for factor in factors]
    print_table(("factor", "changes", "levels"), levels, empty="no factors")
    rows = [(trial.name, trial.repetition, shown(trial.cell), _kind(trial)) for trial in left]
    print_table(("trial", "repetition", "cell", ""), rows, empty="no trial is left")
    print(f"{many} cells x {plan.repetitions} repetitions: {len(left) - warm} trials, and {warm} to warm up"
          + (" are left" if run else ""))  # fmt: skip
    print(f"seed {plan.seed}, plan {plan.digest[:12]}, about {duration(forecast.seconds)}")


def _kind(trial: Trial) -> str:
    return "warm-up" if trial.warmup else "baseline" if trial.baseline else ""
