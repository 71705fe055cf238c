"""`up`, `down`, `status`, `logs` and `doctor`: the testbed on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import StateOption, TestbedOption
from dynamos.kit.errors import Conflict, DynamosError, NotFound, Unavailable, revive

if TYPE_CHECKING:
    from dynamos.deploy.states import StateFolder, TestbedStatus

_STYLES = {"ready": "green", "stopped": "dim", "failed": "red", "killed": "red", "restarting": "yellow"}
_MINUTE, _HOUR = 60, 3600


def add(app: typer.Typer) -> None:
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("logs")(logs)
    app.command("doctor")(doctor)


def up(
    profile: Annotated[str, typer.Argument(help="A profile's file, or the name of one that comes with DYNAMOS.")],
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until Ctrl-C or SIGTERM, then stop it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")] = False,
    format: FormatOption = Format.TABLE,  # noqa: A002  the option's name
    state: StateOption = Path(targets.STATE),
) -> None:
    """Start the testbed that a profile describes, and wait until it is ready. Does nothing where it is up already."""
    from dynamos.deploy import profiles
    from dynamos.deploy.places import profile_file
    from dynamos.deploy.states import StateFolder
    from dynamos.deploy.testbeds import bring_up

    path = profile_file(profile).resolve()
    name = profiles.validate(path).profile.name
    folder = StateFolder((state / name).resolve())
    if dry_run:
        from dynamos.cli.reconciling import rehearse

        rehearse(folder, path, format)
        return
    if foreground:
        _stay(folder, path)
        return
    was_up = folder.is_held()
    _check_same_profile(folder, path)
    with _watched(name) as told:
        found = bring_up(folder, path, told=told)
    _say_up(folder, found, format, was_up=was_up)


def _stay(folder: StateFolder, profile: Path) -> None:
    from dynamos.cli.shows import print_error
    from dynamos.deploy.forks import leave
    from dynamos.deploy.logs import log_json
    from dynamos.deploy.programs import prepare
    from dynamos.deploy.states import Phase
    from dynamos.deploy.supervisor import supervise

    said = False

    def told(status: TestbedStatus) -> None:
        nonlocal said
        if status.phase == Phase.READY and not said:
            said = True
            print(f"{status.testbed} is ready: {status.api}", flush=True)

    folder.make()
    log_json(path=folder.log)
    code = 0
    try:
        supervise(folder, profile, prepare, told=told)
    except DynamosError as error:
        print_error(error)
        code = error.exit
    leave(code)


def _check_same_profile(folder: StateFolder, profile: Path) -> None:
    status = folder.read_status()
    if status and folder.is_held() and Path(status.profile) != profile:
        name = folder.root.name
        hint = "stop it with dynamos down, or give this profile another name"
        raise Conflict(f"the testbed {name!r} is up from another profile", where=status.profile, hint=hint)


@contextmanager
def _watched(name: str) -> Iterator[Any]:
    """Show, once it takes longer than a second, what is not ready yet."""
    from dynamos.cli.shows import Progress

    with Progress(f"{name} starts") as shown:

        def told(status: TestbedStatus) -> None:
            waiting = [unit.name for unit in status.units if unit.phase != "ready"]
            shown.say(f"{name} starts; not ready yet: {', '.join(waiting) or 'its data'}")

        yield told


def _say_up(folder: StateFolder, status: TestbedStatus, format: Format, *, was_up: bool) -> None:  # noqa: A002
    from rich.text import Text

    from dynamos.cli.shows import console, note, print_json

    if format is Format.JSON:
        print_json(_as_json(folder, status))
        return
    took = "was up already" if was_up else f"is ready after {status.ready_seconds or 0:.1f} s"
    console().print(Text.assemble((status.testbed, "bold"), f" {took}: ", (status.api, "bold green")))
    if status.open:
        note("OPEN MODE: anybody may ask in anybody's name. For demonstrations only.")


def down(
    purge: Annotated[bool, typer.Option("--purge", help="Remove its state too: keys, knowledge, logs.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every testbed here.")] = False,
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Stop a testbed and everything that it started. Does nothing where it is down already."""
    from dynamos.cli.shows import Progress
    from dynamos.deploy.testbeds import purge as remove
    from dynamos.deploy.testbeds import take_down

    found = targets.folders(state) if everything else [targets.folder_of(state, testbed)]
    if not everything:
        targets.refuse_cluster(found[0])
    for folder in found:
        name = folder.root.name
        with Progress(f"{name} stops"):
            stopped = take_down(folder)
            if purge:
                remove(folder)
        print(f"{name} {'is stopped' if stopped else 'was down already'}{', its state is removed' if purge else ''}")


def status(
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Tell what runs, since when, and where the API is. Exit code 8 where the testbed is not up."""
    from dynamos.cli.shows import note, print_json

    chosen = [targets.folder_of(state, testbed)] if testbed else targets.folders(state)
    found = [(folder, said) for folder in chosen if (said := folder.read_status())]
    if not found:
        raise NotFound(f"there is no testbed in {state}", hint="dynamos up PROFILE starts one")
    shown = [_as_json(folder, said) for folder, said in found]
    if format is Format.JSON:
        print_json(shown[0] if len(shown) == 1 else {"testbeds": shown})
    else:
        for each in shown:
            _print_status(each)
    for _, said in found:
        if said.error and said.phase == "failed":
            note(f"{said.testbed}: {revive(said.error)}")
    if not any(each["phase"] in ("ready", "starting") for each in shown):
        raise typer.Exit(Unavailable.exit)


def _as_json(folder: StateFolder, status: TestbedStatus) -> dict[str, Any]:
    from dynamos.deploy.testbeds import phase_of

    phase = phase_of(folder, status)
    members = status.as_json() | {"phase": phase, "state": str(folder.root)}
    if phase in ("killed", "stopped", "failed"):
        members["api"] = ""
    elif networks := _networks(folder, status):
        members["networks"] = networks
    return members


def _networks(folder: StateFolder, status: TestbedStatus) -> dict[str, Any]:
    """Give the sites, links and overlays of a testbed; nothing where it has none, or they are not there yet."""
    from dynamos.cli.overviews import overview
    from dynamos.deploy import profiles
    from dynamos.testbed.proofs.subjects import Subject

    try:
        return overview(folder, Subject.find(profiles.load(Path(status.profile)), folder.world))
    except DynamosError:
        return {}


def _print_status(status: Mapping[str, Any]) -> None:
    from rich.text import Text

    from dynamos.cli.shows import console, print_table

    phase = status["phase"]
    mode = ("  OPEN MODE", "bold red") if status.get("open") else ""
    head = Text.assemble((status["testbed"], "bold"), "  ", (phase, _STYLES.get(phase, "")), f"  {status['api']}", mode)
    console().print(head)
    if phase not in ("ready", "starting", "stopping"):
        return
    rows = [
        [unit["name"], unit["role"], Text(unit["phase"], style=_STYLES.get(unit["phase"], "")), unit.get("pid", ""),
         _ago(unit["since"]), unit.get("restarts", 0), unit.get("address", "")]
        for unit in status["units"]
    ]  # fmt: skip
    print_table(("unit", "role", "phase", "pid", "since", "restarts", "address"), rows)
    if networks := status.get("networks"):
        from dynamos.cli.proofs import print_networks

        print()
        print_networks(networks)


def _ago(text: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / _MINUTE:.0f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"


def logs(
    unit: Annotated[str, typer.Argument(help="A unit's name, or 'supervisor'.")] = "supervisor",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is written, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Begin with the last so many lines.")] = 50,
    raw: Annotated[bool, typer.Option("--raw", help="Lines as they are written: JSON.")] = False,
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Print the log of a unit: bus, orchestrator, api, a party, or the supervisor."""
    from dynamos.cli.logs import print_log
    from dynamos.kit.words import suggest

    folder = targets.folder_of(state, testbed)
    targets.refuse_cluster(folder)
    paths = {"supervisor": folder.log}
    paths |= {path.parent.name: path for path in sorted((folder.root / "units").glob("*/log.jsonl"))}
    if unit not in paths:
        hint = suggest(unit, paths) or f"there is {', '.join(paths)}"
        raise NotFound(f"there is no log of {unit!r}", hint=hint)
    print_log(paths[unit], lines=lines, follow=follow, raw=raw)


def doctor(
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Install Debian packages that are missing, and clean up what a killed supervisor left."
        ),
    ] = False,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
) -> None:
    """Tell what this machine allows, and what to do about the rest. Exit code 8 where DYNAMOS cannot run."""
    from dynamos.cli.doctors import examine
    from dynamos.cli.shows import print_json, print_table, styled

    found = examine(state)
    repairs = list(dict.fromkeys(finding.repair for finding in found if finding.repair))
    if fix and repairs:
        for repair in repairs:
            repair()
        found = examine(state)
    if format is Format.JSON:
        print_json([finding.as_dict() for finding in found])
    else:
        words = {"ok": "green", "limited": "yellow", "missing": "red"}
        rows = [[f.what, styled(f.verdict, words[f.verdict]), f.found, f.hint] for f in found]
        print_table(("what", "verdict", "found", "hint"), rows)
    if any(finding.verdict == "missing" for finding in found):
        raise typer.Exit(Unavailable.exit)
