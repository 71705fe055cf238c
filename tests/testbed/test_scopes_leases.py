"""Who may have a network, and for how long: a site's helper over the bus and at its desks, its site in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dynamos.kit.errors import BadInput, Conflict, DynamosError, NotFound, Refused, TimedOut, Unauthenticated
from dynamos.kit.waits import until
from dynamos.knowledge.memory import MemoryCluster
from dynamos.middleware.configs import HelperConfig
from dynamos.middleware.identity.grants import sign
from dynamos.middleware.network import helpers
from dynamos.middleware.network.desks import Customer, Given
from dynamos.middleware.network.helpers import Helper
from dynamos.middleware.network.meetings import PerRequest, Standing
from dynamos.middleware.network.messages import LEASE, Flow, Join, Leave, Left, Passed, Prepare, Prepared, Renew
from dynamos.model.jobs import Grant
from dynamos.model.plans import Edge, Plan, Step
from dynamos.model.profiles import Profile
from support.identities import issue_all, make_grant
from support.sites import profile_of

PARTIES = ("north", "south", "third")


class InMemory:
    """A site that writes down what it is asked for. `fails` is raised by the step of that name."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.fails: dict[str, DynamosError] = {}
        self.open_ways: set[tuple[str, str]] = set()

    def note(self, what: str, job: str) -> None:
        self.told.append(f"{what} {job}")
        if what in self.fails:
            raise self.fails[what]

    async def prepare(self, message: Prepare) -> Prepared:
        self.note("prepare", message.job)
        return Prepared(material={"north": {"key": "public"}}, addresses={"north": "10.0.0.1"})

    async def join(self, message: Join) -> None:
        self.note("join", message.job)

    def abandon(self, job: str) -> None:
        self.told.append(f"abandon {job}")

    async def leave(self, job: str) -> Left:
        self.note("leave", job)
        return Left()

    async def seat(self, party: str) -> Given:
        return Given({"listen": "10.0.0.1"}, [os.open("/dev/null", os.O_RDONLY)])

    async def open(self, party: str, grant: Grant) -> Given:
        self.note("open", grant.job)
        self.open_ways.add((party, grant.job))
        return Given({"listen": "10.0.0.1"}, [os.open("/dev/null", os.O_RDONLY)])

    async def shut(self, party: str, job: str) -> Passed:
        self.open_ways.discard((party, job))
        return Passed(refused=3)

    async def clear(self) -> None:
        self.told.append("clear")


class Scene:
    def __init__(self, folder: Path) -> None:
        self.units = issue_all(folder, "orchestrator", "north", "network-east")
        self.now = 1000.0
        self.site = InMemory()
        self.config = HelperConfig(
            name="network-east", marketplace="aviation", folder=folder, bus="memory", site="east",
            profile=Profile.model_validate(profile_of(Path("/market"), {"scope": "request"})),
            world=folder / "world", orchestrator=self.units["orchestrator"].certificate,
        )  # fmt: skip
        self.cluster = MemoryCluster(PARTIES, sites=("east", "west", "hub"))
        self.orchestrator = self.cluster.connect("orchestrator")
        self.helper = Helper(self.config, self.site, now=lambda: self.now)

    def grant(self, job: str = "job-1") -> str:
        return sign(make_grant("north", job=job), self.units["orchestrator"].key)

    async def ask(self, what: str, message: object) -> dict[str, object]:
        return await self.orchestrator.bus.request(f"network.east.{what}", message.as_json(), within=5)

    async def eventually(self, what: str, holds: Callable[[], bool]) -> None:
        async def probe() -> bool:
            return holds()

        await until(what, probe, within=10)


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    found = Scene(folder)
    await found.helper.start(found.cluster.connect("network-east"))
    try:
        yield found
    finally:
        await found.helper.close()


def against(tmp_path: Path, body: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30), scene(tmp_path) as found:
            await body(found)

    asyncio.run(main())


def prepare(job: str = "job-1", slot: int = 0) -> Prepare:
    flows = (Flow(source="north", target="third"),)
    return Prepare(job=job, slot=slot, parties=("north", "third"), flows=flows)


def test_a_network_is_held_while_it_is_renewed_and_removed_when_it_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(helpers, "SWEEP_SECONDS", 0.01)

    async def body(found: Scene) -> None:
        sweeping = asyncio.create_task(found.helper.sweep())
        await found.ask("prepare", prepare("kept"))
        await found.ask("prepare", prepare("lost", 1))
        await found.ask("join", Join(job="kept", material={}))
        found.now += LEASE - 1
        await found.ask("renew", Renew(jobs=("kept", "nobody's")))
        found.now += 2
        await found.eventually("the other one goes", lambda: "leave lost" in found.site.told)
        assert "leave kept" not in found.site.told
        with pytest.raises(NotFound):
            await found.ask("join", Join(job="lost", material={}))
        found.now += LEASE + 1
        await found.eventually("then this one", lambda: "leave kept" in found.site.told)
        sweeping.cancel()

    against(tmp_path, body)


def test_one_job_has_one_network_and_a_removal_may_be_repeated(tmp_path):
    async def body(found: Scene) -> None:
        given = Prepared.model_validate(await found.ask("prepare", prepare()))
        assert given.addresses == {"north": "10.0.0.1"}
        with pytest.raises(Conflict):
            await found.ask("prepare", prepare(slot=2))
        for _ in range(2):
            assert await found.ask("leave", Leave(job="job-1")) == {"passed": {}, "left": []}
        await found.ask("prepare", prepare())

    against(tmp_path, body)


def test_an_agent_gets_in_with_the_orchestrators_grant_for_its_own_party_and_with_no_other(tmp_path):
    async def body(found: Scene) -> None:
        agent = Customer(found.config.desk("north"), "north")
        await agent.start()
        given = await agent.open("job-1", found.grant())
        assert given.words == {"listen": "10.0.0.1"}
        os.fstat(given.fds[0])
        given.close()
        forged = sign(make_grant("north"), found.units["north"].key)
        others = sign(make_grant("south"), found.units["orchestrator"].key)
        for text, error in ((forged, Unauthenticated), (others, Refused), ("rubbish", Unauthenticated)):
            with pytest.raises(error):
                await agent.open("job-2", text)
        assert found.site.open_ways == {("north", "job-1")}
        with pytest.raises(BadInput):
            await agent._ask({"do": "everything"})
        assert (await agent.shut("job-1"))["refused"] == 3
        assert not found.site.open_ways
        agent.close()

    against(tmp_path, body)


def test_the_ways_of_an_agent_that_is_gone_close(tmp_path):
    async def body(found: Scene) -> None:
        agent = Customer(found.config.desk("north"), "north")
        await agent.start()
        (await agent.open("job-1", found.grant())).close()
        agent.close()
        await found.eventually("they close", lambda: not found.site.open_ways)

    against(tmp_path, body)


def test_an_agent_whose_helper_is_started_again_opens_its_ways_again(tmp_path):
    async def body(found: Scene) -> None:
        agent = Customer(found.config.desk("north"), "north")
        await agent.start()
        (await agent.open("job-1", found.grant())).close()
        await found.helper.close()
        found.site.open_ways.clear()
        again = Helper(found.config, found.site)
        await again.start(found.cluster.connect("network-east"))
        await found.eventually("they are open", lambda: found.site.open_ways == {("north", "job-1")})
        agent.close()
        await again.close()

    against(tmp_path, body)


def plan_of(*pairs: tuple[str, str]) -> Plan:
    parties = dict.fromkeys(party for pair in pairs for party in pair if party != "@requestor")
    steps = tuple(Step(id=f"{p}-s", party=p, service="s", label="dataProvider") for p in parties)
    streams = tuple(Edge(name=f"{a}-{b}", source_party=a, source="s", target_party=b, target="s") for a, b in pairs)
    return Plan(job="job-1", archetypes={}, compute={}, steps=steps, edges=streams)


def test_where_one_site_fails_the_job_does_and_every_site_is_told_to_remove_what_it_made(tmp_path):
    async def body(found: Scene) -> None:
        west = InMemory()
        west.fails["join"] = TimedOut("south did not reach north")
        other = Helper(found.config.model_copy(update={"site": "west", "folder": tmp_path / "w"}), west)
        await other.start(found.cluster.connect("network-west"))
        meetings = PerRequest(found.orchestrator.bus, {"north": "east", "south": "west"}, slots=1)
        with pytest.raises(TimedOut) as caught:
            async with meetings.of(plan_of(("north", "south"), ("south", "@requestor"))):
                raise AssertionError("nothing may start")
        assert caught.value.where == "west"
        await found.eventually("both remove", lambda: "leave job-1" in found.site.told and "leave job-1" in west.told)
        west.fails.clear()
        await found.eventually("the slot is free again", lambda: len(meetings._free) == 1)
        async with meetings.of(plan_of(("north", "south"))) as meeting:
            assert meeting.address("south", "north") == "grpc+tls://10.0.0.1:8815"
        await meetings.close()
        await other.close()

    against(tmp_path, body)


def test_a_site_that_waits_for_another_gives_up_when_the_network_is_to_go(tmp_path):
    async def body(found: Scene) -> None:
        given_up = asyncio.Event()

        async def waits(message: Join) -> None:
            await given_up.wait()

        found.site.join = waits
        found.site.abandon = lambda _: given_up.set()
        await found.ask("prepare", prepare())
        joining = asyncio.create_task(found.ask("join", Join(job="job-1", material={})))
        await asyncio.sleep(0)
        await found.ask("leave", Leave(job="job-1"))
        await joining
        assert "leave job-1" in found.site.told

    against(tmp_path, body)


def test_a_site_that_is_away_is_named(tmp_path):
    async def body(found: Scene) -> None:
        meetings = PerRequest(found.orchestrator.bus, {"north": "east", "third": "hub"}, slots=4)
        with pytest.raises(DynamosError, match="site hub") as caught:
            async with meetings.of(plan_of(("north", "third"))):
                raise AssertionError("nothing may start")
        assert caught.value.detail_code == "site-away"
        await meetings.close()

    against(tmp_path, body)


def test_a_job_whose_parties_exchange_nothing_has_no_network(tmp_path):
    async def body(found: Scene) -> None:
        meetings = PerRequest(found.orchestrator.bus, {"north": "east"}, slots=0)
        async with meetings.of(plan_of(("north", "@requestor"))):
            assert found.site.told == ["clear"]
        await meetings.close()

    against(tmp_path, body)


def test_networks_that_stay_give_a_party_the_address_in_one_that_both_are_in():
    async def main() -> None:
        standing = Standing(({"north": "10.1.0.1", "third": "10.1.0.2"}, {"south": "10.2.0.1", "third": "10.2.0.2"}))
        async with standing.of(plan_of(("north", "third"), ("south", "third"))) as meeting:
            assert meeting.address("north", "third") == "grpc+tls://10.1.0.2:8815"
            assert meeting.address("south", "third") == "grpc+tls://10.2.0.2:8815"
        with pytest.raises(Refused, match="north and south"):
            async with standing.of(plan_of(("north", "south"))):
                raise AssertionError("nothing may start")

    asyncio.run(main())
