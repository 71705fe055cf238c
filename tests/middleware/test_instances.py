"""Several agents of one party at once: replicas, or the old and the new one during an upgrade."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import DynamosError, Refused
from dynamos.kit.waits import bounded, until
from dynamos.knowledge.bases import bucket_of
from dynamos.knowledge.memory import MemoryCluster
from dynamos.middleware import instances
from dynamos.middleware.agent import agreements
from dynamos.middleware.agent.gatekeepers import Policy
from dynamos.middleware.identity.spent import SpentGrants
from dynamos.middleware.messages import CancelJob, Load, Presence
from dynamos.middleware.orchestrator import executions
from dynamos.middleware.orchestrator.placements import choose
from dynamos.middleware.views import agreements_of
from dynamos.model.agreements import Agreement
from dynamos.model.jobs import State
from support.agents import BOUND, Orchestra, ScriptedAgent, orchestra
from support.buses import marketplace
from support.marketplaces import request

ALONE = request(("UVA",), algorithm="average")
THROUGH = request(("UVA", "VU"), algorithm="average", options={"aggregate": True})


def run(folder, play, **settings):
    async def main():
        async with orchestra(folder, **settings) as it:
            await play(it)

    asyncio.run(main())


def agent(instance: str, *, leaving: bool = False, since: str = "1", **load: Any) -> Presence:
    return Presence(
        party="UVA", instance=instance, address=f"at-{instance}", active_since=since, config_updated=since,
        leaving=leaving, load=Load(**load) if load else None,
    )  # fmt: skip


# --- pure -------------------------------------------------------------------------------------------------------------


def test_the_agent_with_the_least_to_do_is_chosen_and_never_one_that_leaves():
    busy, idle = agent("a", parts=3, capacity=4), agent("b", parts=1, capacity=4)
    assert choose([busy, idle], {}) == idle
    assert choose([busy, agent("b", leaving=True, parts=0, capacity=4)], {}) == busy
    assert choose([agent("b", leaving=True)], {}) is None
    assert choose([], {}) is None


def test_parts_that_an_agent_has_not_told_of_yet_count_too():
    one, other = agent("a", parts=0, capacity=4), agent("b", parts=0, capacity=4)
    assert choose([one, other], {"a": 1}) == other
    assert choose([one, other], {"a": 1, "b": 2}) == one


def test_who_did_not_hear_the_last_thing_is_chosen_only_where_there_is_nobody_else():
    one, other = agent("a", parts=0, capacity=4), agent("b", parts=3, capacity=4)
    assert choose([one, other], {}, silent={"a"}) == other
    assert choose([one], {}, silent={"a"}) == one


def test_a_party_is_as_its_agents_are_together():
    both = instances.together(
        [agent("a", since="2", parts=2, capacity=4, cpu=0.2), agent("b", since="1", parts=1, capacity=12, cpu=0.6)]
    )
    assert both.active_since == "1"
    assert both.load == Load(parts=3, capacity=16, cpu=0.5, memory=0, memory_share=0.0)
    left = instances.together([agent("a", parts=2, capacity=4), agent("b", leaving=True, parts=1, capacity=12)])
    assert left.load == Load(parts=2, capacity=4)


def test_a_key_says_whose_an_instance_is_and_its_value_cannot_say_otherwise():
    liar = agent("x").model_copy(update={"party": "VU", "instance": "y"})
    found = instances.by_unit({"UVA.a": liar, "UVA": liar, "UVA.a.b": liar, "orchestrator.1": liar})
    assert [(each.party, each.instance) for each in found["UVA"]] == [("UVA", "a")]
    assert set(instances.parties({"UVA.a": liar, "orchestrator.1": liar, "api.1": liar})) == {"UVA"}


@pytest.mark.parametrize("pod", ["", "agent-uva-6d5f.x_1", "a" * 200])
def test_an_instance_is_called_like_its_pod_and_like_no_other(monkeypatch, pod):
    monkeypatch.setenv(instances.POD, pod)
    one, other = instances.fresh(), instances.fresh()
    assert one != other
    assert instances.parsed(instances.key_of("UVA", one)) == ("UVA", one)
    assert len(one) < 64


# --- jobs -------------------------------------------------------------------------------------------------------------


def test_jobs_go_to_the_agent_with_less_to_do_and_their_records_say_so(tmp_path):
    async def play(it: Orchestra):
        second = await it.join("UVA", "second", parts=0, capacity=1)
        for number in range(4):
            await it.submit(ALONE, job=f"job-{number}")
        assert {len(it.agents["UVA"].grants), len(second.grants)} == {2}
        for job in ("job-0", "job-1", "job-2", "job-3"):
            at = it.orchestrator._live[job].record.instances["UVA"]
            assert [grant.job for grant in {"first": it.agents["UVA"], "second": second}[at].grants].count(job) == 1
        second.release.set()
        it.release()
        ends = {(record := await it.end_of_any()).id: record.instances["UVA"] for _ in range(4)}
        assert sorted(ends.values()) == ["first", "first", "second", "second"]

    run(tmp_path, play)


def test_streams_go_to_the_agent_that_runs_the_part(tmp_path):
    async def play(it: Orchestra):
        it.agents["SURF"].refuses = Refused("not this one")
        second = await it.join("SURF", "second", parts=0, capacity=100)
        await it.announcements["SURF"].update(
            instances.together([*it.orchestrator._overview.online()["SURF"]]).model_copy(update={"leaving": True})
        )
        await until("the first leaves", lambda: leaves(it, "SURF"), within=BOUND, every=0)
        second.release.set()
        it.release()
        await it.submit(THROUGH)
        assert (await it.end_of()).state == State.SUCCEEDED
        (at,) = [each for each in it.orchestrator._overview.online()["SURF"] if not each.leaving]
        assert it.agents["UVA"].grants[0].addresses == {"SURF": at.address}
        assert not it.agents["SURF"].grants

    run(tmp_path, play)


async def leaves(it: Orchestra, party: str) -> bool:
    return any(each.leaving for each in it.orchestrator._overview.online()[party])


def test_a_party_of_which_one_agent_leaves_is_not_waited_for(tmp_path):
    async def play(it: Orchestra):
        second = await it.join("UVA", "second")
        second.release.set()
        leaving = it.orchestrator._overview.online()["UVA"][0].model_copy(update={"leaving": True})
        await it.announcements["UVA"].update(leaving)
        await until("the first leaves", lambda: leaves(it, "UVA"), within=BOUND, every=0)
        assert "UVA" not in it.orchestrator._overview.returning()
        await it.submit(ALONE)
        assert (await it.end_of()).instances == {"UVA": "second"}

    run(tmp_path, play)


def test_an_agent_that_goes_loses_only_its_own_parts(tmp_path):
    async def play(it: Orchestra):
        second = await it.join("UVA", "second")
        await it.submit(ALONE, job="one")
        await it.submit(ALONE, job="two")
        gone = it.orchestrator._live["one"].instances["UVA"]
        it.orchestrator.lose("UVA", gone)
        assert (await it.end_of("one")).state == State.LOST
        second.release.set()
        it.release()
        assert (await it.end_of("two")).state == State.SUCCEEDED

    run(tmp_path, play)


def test_a_cancel_goes_to_the_agent_that_runs_the_part_and_to_no_other(tmp_path):
    async def play(it: Orchestra):
        second = await it.join("UVA", "second")
        await it.submit(ALONE)
        both = {"first": it.agents["UVA"], "second": second}
        at = both.pop(it.orchestrator._live["job-1"].instances["UVA"])
        await it.orchestrator.cancel(CancelJob(job="job-1", reason="enough"))
        assert (await it.end_of()).state == State.CANCELLED
        assert [each.job for each in at.ended] == ["job-1"]
        assert not next(iter(both.values())).ended

    run(tmp_path, play)


async def deaf(it: Orchestra, agent: ScriptedAgent) -> None:
    """Have an agent be there by its word alone: nobody listens for it any more."""
    for listener in [each for each in it.cluster.listeners if f".{agent.instance}." in each.subject]:
        if listener.subject.startswith(f"agent.{agent.party}."):
            await listener.close()


def test_a_part_of_which_a_dead_agent_hears_nothing_runs_at_another(tmp_path):
    async def play(it: Orchestra):
        second = await it.join("UVA", "second", parts=7, capacity=8)
        second.release.set()
        await deaf(it, it.agents["UVA"])
        job = await it.submit(ALONE)
        assert job.instances == {"UVA": "second"}
        assert (await it.end_of()).state == State.SUCCEEDED
        assert (await it.submit(ALONE, job="next")).instances == {"UVA": "second"}
        assert len(second.grants) == 2
        assert not it.agents["UVA"].grants

    run(tmp_path, play)


def test_a_part_that_others_send_rows_to_is_not_moved_and_the_request_may_be_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(executions, "AGAIN_SECONDS", 0.2)

    async def play(it: Orchestra):
        await it.join("SURF", "second", parts=7, capacity=8)
        await deaf(it, it.agents["SURF"])
        await it.submit(THROUGH)
        end = await it.end_of()
        assert end.state == State.FAILED
        assert (end.error["code"], end.error["again"]) == ("agent-away", True)
        assert (await it.submit(THROUGH, job="again")).instances["SURF"] == "second"

    run(tmp_path, play)


def test_a_start_that_a_hanging_agent_does_not_answer_is_given_up_when_its_presence_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(executions, "START_TRY_SECONDS", 0.1)
    monkeypatch.setattr(executions, "START_SECONDS", 3600.0)
    monkeypatch.setattr(executions, "END_SECONDS", 0.1)

    async def play(it: Orchestra):
        hanging, asked = it.agents["UVA"], asyncio.Event()

        async def hang(_: str, message: dict[str, Any]) -> dict[str, Any]:
            asked.set()
            await asyncio.Event().wait()
            return message

        await deaf(it, hanging)
        await it.cluster.connect("UVA").bus.listen(f"agent.UVA.{hanging.instance}.>", hang)
        begun = asyncio.create_task(it.submit(ALONE))
        await bounded("the agent is asked", asked.wait(), within=BOUND)
        await it.cluster.connect("UVA").store("presence").delete(f"UVA.{hanging.instance}")
        await begun
        end = await it.end_of()
        assert (end.state, end.error["code"], end.error["where"]) == (State.FAILED, "lost", "UVA")
        assert "hangs" in end.error["message"]

    run(tmp_path, play)


def test_a_job_that_waits_is_planned_again_where_the_only_agent_of_a_party_has_gone(tmp_path):
    async def play(it: Orchestra):
        await it.submit(ALONE)
        waiting = asyncio.create_task(it.submit(request(("UVA", "VU"), algorithm="average"), job="job-2"))
        await it.until_one_waits()
        await it.cluster.connect("VU").store("presence").delete("VU.first")
        await until("VU is gone", lambda: gone(it, "VU"), within=BOUND, every=0)
        it.release()
        job = await waiting
        assert job.plan.parties == ("UVA",)
        assert (await it.end_of("job-2")).state == State.SUCCEEDED

    run(tmp_path, play, concurrent_jobs=1)


async def gone(it: Orchestra, party: str) -> bool:
    return party not in it.orchestrator._overview.online()


# --- what agents of one party share -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "jetstream"])
def test_a_grant_works_once_whichever_agents_of_a_party_get_it(kind, tmp_path):
    async def main():
        async with marketplace(kind, tmp_path) as market:
            stores = [(await market.connect("UVA")).store(bucket_of("UVA")) for _ in range(4)]
            agents = [SpentGrants(store) for store in stores]
            ends = SystemClock().now() + timedelta(minutes=1)
            for number in range(10):
                told = await asyncio.gather(
                    *(each.spend(f"g{number}", ends) for each in agents), return_exceptions=True
                )
                assert sum(each is None for each in told) == 1
                assert {each.detail_code for each in told if isinstance(each, DynamosError)} == {"grant-spent"}

    asyncio.run(main())


def test_two_agents_may_forget_spent_grants_at_the_same_time():
    async def main():
        cluster, clock = MemoryCluster(["UVA"]), SystemClock()
        stores = [cluster.connect("UVA").store(bucket_of("UVA")) for _ in range(2)]
        for number in range(5):
            past = {"expires": (clock.now() - timedelta(hours=1)).isoformat()}
            await stores[0].put(f"grant.{number:064x}", past)
        old = await stores[0].entries("grant")
        await stores[1].delete(old[0].key)
        stores[0].entries = lambda _: answered(old)
        assert await SpentGrants(stores[0], clock=clock).prune() == 5
        assert await stores[1].entries("grant") == []

    asyncio.run(main())


async def answered(value: Any) -> Any:
    return value


def test_an_agent_that_starts_does_not_undo_what_an_admin_changes_at_that_moment():
    async def main():
        cluster = MemoryCluster(["UVA"])
        kb, admin = cluster.connect("UVA"), cluster.connect("UVA")
        mine, theirs = Agreement(name="UVA", archetypes=("computeToData",)), Agreement(name="UVA")
        await agreements.seed(kb, mine)
        shelf = agreements_of(admin, "UVA")
        get = kb.store(bucket_of("UVA")).get
        newer = mine.model_copy(update={"compute_providers": ("SURF",)})
        entries = [await get("agreements.UVA"), await get("seed")]
        last = await shelf.put("UVA", theirs)
        store = StaleOnce(kb.store(bucket_of("UVA")), entries)
        kb.store = lambda _: store
        found, revision = await agreements.seed(kb, newer)
        assert revision > last
        assert found == newer
        assert store.puts[0] == entries[0].revision

    asyncio.run(main())


class StaleOnce:
    """A store whose first answers are old."""

    def __init__(self, store: Any, old: list[Any]) -> None:
        self._store = store
        self._old = {entry.key: entry for entry in old}
        self.puts: list[int | None] = []

    async def get(self, key: str) -> Any:
        return self._old.pop(key, None) or await self._store.get(key)

    async def put(self, key: str, value: Any, *, revision: int | None = None) -> int:
        self.puts.append(revision)
        return await self._store.put(key, value, revision=revision)


def test_an_older_agreement_that_is_heard_late_changes_nothing():
    policy = Policy(Agreement(name="UVA"), 5, {})
    policy.take(Agreement(name="UVA", archetypes=("computeToData",)), 4)
    assert policy.agreement == Agreement(name="UVA")
