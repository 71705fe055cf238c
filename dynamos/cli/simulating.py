"""`adapt simulate`: thousands of parties, planned by the planners of the running system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli.shows import Format
from dynamos.kit.errors import BadInput

if TYPE_CHECKING:
    from dynamos.adaptation.simulator.calibration import Calibration

MOST_PARTIES, MOST_REQUESTS = 100_000, 10_000_000


def simulate(
    parties: Annotated[
        int, typer.Option("--parties", min=2, max=MOST_PARTIES, help="A tenth are third parties.")
    ] = 100,
    requests: Annotated[int, typer.Option("--requests", min=1, max=MOST_REQUESTS, help="How many come.")] = 10_000,
    rate: Annotated[float, typer.Option("--rate", help="How many come in a second, at random.")] = 20.0,
    planner: Annotated[
        str, typer.Option("--planner", metavar="A,B", help="Which planners, one after the other.")
    ] = "weights",
    running: Annotated[int, typer.Option("--running", min=1, help="How many jobs run at once.")] = 1_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="To have the same again.")] = 0,
    calibrate: Annotated[
        str,
        typer.Option("--calibrate", metavar="RUN", help="Take costs from a run of archetypes, and tell their error."),
    ] = "",
    format: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,  # noqa: A002
    runs: Annotated[
        Path, typer.Option("--runs", envvar="DYNAMOS_RUNS", help="The folder that holds the folders of runs.")
    ] = Path("runs"),
) -> None:
    """Simulate requests to a marketplace of many parties, and compare planners: nothing runs, nothing is needed.

    Without --calibrate, what things cost is what the recording that comes with DYNAMOS tells: two cores of a virtual
    machine, the marketplace `bench`.
    """
    from dynamos.adaptation.simulator.minds import minded
    from dynamos.adaptation.simulator.scenes import invented
    from dynamos.adaptation.simulator.simulations import simulate as run
    from dynamos.adaptation.simulator.traces import drawn

    names = [name.strip() for name in planner.split(",") if name.strip()]
    _check(names)
    calibration = _calibration(calibrate, runs, seed)
    scene, told = invented(parties, seed=seed, running=running), list[dict[str, Any]]()
    for name in names:
        trace = drawn(scene, requests, rate, seed=seed)
        outcome = run(scene, trace, make=minded(name), costs=calibration.apart, seed=seed, expected=requests)
        told.append(outcome.as_dict())
    _print(told, calibration, format)


def _check(names: list[str]) -> None:
    from dynamos.adaptation.planners import registry

    if not names:
        raise BadInput("no planner is named", where="--planner", hint=f"there are {', '.join(registry.known())}")
    for name in names:
        for _, message, hint in registry.check(name, {}):
            raise BadInput(message, where="--planner", hint=hint)


def _calibration(run: str, runs: Path, seed: int) -> Calibration:
    from dynamos.adaptation.simulator import recordings
    from dynamos.adaptation.simulator.calibration import calibrate

    if not run:
        return calibrate(recordings.ours(), seed=seed)
    folder = Path(run)
    if not (folder / "run.json").is_file():
        from dynamos.experiments.runs import find

        folder = find(runs, run).folder
    return calibrate(recordings.read(folder), seed=seed)


def _print(told: list[dict[str, Any]], calibration: Calibration, format: Format) -> None:  # noqa: A002
    from dynamos.cli.shows import print_json, print_table

    if format is Format.JSON:
        print_json({"calibration": calibration.as_dict(), "outcomes": told})
        return
    print_table(("", *(each["planner"] for each in told)), [(name, *row) for name, row in _rows(told)])
    c = calibration
    print(
        f"fitted to {c.fitted} recorded requests; {c.predicted} others took {c.error:.0f} % more or less than simulated"
    )
    print(
        f"(the median; 95 % interval {c.low:.0f} to {c.high:.0f} %; those asked just alike differ by {c.noise:.0f} %)"
    )


def _rows(told: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Give the rows of the table, with a column for each planner."""
    seconds = [(f"latency {name} (s)", ("latency", name), "{:.3f}") for name in ("p50", "p90", "p99", "max")]
    rates = [
        (f"{name} a second", ("perSecond", name), "{:.0f}")
        for name in ("requests", "decisions", "messages", "writes", "heartbeats")
    ]
    used = [(f"{name} busy", ("utilisation", name), "{:.0%}") for name in ("api", "orchestrator", "bus", "parties")]
    wanted = [
        ("answered", ("requests", "completed"), "{:,}"),
        *((name, ("requests", name), "{:,}") for name in ("refused", "busy", "failed")),
        *seconds,
        ("regret, mean (s)", ("regret", "mean"), "{:.4f}"),
        ("switches", ("switches",), "{:,}"),
        ("oscillations", ("oscillations",), "{:,}"),
        *rates,
        *used,
    ]
    return [(name, [form.format(_at(each, path)) for each in told]) for name, path, form in wanted]


def _at(told: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = told
    for name in path:
        found = found[name]
    return found
