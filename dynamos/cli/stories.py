"""The story that the demo tells: each step asks the running system, shows what comes back, and checks it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dynamos.cli.shows import print_reason, styled, table
from dynamos.cli.timelines import draw
from dynamos.deploy import profiles
from dynamos.deploy.places import profile_file
from dynamos.deploy.provisioning import CONFIG, token_for
from dynamos.deploy.states import StateFolder, TestbedStatus
from dynamos.deploy.testbeds import bring_up
from dynamos.kit.errors import Broken, Refused, TimedOut
from dynamos.middleware.clients import Api, result_path
from dynamos.middleware.spans import spans_of

ANN, SAM, NINA = "ann@safety-board.example", "sam@university.example", "nina@daily-news.example"
AIRLINES = ("united", "jetblue", "delta")
DELAYS = "SELECT origin, dep_delay FROM flights"
LATE = "SELECT tailnum, dep_time, dest, dep_delay FROM flights WHERE dep_delay > 450"
SUM = ("-a sum", "-c group=origin", "-c value=dep_delay")
TRACE_SECONDS = 5.0
_LOOK_SECONDS = 0.05

Sums = dict[str, int]


class Story:
    """Brings the testbed of a profile up and goes through the steps. Raises Broken where a result is not right."""

    def __init__(self, root: Path, profile: str, out: Console) -> None:
        self._folder = StateFolder(root)
        self._profile = profile
        self._out = out
        self._number = 0
        self._asked: list[float] = []
        self._api = ""
        self._ready = 0.0

    def tell(self) -> None:
        """Tell the whole story."""
        status = self._begin()
        self._api, self._ready = status.api, status.ready_seconds or 0.0
        if self._folder.world.exists():
            self._networks()
        at_home = self._compute_to_data()
        job, together = self._through_third_party()
        self._refusal()
        self._anonymisation()
        self._timeline(job)
        self._proof(at_home, together)

    def end(self) -> None:
        """Say what it came to."""
        many, took = len(self._asked), sum(self._asked)
        self._out.print(f"\n{many} requests in {took:.1f} s; started in {self._ready:.1f} s. All of it checked.")

    def _begin(self) -> TestbedStatus:
        self._out.print(Text("DYNAMOS: airlines share what makes flying safer, and give nothing away", style="bold"))
        status = bring_up(self._folder, profile_file(self._profile))
        parties = [unit.name for unit in status.units if unit.role == "agent"]
        self._out.print(f"{len(parties)} parties, each with its own agent, keys and data: {', '.join(parties)}")
        return status

    def _networks(self) -> None:
        from dynamos.testbed.efforts import QUICK  # Linux only
        from dynamos.testbed.proofs.subjects import Subject, measured, prove_isolation

        self._step("The networks are what the file says", "Three sites, and the delays between them, on this machine.")
        subject = Subject.find(profiles.load(self._profile), self._folder.world)
        links = measured(subject, effort=QUICK)
        links.require()
        rows = [
            [f"{pair.source} → {pair.destination}", _ms(pair.declared.delay), styled(_ms(pair.measured.delay), "green")]
            for pair in links.pairs
        ]
        self._out.print(table(("one way", "declared", "measured"), rows))
        isolation = prove_isolation(subject)
        isolation.check()
        tries = len(isolation.cells)
        self._out.print(f"Who reaches whom before, during and after a job: {tries} tries, each as policy says.")

    def _compute_to_data(self) -> dict[str, Sums]:
        self._step("The algorithm goes to the data (computeToData)", "No flight leaves its airline.")
        self._command(ANN, AIRLINES, DELAYS, *SUM)
        body = self._request(ANN, AIRLINES, DELAYS, "sum", archetype="computeToData")
        job = self._ask(ANN, body)
        found = {each["providers"][0]: self._sums(job, each) for each in _complete(job)}
        _expect(set(found) == set(AIRLINES), "one result of each airline", list(found))
        airports = sorted(found[AIRLINES[0]])
        rows = [[name, *(found[name][airport] for airport in airports)] for name in AIRLINES]
        self._out.print(table(("minutes of delay", *airports), rows))
        return found

    def _through_third_party(self) -> tuple[dict[str, Any], Sums]:
        self._step(
            "The data meet at a third party (dataThroughTtp)", "United and JetBlue trust the safety board with rows."
        )
        self._command(ANN, AIRLINES[:2], DELAYS, *SUM, "--aggregate", "--archetype dataThroughTtp")
        body = self._request(ANN, AIRLINES[:2], DELAYS, "sum", archetype="dataThroughTtp", aggregate=True)
        job = self._ask(ANN, body)
        (result,) = _complete(job)
        found = self._sums(job, result)
        self._out.print(table(("computed by", *sorted(found)), [[result["party"], *(found[a] for a in sorted(found))]]))
        return job, found

    def _refusal(self) -> None:
        self._step("An agreement says no", "The student may have monthly means, not single aircraft.")
        query = "SELECT tailnum, dep_delay FROM flights"
        self._command(SAM, ["jetblue"], query, "-a mean", "-c group=tailnum", "-c value=dep_delay")
        try:
            self._ask(SAM, self._request(SAM, ["jetblue"], query, "mean", group="tailnum"))
        except Refused as refused:
            self._out.print(styled(f"refused: {refused.message}", "red"))
            for reason in refused.facts.get("reasons") or ():
                print_reason(self._out, reason)
            return
        raise Broken("the student got aircraft that no agreement permits")

    def _anonymisation(self) -> None:
        self._step("A party forces a service", "JetBlue anonymises whatever the journalist asks for.")
        self._command(NINA, ["jetblue"], LATE)
        job = self._ask(NINA, self._request(NINA, ["jetblue"], LATE, ""))
        (result,) = _complete(job)
        given = sorted(self._rows(job, result), key=_delay)
        held = sorted(self._plainly(LATE, ["jetblue"], names=True), key=_delay)
        columns = list(given[0])
        rows = [["in its file", *(row[name] for name in columns)] for row in held]
        rows += [["to her", *(str(row[name])[:12] for name in columns)] for row in given]
        self._out.print(table(("", *columns), rows))
        same = {row["tailnum"] for row in held} & {row["tailnum"] for row in given}
        exact = [row["dep_time"] for row in given if row["dep_time"] % 100]
        _expect(len(given) == len(held) and not same and not exact, "anonymised rows only", [*same, *exact])

    def _timeline(self, job: Mapping[str, Any]) -> None:
        self._step("Where the time went", "One trace over all units: the request of step 2.")
        self._out.print(draw(self._spans(job), title="dataThroughTtp"))

    def _proof(self, at_home: Mapping[str, Sums], together: Sums) -> None:
        self._step("The sums are right", "Plain DuckDB over the union of United's and JetBlue's files.")
        statement = f"SELECT origin, sum(dep_delay)::BIGINT FROM ({DELAYS}) GROUP BY origin ORDER BY origin"  # noqa: S608
        truth = dict(self._plainly(statement, AIRLINES[:2]))
        rows = []
        for airport, wanted in truth.items():
            homes = at_home["united"][airport] + at_home["jetblue"][airport]
            _expect(
                homes == together[airport] == wanted, f"the same sum for {airport}", [homes, together[airport], wanted]
            )
            rows.append([airport, homes, together[airport], wanted, styled("equal", "green")])
        self._out.print(table(("airport", "computeToData", "dataThroughTtp", "plain DuckDB", ""), rows))

    def experiment(self, name: str, runs: Path, state: Path) -> Path:
        """Run an experiment quickly, on a testbed of its own, and give the path of its report."""
        from dynamos.cli.experiments import script_file
        from dynamos.experiments import choices, finishing
        from dynamos.experiments.claims import settle
        from dynamos.experiments.outcomes import Outcomes
        from dynamos.experiments.sweeps import Sweep
        from dynamos.experiments.venues import Local

        prepared = choices.prepare(script_file(name), choices.Choices(quick=True, seed=1))
        self._step("An experiment", prepared.experiment.question)
        self._out.print(styled(f"$ dynamos experiment run {name} --quick", "dim"))
        run = choices.start(runs, prepared)
        Sweep(run, prepared, Local(state / "demo" / "experiment", prepared.experiment.needs)).go()
        outcomes = Outcomes.of(run.records())
        rows = []
        for claim in prepared.experiment.claims:
            held, shown = settle(claim, outcomes)
            _expect(held is not False, claim.words, shown)
            rows.append(
                [claim.words, styled("holds" if held else "cannot be told", "green" if held else "yellow"), shown]
            )
        _expect(bool(outcomes.done), "trials that come to their end", [record.error for record in outcomes.failed])
        self._out.print(table(("claim", "", "by"), rows))
        self._out.print(f"{len(outcomes.done)} trials in random order; the report is the last line.")
        return finishing.finish(run, prepared.experiment)

    # asking

    def _ask(self, user: str, body: Mapping[str, Any]) -> dict[str, Any]:
        begun = time.perf_counter()
        try:
            with self._as(user) as api:
                headers = {"accept": "application/json"}
                job: dict[str, Any] = api.call(
                    "POST", "/api/v1/jobs", body=body, params={"wait": "true"}, headers=headers
                ).json()
        finally:
            self._asked.append(time.perf_counter() - begun)
        return job

    def _request(
        self, user: str, providers: Sequence[str], query: str, algorithm: str, *, archetype: str = "",
        aggregate: bool = False, group: str = "origin",
    ) -> dict[str, Any]:  # fmt: skip
        body: dict[str, Any] = {
            "type": "sqlDataRequest", "user": {"userName": user}, "providers": list(providers), "query": query,
            "algorithm": algorithm, "options": {"aggregate": aggregate},
        }  # fmt: skip
        if algorithm:
            body["algorithmColumns"] = {"group": group, "value": "dep_delay"}
        return body | ({"archetype": archetype} if archetype else {})

    def _rows(self, job: Mapping[str, Any], result: Mapping[str, Any]) -> list[dict[str, Any]]:
        with self._as(job["user"]) as api:
            found: list[dict[str, Any]] = api.get(f"{result_path(job['id'], result)}&format=json")
        return found

    def _sums(self, job: Mapping[str, Any], result: Mapping[str, Any]) -> Sums:
        return {row["origin"]: row["sum_dep_delay"] for row in self._rows(job, result)}

    def _spans(self, job: Mapping[str, Any]) -> Any:
        """Give the spans once the outermost is there: a unit writes a span after its work is done."""
        end = time.monotonic() + TRACE_SECONDS
        while time.monotonic() < end:
            with self._as(job["user"]) as api:
                found = api.get(f"/api/v1/jobs/{job['id']}/trace")["spans"]
            if any(not span["parent"] for span in found):
                return spans_of(found, job)
            time.sleep(_LOOK_SECONDS)
        raise TimedOut(f"the trace of {job['id']} was not complete within {TRACE_SECONDS:g} s")

    @contextmanager
    def _as(self, user: str) -> Iterator[Api]:
        with Api(self._api, token=token_for(self._folder, user)) as api:
            yield api

    def _plainly(self, query: str, parties: Sequence[str], *, names: bool = False) -> list[Any]:
        """Give what plain DuckDB answers over the union of the parties' files."""
        import duckdb

        files = [str(Path(self._config(party)["data"]) / "flights.parquet") for party in parties]
        with duckdb.connect() as engine:
            engine.execute(_view(files))
            found = engine.execute(query)
            columns = [column[0] for column in found.description]
            rows = found.fetchall()
        return [dict(zip(columns, row, strict=True)) for row in rows] if names else rows

    def _config(self, party: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self._folder.unit(party) / CONFIG).read_bytes())
        return found

    # showing

    def _step(self, title: str, text: str) -> None:
        self._number += 1
        self._out.print(Text.assemble(f"\n{self._number}. ", (title, "bold")))
        self._out.print(f"   {text}")

    def _command(self, user: str, providers: Sequence[str], query: str, *options: str) -> None:
        """Show what one would type, broken where a shell allows it."""
        words = [f"--as {user}", *(f"-p {name}" for name in providers), f'-q "{query}"', *options]
        line = "$ dynamos request"
        for word in words:
            if len(line) + len(word) + 3 > self._out.width:
                self._out.print(styled(f"{line} \\", "dim"))
                line = "   "
            line += f" {word}"
        self._out.print(styled(line, "dim"))


def _view(files: Sequence[str]) -> str:
    quoted = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    return f"CREATE VIEW flights AS SELECT * FROM read_parquet([{quoted}])"  # noqa: S608


def _complete(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for each in job["results"] if each["status"] == "complete"]


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.1f} ms"


def _delay(row: Mapping[str, Any]) -> int:
    return -int(row["dep_delay"])


def _expect(holds: bool, what: str, found: object) -> None:
    if not holds:
        raise Broken(f"the demo expected {what}", where="dynamos demo", hint=f"it found {found}")
