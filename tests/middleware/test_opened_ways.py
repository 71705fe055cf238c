"""In a cluster a part's ways are open while it needs them: never before, never longer, and nobody else's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pyarrow as pa
import pytest

from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.kit.clocks import SystemClock
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Cancelled, DynamosError, Full, Refused, TimedOut, Unavailable
from dynamos.kit.waits import until
from dynamos.middleware.agent import opened
from dynamos.middleware.agent.exchanges import LocalExchange
from dynamos.middleware.agent.inbox import Inbox
from dynamos.middleware.agent.opened import OpenedWays
from dynamos.middleware.configs import PoliciesConfig
from dynamos.middleware.identity.grants import sign
from dynamos.model.jobs import Grant
from dynamos.model.plans import Part
from support.exchanges import written
from support.identities import issue_all, make_grant
from support.openings import NAMESPACES, MemoryOpenings, MemoryPolicies, Wall, forbidden, home

TABLE = pa.table({"n": list(range(1000))})


class Sides:
    """`united`, which sends, and `clearing`, which takes, with a wall between them."""

    def __init__(self, units: dict[str, Credentials], policies: MemoryPolicies, patience: float) -> None:
        self.policies = policies
        self.units = units
        self.openings = {party: MemoryOpenings(home(party), policies) for party in ("united", "clearing")}
        self.config = PoliciesConfig(testbed="flights", namespaces=NAMESPACES, patience=patience)
        self.ways = {party: self._way(party) for party in self.openings}
        self.wall: Wall
        self.address = ""

    def _way(self, party: str) -> OpenedWays:
        inbox = Inbox(party, self.units["orchestrator"].certificate, SystemClock(), patience=0.3)
        receiver = Receiver(self.units[party], admit=inbox.admit)
        local = LocalExchange(Sender(self.units[party], patience=1.0), receiver, inbox)
        return OpenedWays(self.openings[party], local, party, self.config)

    def granted(self, party: str = "united", job: str = "job-1") -> tuple[Grant, str]:
        grant = make_grant(job=job, grant_id=f"grant of {job}")
        if party == "clearing":
            part = grant.part.model_copy(update={"party": party, "steps": ()})
            grant = grant.model_copy(update={"party": party, "part": Part.model_validate(part)})
        grant = grant.model_copy(update={"addresses": {"clearing": self.address}})
        return grant, sign(grant, self.units["orchestrator"].key)

    async def gone(self) -> None:
        async def probe() -> bool:
            return not any(self.policies.openings(party) for party in NAMESPACES)

        await until("nothing is open", probe, within=10)

    async def pass_rows(self, job: str = "job-1") -> pa.Table:
        """Have a job whose parts exchange the table, and give what arrived."""
        async with self.ways["clearing"].of(*self.granted("clearing", job)) as taking:
            reading, writing = os.pipe()
            await taking.expect(job, {"rows": writing}, lambda _: None)
            got = asyncio.create_task(asyncio.to_thread(_read, reading))
            grant, text = self.granted(job=job)
            async with self.ways["united"].of(grant, text) as sending:
                await self.send(sending, grant, text)
            return await got

    async def send(self, exchange: object, grant: Grant, text: str, **changes: str) -> None:
        words = {"peer": "clearing", "job": grant.job, "edge": "rows", "grant": text} | changes
        source = written(TABLE.schema, TABLE.to_batches())
        await exchange.send(self.address, source_fd=source, confirm=_confirmed, **words)  # type: ignore[attr-defined]


async def _confirmed() -> None:
    """The step ended well."""


def _read(fd: int) -> pa.Table:
    with os.fdopen(fd, "rb") as file:
        return pa.ipc.open_stream(file).read_all()


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Credentials]:
    return issue_all(tmp_path_factory.mktemp("units"), "orchestrator", "united", "clearing")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "SHUT_SECONDS", 0.05)
    monkeypatch.setattr(opened, "SETTLE_SECONDS", 0.05)


@asynccontextmanager
async def sides(units: dict[str, Credentials], *, late: float, patience: float) -> AsyncIterator[Sides]:
    both = Sides(units, MemoryPolicies(), patience)
    async with AsyncExitStack() as stack:
        for way in both.ways.values():
            await way.start()
            stack.push_async_callback(way.close)
        port = int(both.ways["clearing"].address.rpartition(":")[2])
        both.wall = Wall(both.policies, "united", "clearing", port, late=late)
        both.address = await both.wall.start()
        stack.push_async_callback(both.wall.close)
        yield both


def between(
    units: dict[str, Credentials], body: Callable[[Sides], Awaitable[None]], *, late: float = 0.0, patience: float = 5.0
) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), sides(units, late=late, patience=patience) as both:
            await body(both)

    asyncio.run(main())


def test_rows_pass_and_nothing_is_open_afterwards(units):
    async def body(both: Sides) -> None:
        assert (await both.pass_rows()).equals(TABLE)
        await both.gone()
        await both.wall.shut.wait()

    between(units, body)


def test_a_stream_waits_for_a_network_that_is_late(units):
    async def body(both: Sides) -> None:
        assert (await both.pass_rows()).equals(TABLE)

    between(units, body, late=0.5)


def test_a_way_that_the_other_side_does_not_open_is_told_with_its_policy(units):
    async def body(both: Sides) -> None:
        grant, text = both.granted()
        async with both.ways["united"].of(grant, text) as sending:
            [name] = both.policies.openings("united")
            with pytest.raises(TimedOut, match="way united>clearing") as caught:
                await both.send(sending, grant, text)
        assert caught.value.detail_code == "way-shut"
        assert name in caught.value.hint
        assert "flights-clearing" in caught.value.hint
        await both.gone()

    between(units, body, patience=0.3)


def test_a_peer_that_is_not_in_the_grant_stays_out(units):
    async def body(both: Sides) -> None:
        grant, text = both.granted()
        async with both.ways["united"].of(grant, text) as sending:
            with pytest.raises(Refused) as caught:
                await both.send(sending, grant, text, peer="klm")
            assert caught.value.detail_code == "way-shut"
            spec = both.policies.policies["flights-united"][both.policies.openings("united")[0]]["spec"]
        assert spec["policyTypes"] == ["Egress"]
        [rule] = spec["egress"]
        assert [each["namespaceSelector"]["matchLabels"] for each in rule["to"]] == [
            {"kubernetes.io/metadata.name": "flights-clearing"}
        ]
        assert rule["ports"] == [{"protocol": "TCP", "port": 8815}]

    between(units, body)


def test_jobs_that_share_a_way_keep_it_open_for_each_other(units):
    async def body(both: Sides) -> None:
        async with AsyncExitStack() as first:
            await first.enter_async_context(both.ways["united"].of(*both.granted(job="job-1")))
            await first.enter_async_context(both.ways["clearing"].of(*both.granted("clearing", "job-1")))
            assert len(both.policies.openings("united")) == 1
            tables = await asyncio.gather(*(both.pass_rows(f"job-{number}") for number in (2, 3, 4)))
            assert all(table.equals(TABLE) for table in tables)
            await until("only the first is left", lambda: _count(both, 1), within=10)
            assert not both.wall.shut.is_set()
        await both.gone()
        await both.wall.shut.wait()

    between(units, body)


def test_no_connection_outlives_the_last_part_that_needs_its_way(units):
    async def body(both: Sides) -> None:
        # The network stays open, as one does that lets established connections live on.
        for party in ("united", "clearing"):
            opening = opened.opening_of(both.granted(party, "another")[0].part)
            assert opening is not None
            await both.openings[party].put(opening)
        both.ways["united"]._proven.add("clearing")
        assert (await both.pass_rows()).equals(TABLE)
        assert both.wall.knocks > 1
        await until("the sender let go", lambda: _uncabled(both), within=10)
        assert not both.wall.shut.is_set()

    between(units, body)


async def _uncabled(both: Sides) -> bool:
    return not both.wall.cables


async def _count(both: Sides, number: int) -> bool:
    return all(len(both.policies.openings(party)) == number for party in ("united", "clearing"))


@pytest.mark.parametrize("failure", [Cancelled("revoked"), RuntimeError("a defect")], ids=["cancelled", "crashed"])
def test_a_part_that_fails_leaves_nothing_open(units, failure):
    async def body(both: Sides) -> None:
        with pytest.raises(type(failure)):
            async with both.ways["united"].of(*both.granted()):
                raise failure
        await both.gone()

    between(units, body)


def test_a_part_whose_start_is_cancelled_leaves_nothing_open(units):
    async def body(both: Sides) -> None:
        begun = asyncio.Event()

        async def part() -> None:
            async with both.ways["united"].of(*both.granted()):
                begun.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(part())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await both.gone()

    between(units, body)


def test_a_way_closes_with_the_streams_and_not_with_the_report(units):
    async def body(both: Sides) -> None:
        grant, text = both.granted()
        async with both.ways["clearing"].of(*both.granted("clearing")) as taking:
            reading, writing = os.pipe()
            await taking.expect("job-1", {"rows": writing}, lambda _: None)
            got = asyncio.create_task(asyncio.to_thread(_read, reading))
            async with both.ways["united"].of(grant, text) as sending:
                await both.send(sending, grant, text)
                await got
                await taking.forget("job-1", Cancelled("the part has ended"))
                await both.gone()

    between(units, body)


def test_a_cluster_that_is_away_for_a_moment_is_asked_again(units):
    async def body(both: Sides) -> None:
        for openings in both.openings.values():
            openings.errors = [Unavailable("the cluster does not answer"), Unavailable("again")]
        assert (await both.pass_rows()).equals(TABLE)
        both.openings["united"].errors = [Unavailable("the cluster does not answer")]
        await both.gone()

    between(units, body)


@pytest.mark.parametrize(
    ("error", "code"), [(forbidden(), "cluster-refuses"), (Full("exceeded quota", code="quota"), "quota")]
)
def test_a_cluster_that_refuses_fails_the_part_before_it_starts(units, error, code):
    async def body(both: Sides) -> None:
        both.openings["united"].errors = [error]
        with pytest.raises(DynamosError) as caught:
            async with both.ways["united"].of(*both.granted()):
                raise AssertionError
        assert caught.value.detail_code == code
        await both.gone()

    between(units, body)


def test_an_opening_whose_answer_was_lost_is_removed(units):
    async def body(both: Sides) -> None:
        both.openings["united"].lost = [forbidden()]
        with pytest.raises(Refused):
            async with both.ways["united"].of(*both.granted()):
                raise AssertionError
        await both.gone()

    between(units, body)


def test_a_network_that_enforces_nothing_is_found_out(units):
    async def body(both: Sides) -> None:
        both.wall.enforced = False
        both.policies.tell()
        await until("the wall is open", lambda: _opened(both), within=5)
        with pytest.raises(Refused, match="no way is open") as caught:
            async with both.ways["united"].of(*both.granted()):
                raise AssertionError
        assert caught.value.detail_code == "not-enforced"
        assert "enforce" in caught.value.hint

    between(units, body, patience=0.3)


async def _opened(both: Sides) -> bool:
    return not both.wall.shut.is_set()


def test_an_agent_starts_with_nothing_open_and_not_where_nothing_is_denied(units):
    async def main() -> None:
        policies = MemoryPolicies()
        before = MemoryOpenings(home("united"), policies)
        both = Sides(units, policies, 1.0)
        grant, _ = make_grant(), ""
        await before.put(opened.opening_of(grant.part))  # type: ignore[arg-type]
        assert policies.openings("united")
        await both.ways["united"].start()
        assert policies.openings("united") == []
        await both.ways["united"].close()
        bare = Sides(units, MemoryPolicies(denied=False), 1.0)
        with pytest.raises(Refused, match="no policy denies") as caught:
            await bare.ways["united"].start()
        assert caught.value.detail_code == "not-denied"

    asyncio.run(main())
