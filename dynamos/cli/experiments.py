"""`experiment`: run scripts that measure, look at their runs, and set two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format
from dynamos.cli.targets import ApiOption, StateOption
from dynamos.kit.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from dynamos.experiments.choices import Choices, Prepared
    from dynamos.experiments.records import Record
    from dynamos.experiments.runs import Run
    from dynamos.experiments.venues import Venue

FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
RUNS = "runs"
SCRIPTS = "experiments"

app = typer.Typer(no_args_is_help=True, help="Run scripts that measure, look at their runs, set two side by side.")

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
    """List the experiments that there are, each with its question and its runs."""
    from dynamos.cli.shows import print_json, print_table
    from dynamos.experiments.scripts import load

    rows = []
    for path in sorted(scripts().glob("*.py")):
        experiment = load(path)
        made = len(list((runs / experiment.name).glob("*/run.json"))) if (runs / experiment.name).is_dir() else 0
        rows.append((experiment.name, experiment.question, experiment.profile, made))
    names = ("experiment", "question", "profile", "runs")
    if format is Format.JSON:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(names, rows, empty=f"no scripts in {scripts()}")


@app.command()
def run(
    script: ScriptArgument,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="FACTOR=A,B", help="Only these levels; may be repeated.")
    ] = None,
    repeat: Annotated[int | None, typer.Option("--repeat", min=1, help="So many repetitions of every cell.")] = None,
    profile: Annotated[str, typer.Option("--profile", help="Another testbed than the script's.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Few levels and repetitions: does it work here?")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="The order of the trials, to have it again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and how long it will take.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the latest run of this script.")] = False,
    api: ApiOption = "",
    runs: RunsOption = Path(RUNS),
    state: StateOption = Path(targets.STATE),
) -> None:
    """Run an experiment: every trial in a random order, then the tables and a report. Ctrl-C stops it; --resume goes
    on. Exit code 7 where a claim does not hold."""
    from dynamos.cli.shows import console
    from dynamos.experiments import choices as asked
    from dynamos.experiments.runs import RUN
    from dynamos.experiments.runs import Run as Folder

    folder = Path(script)
    if (folder / RUN).is_file():
        found = Folder.open(folder)
        prepared = asked.again(found)
        if not resume:
            found = asked.start(runs, prepared)
    else:
        path = script_file(script)
        wanted = _choices(sets, repeat, profile, quick=quick, seed=seed)
        if resume:
            found, prepared = _latest(runs, path)
        else:
            prepared = asked.prepare(path, wanted)
            if dry_run:
                _print_plan(prepared)
                return
            found = asked.start(runs, prepared)
    if dry_run:
        _print_plan(prepared)
        return
    console(error=True).print(f"{found.folder}", style="dim")
    _sweep(found, prepared, _venue(prepared, found, state, api=api))
    _finish(found, prepared)


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


def _choices(sets: list[str] | None, repeat: int | None, profile: str, *, quick: bool, seed: int | None) -> Choices:
    import secrets

    from dynamos.experiments.choices import Choices

    picks: dict[str, tuple[str, ...]] = {}
    for text in sets or ():
        name, sign, levels = text.partition("=")
        if not sign or not levels:
            raise BadInput(f"{text!r} sets nothing", where="--set", hint="--set FACTOR=LEVEL,LEVEL")
        picks[name.strip()] = (*picks.get(name.strip(), ()), *(level.strip() for level in levels.split(",")))
    return Choices(
        quick=quick,
        picks=picks,
        repetitions=repeat,
        profile=profile,
        seed=secrets.randbelow(1 << 31) if seed is None else seed,
    )


def _latest(runs: Path, script: Path) -> tuple[Run, Prepared]:
    """Give the latest run of a script, which must not have changed since."""
    from dynamos.experiments.choices import again
    from dynamos.experiments.runs import find
    from dynamos.experiments.scripts import digest_of, load

    found = find(runs, load(script).name)
    if digest_of(script) != digest_of(found.script):
        hint = f"dynamos experiment run {found.folder} --resume goes on with the script as it was; or start a new run"
        raise BadInput("the script has changed since the run began", where=str(script), hint=hint)
    return found, again(found)


def _venue(prepared: Prepared, run: Run, state: Path, *, api: str) -> Venue:
    import os

    from dynamos.experiments.venues import Elsewhere, Local

    if api:
        if prepared.experiment.needs != "marketplace":
            raise BadInput(f"{prepared.experiment.name} needs {prepared.experiment.needs}, which no address gives")
        return Elsewhere(api, os.environ.get("DYNAMOS_TOKEN", ""))
    return Local(state / f"x-{run.plan.digest[:8]}", prepared.experiment.needs)


def _sweep(run: Run, prepared: Prepared, venue: Venue) -> None:
    from dynamos.cli.sweeps import watched
    from dynamos.experiments.sweeps import Sweep

    try:
        with watched() as told:
            Sweep(run, prepared, venue, told).go()
    except KeyboardInterrupt:
        from dynamos.cli.shows import note

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


def _print_plan(prepared: Prepared) -> None:
    from dynamos.cli.shows import print_table
    from dynamos.cli.sweeps import duration
    from dynamos.experiments.designs import cells, shown
    from dynamos.experiments.sweeps import estimate

    plan, factors = prepared.plan, prepared.factors
    levels = [(factor.name, factor.changes, ", ".join(map(str, factor.all))) for factor in factors]
    print_table(("factor", "changes", "levels"), levels)
    real = sum(not trial.warmup for trial in plan.trials)
    rows = [(trial.name, trial.repetition, shown(trial.cell)) for trial in plan.trials]
    print_table(("trial", "repetition", "cell"), rows)
    seconds = estimate(prepared)
    many, warm = len(cells(factors)), len(rows) - real
    print(f"{many} cells x {plan.repetitions} repetitions: {real} trials, and {warm} to warm up")
    print(f"seed {plan.seed}, plan {plan.digest[:12]}, about {duration(seconds)}")
