"""A party's own agent holds what runs to its own agreement, and needs nobody for that."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import DynamosError, Refused, Unavailable
from dynamos.kit.waits import until
from dynamos.knowledge.memory import MemoryCluster
from dynamos.middleware.agent.gatekeepers import Gatekeeper, Permit, Policy
from dynamos.middleware.agent.partruns import PartRun
from dynamos.middleware.agent.wardens import Warden
from dynamos.middleware.views import agreements_of, background
from dynamos.model.agreements import Agreement
from dynamos.model.jobs import Grant
from dynamos.planning.plans import plan as make_plan
from dynamos.policy.builtin import BuiltIn
from support.marketplaces import NOW, USER, Scene, request, upstream

CLOCK = SystemClock()
BOUND = 10.0
EITHER = request(("UVA",))
THROUGH = request(("UVA",), archetype="dataThroughTtp")


class Run:
    """A part that only remembers that it was told to stop."""

    def __init__(self, job: str) -> None:
        self.grant = SimpleNamespace(job=job)
        self.error: DynamosError | None = None
        self.killed = asyncio.Event()

    @property
    def stopped(self) -> bool:
        return self.error is not None

    async def kill(self, error: DynamosError) -> None:
        self.error = error
        self.killed.set()


class Post:
    """A warden of UVA with everything that it looks at, and parts that it holds."""

    def __init__(self, scene: Scene | None = None, party: str = "UVA") -> None:
        self.scene = scene or upstream()
        self.party = party
        self.kb = MemoryCluster(["UVA", "SURF"]).connect(party)
        self.shared = SimpleNamespace(
            services=dict(self.scene.services),
            request_types=dict(self.scene.request_types),
            archetypes=dict(self.scene.archetypes),
        )
        agreement = self.scene.agreements.get(party, Agreement(name=party))
        self.policy = Policy(agreement, 1, dict(self.scene.catalogue.get(party, {})))
        self.gatekeeper = Gatekeeper(
            SimpleNamespace(name=party),
            engine=BuiltIn(),
            shared=self.shared,
            policy=self.policy,
            requestors=None,
            spent=None,
            clock=CLOCK,
        )
        self.warden = Warden(party, self.kb, self.gatekeeper, self.policy, CLOCK)

    def permit(self, asked: Any = EITHER, job: str = "job-1") -> Permit:
        """Give the permit of a part as it is now."""
        plan = make_plan(asked, self.scene.decide(asked), self.scene.landscape(), job=job)
        part = plan.part(self.party)
        grant = Grant(
            id="g", job=job, party=self.party, chain=part.digest(), revision="1", part=part, request=asked.digest(),
            archetypes=plan.archetypes, compute=plan.compute, expires=NOW + timedelta(days=1),
        )  # fmt: skip
        own = self.gatekeeper._decide(asked) if self.party in plan.compute else None
        return Permit(grant, asked, own, self.policy.edition)

    def begin(self, asked: Any = EITHER, job: str = "job-1") -> Run:
        run = Run(job)
        self.warden.begin(run, self.permit(asked, job))
        return run

    def changed(self, **changes: Any) -> Agreement:
        self.scene = self.scene.agreeing(self.party, **changes)
        return self.scene.agreements[self.party]


def run(play) -> None:
    asyncio.run(play())


def test_what_an_agreement_does_not_permit_has_been_stopped_when_the_change_is_answered():
    async def play():
        post = Post()
        here, there = post.begin(), post.begin(THROUGH, "job-2")
        await post.warden.take(post.changed(allowed_archetypes=("dataThroughTtp",)), 2)
        assert not there.stopped
        assert here.error.detail_code == "revoked"
        assert here.error.facts["reasons"][0]["code"] == "archetype"
        assert here.error.facts["revision"] == 2

    run(play)


def test_an_answer_that_comes_late_does_not_bring_an_older_agreement_back():
    async def play():
        post = Post()
        older = post.policy.agreement
        part = post.begin()
        await post.warden.take(Agreement(name="UVA"), 9)
        await post.warden.take(older, 8)
        assert part.stopped
        assert post.policy.agreement == Agreement(name="UVA")
        with pytest.raises(Refused):
            post.permit()

    run(play)


def test_an_agreement_that_forbids_nothing_stops_nothing():
    async def play():
        post = Post()
        here, there = post.begin(), post.begin(THROUGH, "job-2")
        other = post.policy.agreement.relations[USER]
        wider = post.policy.agreement.model_copy(
            update={"relations": {USER: other, "bob@example.org": other}, "compute_providers": ("DANS", "SURF")}
        )
        await post.warden.take(wider, 2)
        assert not here.stopped
        assert not there.stopped

    run(play)


def test_a_duty_that_is_dropped_stops_nothing_and_a_new_one_does():
    async def play():
        post = Post(upstream().agreeing("UVA", duties=("sql-anonymize",)))
        part = post.begin()
        await post.warden.take(post.changed(duties=()), 2)
        assert not part.stopped
        fresh = post.begin(job="job-2")
        await post.warden.take(post.changed(duties=("sql-anonymize",)), 3)
        assert fresh.stopped
        assert not part.stopped

    run(play)


def test_a_part_that_was_permitted_before_a_change_does_not_begin_after_it():
    async def play():
        post = Post()
        permit = post.permit()
        await post.warden.take(post.changed(allowed_archetypes=("dataThroughTtp",)), 2)
        with pytest.raises(Refused):
            post.warden.begin(Run("job-1"), permit)

    run(play)


def test_a_relation_that_ends_stops_its_parts_with_nobody_telling():
    async def play():
        ends = CLOCK.now() + timedelta(milliseconds=300)
        post = Post(upstream().agreeing("UVA", valid_until=ends))
        async with background(post.warden._follow):
            part = post.begin()
            await asyncio.wait_for(part.killed.wait(), BOUND)
        assert CLOCK.now() >= ends
        assert part.error.facts["reasons"][0]["code"] == "expired"

    run(play)


def test_what_the_marketplace_shares_stops_what_it_forbids():
    async def play():
        post = Post()
        async with background(post.warden._follow):
            part = post.begin()
            algorithm = post.shared.services["sql-algorithm"]
            post.shared.services["sql-algorithm"] = algorithm.model_copy(
                update={"invalid_archetypes": ("computeToData",)}
            )
            post.warden.shared("sql-algorithm")
            await asyncio.wait_for(part.killed.wait(), BOUND)

    run(play)


def test_a_party_that_only_computes_stops_what_cannot_be_computed_so_any_more():
    async def play():
        post = Post(party="SURF")
        part = post.begin(THROUGH)
        await post.warden.hold()
        assert not part.stopped
        del post.shared.services["sql-algorithm"]
        post.warden.shared("sql-algorithm")
        await post.warden.hold()
        assert part.stopped

    run(play)


def test_an_agreement_that_was_written_and_whose_answer_was_lost_holds_all_the_same():
    async def play():
        post = Post()
        shelf = agreements_of(post.kb, "UVA")
        await shelf.put("UVA", post.policy.agreement)
        part = post.begin()
        async with background(*post.warden.works):
            await shelf.put("UVA", Agreement(name="UVA"))
            await asyncio.wait_for(part.killed.wait(), BOUND)

    run(play)


def test_an_audit_stream_that_is_away_stops_nothing_from_being_stopped():
    async def play():
        post = Post()
        part = post.begin()

        class Away:
            async def append(self, *_):
                raise Unavailable("the bus is away")

        post.kb.log = lambda _: Away()
        await post.warden.take(Agreement(name="UVA"), 2)
        assert part.stopped

    run(play)


def test_what_cannot_be_judged_is_stopped():
    async def play():
        post = Post()
        part = post.begin()
        post.gatekeeper._engine = None
        await post.warden.take(post.policy.agreement, 2)
        assert part.stopped

    run(play)


def test_a_stop_is_written_down_once():
    async def play():
        post = Post()
        records = []

        class Log:
            async def append(self, subject, record):
                records.append((subject, record["event"], record["reasons"][0]["code"]))

        post.kb.log = lambda _: Log()
        post.begin()
        await post.warden.take(Agreement(name="UVA"), 2)
        await post.warden.take(Agreement(name="UVA"), 3)
        assert records == [("UVA.job-1", "part.revoked", "no-relation")]

    run(play)


class Runner:
    """Starts a part once it is let, and remembers what was told to the part."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.killed: list[DynamosError] = []

    async def start(self, *_: Any) -> Runner:
        await self.go.wait()
        return self

    async def kill(self, error: DynamosError) -> None:
        self.killed.append(error)


def test_a_part_that_is_stopped_while_it_is_being_started_does_not_run():
    async def play():
        post, runner = Post(), Runner()
        permit = post.permit(request(("UVA",), algorithm="average"))
        part = PartRun(permit.grant, "", runner=runner, results=None)
        post.warden.begin(part, permit)
        starting = asyncio.create_task(part.start(None))
        await asyncio.sleep(0)
        await post.warden.take(Agreement(name="UVA"), 2)
        await post.warden.take(upstream().agreements["UVA"], 3)
        runner.go.set()
        await starting

        async def killed():
            return bool(runner.killed)

        await until("the part is killed", killed, within=BOUND, every=0)
        assert runner.killed[0].detail_code == "revoked"

    run(play)
