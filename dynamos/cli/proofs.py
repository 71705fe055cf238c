"""`testbed`: what the networks of a testbed are, measured and tried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format
from dynamos.cli.targets import StateOption, TestbedOption

if TYPE_CHECKING:
    from dynamos.testbed.proofs.canaries import Canaries
    from dynamos.testbed.proofs.matrices import Matrix

FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]
_STYLES = {"ok": "green", "leak": "bold red", "blocked": "red", "plaintext": "bold red", "unseen": "yellow"}

testbed_verbs = typer.Typer(help="Show, measure and prove the networks of a testbed.", no_args_is_help=True)


def add(app: typer.Typer) -> None:
    app.add_typer(testbed_verbs, name="testbed")


@testbed_verbs.command("show")
def show(
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Show the sites, nodes, links and overlays that there are now, with their addresses."""
    from dynamos.cli.overviews import overview
    from dynamos.cli.shows import print_json

    found = overview(targets.folder_of(state, testbed), targets.subject_of(state, testbed))
    if format is Format.JSON:
        print_json(found)
        return
    print_networks(found)


@testbed_verbs.command("isolation")
def isolation(
    everything: Annotated[bool, typer.Option("--all", help="Print every try, not only what is wrong.")] = False,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Try who reaches whom, before, during and after a job's life, against what policy says of it.

    Every container to every other one, sites' addresses, nodes to addresses of overlays, packets forged with a guessed
    number, another job's overlay. A leak, or a way that is blocked though it is permitted, is exit code 70. Nobody else
    should ask for jobs meanwhile: ways that a job opens would count as leaks.
    """
    from dynamos.cli.shows import Progress, print_json
    from dynamos.testbed.proofs.subjects import prove_isolation

    subject = targets.subject_of(state, testbed)
    with Progress("trying who reaches whom") as shown:
        found = prove_isolation(subject, lambda phase: shown.say(f"trying who reaches whom, {phase}"))
    if format is Format.JSON:
        print_json(found.as_dict())
    else:
        _print_matrix(found, everything=everything)
    found.check()


@testbed_verbs.command("canary")
def canary(
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Send a text that nobody else has through each overlay, and look for it on every link.

    It must be seen where the driver does not encrypt, or the look proves nothing, and never where it does: else exit
    code 70.
    """
    from dynamos.cli.shows import Progress, print_json
    from dynamos.testbed.proofs.subjects import prove_canaries

    subject = targets.subject_of(state, testbed)
    with Progress("sending canaries"):
        found = prove_canaries(subject)
    if format is Format.JSON:
        print_json(found.as_dict())
    else:
        _print_canaries(found)
    found.check()


def print_networks(found: dict[str, Any]) -> None:
    """Print what `overviews.overview` gives as tables."""
    from dynamos.cli.overviews import LINK_COLUMNS, link_rows
    from dynamos.cli.shows import print_table, styled

    sites = [
        [site["name"], ", ".join(_node(node) for node in site["nodes"]), ", ".join(site["parties"]), site["router"],
         "control" if site["control"] else ""]
        for site in found["sites"]
    ]  # fmt: skip
    print_table(("site", "nodes", "parties", "router", ""), sites)
    if found["links"]:
        print()
        rows: list[list[object]] = [[row[0], styled(row[1], "" if row[1] == "up" else "yellow"), *row[2:]]
                                    for row in link_rows(found["links"])]  # fmt: skip
        print_table(LINK_COLUMNS, rows)
    print()
    overlays = [
        [each["name"], each["driver"], each["scope"], each["subnet"], each["mtu"],
         ", ".join(each["members"]), each.get("job", "")]
        for each in found["overlays"]
    ]  # fmt: skip
    columns = ("overlay", "driver", "scope", "subnet", "mtu", "members", "job")
    print_table(columns, overlays, empty="no overlays now: each request gets one of its own")


def _node(node: dict[str, Any]) -> str:
    return f"{node['name']} {node['address']}" + ("" if node["up"] else " (down)")


def _print_matrix(matrix: Matrix, *, everything: bool) -> None:
    """Print, for each phase, how many ways of each kind there are, and then single tries."""
    from dynamos.cli.shows import print_table, styled

    rows = []
    for phase in matrix.phases:
        for protocol in ("tcp", "udp", "icmp", "forged"):
            cells = [cell for cell in matrix.cells if (cell.phase, cell.protocol) == (phase, protocol)]
            counts = [sum(cell.verdict == verdict for cell in cells) for verdict in ("leak", "blocked")]
            reached = sum(cell.observed for cell in cells)
            verdict = "leak" if counts[0] else "blocked" if counts[1] else "ok"
            if cells:
                shown = styled(verdict, _STYLES[verdict])
                rows.append([phase, protocol, len(cells), sum(c.expected for c in cells), reached, *counts, shown])
    print_table(("phase", "by", "tries", "permitted", "through", "leaks", "blocked", "verdict"), rows)
    shown_cells = matrix.cells if everything else (*matrix.leaks, *matrix.blocked)
    if shown_cells:
        print()
        singles = [
            [cell.phase, cell.source, cell.target, cell.address, cell.protocol, cell.port or "",
             styled(cell.verdict, _STYLES[cell.verdict]), "; ".join(filter(None, (cell.why, cell.evidence)))]
            for cell in shown_cells
        ]  # fmt: skip
        print_table(("phase", "from", "to", "address", "by", "port", "verdict", "why"), singles)


def _print_canaries(found: Canaries) -> None:
    from dynamos.cli.shows import print_table, styled

    rows = [
        [each.overlay, each.driver, "yes" if each.encrypts else "no", each.source, each.target,
         ", ".join(f"{spot} {count}" for spot, count in each.seen.items() if count) or "nowhere",
         styled(each.verdict, _STYLES.get(each.verdict, "red"))]
        for each in found.sightings
    ]  # fmt: skip
    columns = ("overlay", "driver", "encrypts", "from", "to", "seen on, packets", "verdict")
    print_table(columns, rows, empty="no canary was sent")
