"""`testbed`: what the networks of a testbed are, measured and tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynamos.cli import targets
from dynamos.cli.shows import Format, FormatOption
from dynamos.cli.targets import StateOption, TestbedOption, UserOption
from dynamos.kit.errors import BadInput, NotFound

if TYPE_CHECKING:
    from dynamos.testbed.proofs.canaries import Canaries
    from dynamos.testbed.proofs.findings import Finding
    from dynamos.testbed.proofs.matrices import Matrix
    from dynamos.testbed.proofs.subjects import Subject
    from dynamos.testbed.verifications import Verification

_STYLES = {
    "ok": "green",
    "leak": "bold red",
    "blocked": "red",
    "plaintext": "bold red",
    "unseen": "yellow",
    "happened": "green",
    "waits": "dim",
}

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


@testbed_verbs.command("timeline")
def timeline(
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Show the faults of the profile's time line: when each was to happen, and when it really did.

    Of a testbed that is down, those of its last life.
    """
    from dynamos.cli.overviews import chronicle_facts, chronicle_rows
    from dynamos.cli.shows import print_json, print_table, styled

    folder = targets.folder_of(state, testbed)
    found = chronicle_facts(folder)
    if found is None:
        raise NotFound(f"the testbed {folder.root.name!r} has no time line that has begun", hint="timeline: [...]")
    if format is Format.JSON:
        print_json(found)
        return
    rows = [[*row[:-1], styled(row[-1], _STYLES.get(row[-1], "red"))] for row in chronicle_rows(found)]
    print_table(("planned", "happened", "took", "fault", ""), rows, title=f"counted from {found['began']}")


@testbed_verbs.command("verify")
def verify(
    thorough: Annotated[bool, typer.Option("--thorough", help="Take the time that small losses need.")] = False,
    present: Annotated[
        bool, typer.Option("--present", help="Against what links have been made since, not what the profile says.")
    ] = False,
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Measure what packets between every two sites meet, each way, against what is declared. Exit code 7 where it
    differs.

    Delay within 1 ms or 5 %, jitter within 1 ms or 20 %, loss within its 95 % interval, rate within 10 %, path MTU
    exactly. What deviates is measured three times.
    """
    from dynamos.cli.shows import Progress, print_json
    from dynamos.testbed.efforts import QUICK, THOROUGH
    from dynamos.testbed.proofs.subjects import measured

    subject = targets.subject_of(state, testbed)
    with Progress("measuring links"):
        found = measured(subject, effort=THOROUGH if thorough else QUICK, declared=not present)
    if format is Format.JSON:
        print_json(found.as_dict())
    else:
        _print_verification(found)
    found.require()


@testbed_verbs.command("isolation")
def isolation(
    everything: Annotated[bool, typer.Option("--all", help="Print every try, not only what is wrong.")] = False,
    internet: Annotated[
        str, typer.Option("--internet", metavar="ADDRESS:PORT", help="On a cluster: a server beyond it to knock at.")
    ] = "1.1.1.1:443",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Try who reaches whom against what policy says of it: before, during and after a job's life, or on a cluster as it
    is now.

    Every container to every other one, sites' addresses, nodes to addresses of overlays, packets forged with a guessed
    number, another job's overlay. On a cluster, pods are put beside those of the testbed for a minute, with the labels
    that its policies go by: they try its pods and services, the cluster's API servers, names, kubelets and nodes, the
    metadata address and the internet. What nobody reaches, not even a pod without policies, is told apart and proves
    nothing. A leak, or a way that is blocked though it is permitted, is exit code 70. Nobody else should ask for jobs
    meanwhile: ways that a job opens would count as leaks.
    """
    from dynamos.cli.shows import Progress, print_json

    folder = targets.folder_of(state, testbed)
    found: Matrix | Finding
    with Progress("trying who reaches whom") as shown:
        if targets.is_on_cluster(folder):
            from dynamos.cli.isolations import proven

            found = proven(folder, internet, shown.say)
        else:
            found = _prove(targets.subject_of(state, testbed), shown.say)
    if format is Format.JSON:
        print_json(found.as_dict())
    else:
        _print_isolation(found, everything=everything)
    found.check()


def _prove(subject: Subject, say: Callable[[str], None]) -> Matrix:
    from dynamos.testbed.proofs.subjects import prove_isolation

    return prove_isolation(subject, lambda phase: say(f"trying who reaches whom, {phase}"))


def _print_isolation(found: Matrix | Finding, *, everything: bool) -> None:
    from dynamos.testbed.proofs.matrices import Matrix

    if isinstance(found, Matrix):
        _print_matrix(found, everything=everything)
        return
    from dynamos.cli.isolations import print_untold

    _print_matrix(found.matrix, everything=everything)
    print_untold(found)


@testbed_verbs.command("canary")
def canary(
    query: Annotated[
        str,
        typer.Option("--query", "-q", help="Through a request: a query whose rows hold {canary}, in single quotes."),
    ] = "",
    provider: Annotated[
        list[str] | None, typer.Option("--provider", "-p", help="Of the request: a data provider; may be repeated.")
    ] = None,
    type: Annotated[str, typer.Option("--type", help="Of the request: its type.")] = "sqlDataRequest",  # noqa: A002
    archetype: Annotated[str, typer.Option("--archetype", help="Of the request: ask for this archetype.")] = "",
    user: UserOption = "",
    format: FormatOption = Format.TABLE,  # noqa: A002
    state: StateOption = Path(targets.STATE),
    testbed: TestbedOption = "",
) -> None:
    """Send a text that nobody else has through each overlay, and look for it on every link.

    It must be seen where the driver does not encrypt, or the look proves nothing, and never where it does: else exit
    code 70. With a query it is in the rows of a real request, which parties exchange by TLS: it may be seen nowhere,
    whatever the driver.
    """
    from dynamos.cli.shows import Progress, print_json
    from dynamos.testbed.proofs.subjects import prove_canaries

    subject = targets.subject_of(state, testbed)
    with Progress("sending canaries"):
        if query:
            body = {"type": type, "providers": provider, "query": query, "archetype": archetype}
            found = _asked(subject, body, state=state, testbed=testbed, user=user)
        else:
            found = prove_canaries(subject)
    if format is Format.JSON:
        print_json(found.as_dict())
    else:
        _print_canaries(found)
    found.check()


def _asked(subject: Subject, body: dict[str, Any], *, state: Path, testbed: str, user: str) -> Canaries:
    """Ask for rows that hold the canary, and look for it meanwhile."""
    from dynamos.cli.jobs import path_of
    from dynamos.testbed.proofs.canaries import in_request

    providers, query = body["providers"], body["query"]
    if "{canary}" not in query or not providers:
        hint = "as in -p united -q \"SELECT origin, '{canary}' AS canary FROM flights LIMIT 5\""
        raise BadInput("a query with {canary}, and whom to ask, with --provider", hint=hint)
    asked = {name: value for name, value in body.items() if value} | {"user": {"userName": targets.user_of(user)}}

    def ask(text: str) -> str:
        with targets.api(state, testbed, "", user) as client:
            whole = asked | {"query": query.replace("{canary}", text)}
            job = client.call("POST", "/api/v1/jobs", body=whole, params={"wait": "true"}, within=None).json()
            path, names = f"{path_of(job['id'])}/result", [result["name"] for result in job.get("results", ())]
            return "".join(client.call("GET", path, params={"name": name, "format": "json"}).text for name in names)

    return in_request(ask, ", ".join(providers), subject.spots())


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
    if faults := found.get("timeline"):
        from dynamos.cli.overviews import chronicle_rows

        print()
        print_table(("planned", "happened", "took", "fault", ""), chronicle_rows(faults))


def _node(node: dict[str, Any]) -> str:
    return f"{node['name']} {node['address']}" + ("" if node["up"] else " (down)")


def _print_verification(found: Verification) -> None:
    """Print what is declared and what was measured for each way between two sites."""
    from dynamos.cli.shows import print_table, styled

    rows: list[list[object]] = []
    for pair in found.pairs:
        declared, got = pair.declared, pair.measured
        loss = f"{_both(100 * declared.loss, 100 * got.loss)} ({100 * got.loss_low:.2g}-{100 * got.loss_high:.2g})"
        rows.append(
            [f"{pair.source} → {pair.destination}", _both(1e3 * declared.delay, _times(1e3, got.delay)),
             _both(1e3 * declared.jitter, _times(1e3, got.jitter)), loss,
             _both(_times(1e-6, declared.rate), _times(1e-6, got.rate)), f"{declared.mtu} / {got.mtu}",
             styled("deviates", "red") if pair.deviations else styled("ok", "green")]
        )  # fmt: skip
    title = "declared / measured"
    columns = ("way", "delay ms", "jitter ms", "loss % (95 %)", "rate Mbit/s", "mtu", "verdict")
    print_table(columns, rows, title=title, empty="there are no two sites")


def _both(declared: float | None, got: float | None) -> str:
    return f"{_number(declared)} / {_number(got)}" if declared is not None else ""


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


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
