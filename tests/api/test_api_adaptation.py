"""Adaptation from outside: only admins, within policy, in the shape of UPISAS, and kept over a restart."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest

import dynamos
from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import BadInput, Conflict, Refused
from dynamos.kit.waits import until as condition
from dynamos.knowledge.bases import PRESENCE
from dynamos.knowledge.memory import MemoryCluster
from dynamos.knowledge.presence import Presences, announce
from dynamos.middleware.api.routes.adaptation import schema_of
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.messages import Presence
from dynamos.middleware.orchestrator.advisers import ByWeights
from dynamos.middleware.orchestrator.helms import Helm
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.steering import Monitored, Options, Pin, Steer, Steering, Watch
from dynamos.middleware.views import SERVICES, agreements_of, background
from dynamos.model.agreements import Agreement, Relation
from dynamos.model.archetypes import Archetype
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request, User
from dynamos.model.services import Service
from dynamos.planning.planners import Choice, Pick, Question, Weights
from support.apis import ANN, BOB, MARKETPLACE, api
from support.apis import Service as Api

PLACES = ("monitor", "adaptation_options", "execute")
BASE = "/api/v1/adaptation"
AT_DATA = Archetype(name="computeToData", compute_provider="dataProvider", weight=100)
THROUGH = Archetype(name="dataThroughTtp", compute_provider="other", weight=200)
BOTH = ("computeToData", "dataThroughTtp")
PIN = Pin(request_type="sql", provider="UVA", archetype="dataThroughTtp", compute_provider="SURF")


# The HTTP side


def run(work, folder):
    async def inside():
        async with asyncio.timeout(20), api(folder) as rig:
            return await work(rig)

    return asyncio.run(inside())


def admin(rig):
    return rig.auth(admin_of=(MARKETPLACE,))


async def answers(rig):
    """Give every answer with its schema, as a strategy of UPISAS gets them."""
    found = {}
    for place in PLACES:
        schema = (await rig.client.get(f"{BASE}/{place}_schema", headers=admin(rig))).json()
        method, body = ("PUT", {"pins": [PIN.as_json()]}) if place == "execute" else ("GET", None)
        answer = await rig.client.request(method, f"{BASE}/{place}", json=body, headers=admin(rig))
        assert answer.status_code == 200, answer.text
        found[place] = (answer.json(), schema)
    return found


def test_every_answer_has_just_the_properties_of_its_schema_and_is_valid(tmp_path):
    for answer, schema in run(answers, tmp_path).values():
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(answer, schema)
        assert sorted(answer) == sorted(schema["properties"])  # UPISAS takes nothing else
        assert schema["type"] == "object"


def test_what_is_executed_is_answered_in_the_same_shape(tmp_path):
    async def work(rig):
        body = {"planner": "weights", "pins": [PIN.as_json()], "revision": 0}
        answer = await rig.client.put(f"{BASE}/execute", json=body, headers=admin(rig))
        again = await rig.client.put(f"{BASE}/execute", json=answer.json(), headers=admin(rig))
        return answer.json(), again.json(), rig.orchestrator.steers

    first, again, steers = run(work, tmp_path)
    assert (first["planner"], first["pins"], first["revision"]) == ("weights", [PIN.as_json()], 1)
    assert again == {**first, "revision": 2}
    assert all(steer.voucher for steer in steers)


@pytest.mark.parametrize("place", ["", *(f"/{p}{end}" for p in PLACES for end in ("", "_schema"))])
@pytest.mark.parametrize("of", [(), ("UVA",)])
def test_nobody_but_an_admin_of_the_marketplace_sees_or_sets_anything(tmp_path, place, of):
    async def work(rig):
        method = "PUT" if place == "/execute" else "GET"
        body = {"pins": []} if method == "PUT" else None
        known = await rig.client.request(method, f"{BASE}{place}", json=body, headers=rig.auth(admin_of=of))
        unknown = await rig.client.request(method, f"{BASE}{place}", json=body)
        return known, unknown, rig.orchestrator.steers

    known, unknown, steers = run(work, tmp_path)
    assert (known.status_code, known.json()["code"], unknown.status_code) == (403, "not-admin", 401)
    assert steers == []


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ([], "$"),
        ({"voucher": "x"}, "$.voucher"),
        ({"planer": "weights"}, "$.planer"),
        ({"pins": [{"provider": "UVA"}]}, "$.pins[0].archetype"),
        ({"pins": [{"provider": "U/A", "archetype": "a"}]}, "$.pins[0].provider"),
        ({"pins": {}}, "$.pins"),
        ({"plannerOptions": 3}, "$.plannerOptions"),
        ({"revision": -1}, "$.revision"),
        ({"planner": "x" * 64}, "$.planner"),
    ],
)
def test_what_cannot_be_set_is_told_with_its_path(tmp_path, body, where):
    async def work(rig):
        return await rig.client.put(f"{BASE}/execute", json=body, headers=admin(rig)), rig.orchestrator.steers

    answer, steers = run(work, tmp_path)
    assert answer.status_code == 400
    problem = answer.json()
    assert where in [problem.get("where"), *(mistake["where"] for mistake in problem.get("mistakes", []))]
    assert steers == []


def test_the_body_of_execute_has_the_members_of_its_answer():
    assert set(Steer.model_json_schema()["properties"]) - {"voucher"} == set(schema_of(Steering)["properties"])


# The orchestrator's side


async def until(what, holds):
    """Wait for it."""

    async def probe():
        return holds()

    await condition(what, probe, within=10.0)


class Rigged:
    """A helm over a knowledge base in memory."""

    def __init__(self, cluster, helm, kb):
        self.cluster, self.helm, self.kb = cluster, helm, kb

    async def records(self):
        return [each for each in await self.kb.log("audit").read() if each["event"] == "adaptation.steered"]


def agreement(party, archetypes=BOTH, computers=("SURF", "RUG"), **more):
    relation = Relation(
        request_types=("sql",),
        data_sets=("d",),
        allowed_archetypes=archetypes,
        allowed_compute_providers=computers,
        **more,
    )
    return Agreement(name=party, archetypes=archetypes, compute_providers=computers, relations={ANN: relation})


@asynccontextmanager
async def helm(tmp_path, *, agreements=None, adviser=None, cluster=None, services=()):
    cluster = cluster or MemoryCluster(("UVA", "VU", "RUG", "SURF"))
    kb = cluster.connect("orchestrator")
    store = kb.store("shared")
    for kind, value in [
        ("archetypes", AT_DATA),
        ("archetypes", THROUGH),
        ("requestTypes", RequestType(name="sql", required_services=("sql-query",))),
        *((SERVICES, service) for service in services),
    ]:
        await store.put(f"{kind}.{value.name}", value.as_json())
    for party, value in (
        agreements or {"UVA": agreement("UVA"), "VU": agreement("VU", ("computeToData",), ())}
    ).items():
        await agreements_of(cluster.connect(party), party).put(party, value)
    async with Presences(kb.store(PRESENCE), Presence) as presences:
        overview = Overview(kb, ("UVA", "VU", "RUG", "SURF"), presences)
        requestors = Requestors(tmp_path / "none.pem", open=True, clock=SystemClock())
        made = Helm(
            adviser or ByWeights(), kb=kb, overview=overview, requestors=requestors, marketplace=MARKETPLACE,
            clock=SystemClock(),
        )  # fmt: skip
        await made.load()
        async with background(*overview.works, *made.works):
            shared = overview.shared
            await until(
                "the marketplace in the view", lambda: len(overview.agreements) > 1 and bool(shared.request_types)
            )
            yield Rigged(cluster, made, kb)


def inside(tmp_path, work, **settings):
    async def go():
        async with asyncio.timeout(20), helm(tmp_path, **settings) as rigged:
            return await work(rigged)

    return asyncio.run(go())


def question(*choices):
    request = Request(type="sql", user=User(user_name=ANN), providers=("UVA",), query="SELECT 1")
    return Question(request, {"UVA": tuple(choices)}, None)


FREE = (Choice(AT_DATA, ("UVA",)), Choice(THROUGH, ("RUG", "SURF")))


def test_a_pin_holds_from_the_next_request_on_is_recorded_and_can_be_taken_back(tmp_path):
    async def work(rigged):
        before = rigged.helm.planner(question().request, "j1").pick(question(*FREE))
        set_now = await rigged.helm.steer(Steer(pins=(PIN,)))
        after = rigged.helm.planner(question().request, "j2").pick(question(*FREE))
        await rigged.helm.steer(Steer(pins=()))
        again = rigged.helm.planner(question().request, "j3").pick(question(*FREE))
        return before, set_now, after, again, await rigged.records()

    before, set_now, after, again, records = inside(tmp_path, work)
    assert before.archetypes == again.archetypes == {"UVA": "computeToData"}
    assert after == Pick({"UVA": "dataThroughTtp"}, {"UVA": "SURF"})
    assert set_now.pins == (PIN,)
    assert [record["after"].get("pins") for record in records] == [[PIN.as_json()], []]


def test_a_pin_that_is_not_permitted_to_who_asks_is_not_followed_and_the_plan_says_so(tmp_path):
    async def work(rigged):
        await rigged.helm.steer(Steer(pins=(PIN,)))
        advice = rigged.helm.planner(question().request, "j")
        pick = advice.pick(question(Choice(AT_DATA, ("UVA",))))
        elsewhere = rigged.helm.planner(question().request.model_copy(update={"type": "other"}), "k")
        return pick, advice.notes, elsewhere

    pick, notes, elsewhere = inside(tmp_path, work)
    assert pick.archetypes == {"UVA": "computeToData"}
    assert notes == ("the pin UVA: dataThroughTtp at SURF is not among what is permitted here and was not followed",)
    assert elsewhere.notes == ()


@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        ({"provider": "VU"}, Refused, "$.pins[0]"),
        ({"compute_provider": "VU"}, Refused, "$.pins[0]"),
        ({"archetype": "computeToData"}, Refused, "$.pins[0]"),
        ({"provider": "UVB"}, BadInput, "$.pins[0].provider"),
        ({"archetype": "dataThroughTpp"}, BadInput, "$.pins[0].archetype"),
        ({"request_type": "sqll"}, BadInput, "$.pins[0].requestType"),
        ({"compute_provider": "SURV"}, BadInput, "$.pins[0].computeProvider"),
    ],
)
def test_a_pin_that_no_agreement_permits_is_refused_and_nothing_changes(tmp_path, change, kind, where):
    async def work(rigged):
        with pytest.raises(kind) as refused:
            await rigged.helm.steer(Steer(pins=(PIN.model_copy(update=change),)))
        return refused.value, rigged.helm.steering, await rigged.records()

    error, steering, records = inside(tmp_path, work)
    assert error.where == where
    assert error.hint
    assert (steering, records) == (Steering(), [])


def test_pins_that_contradict_each_other_are_a_mistake(tmp_path):
    async def work(rigged):
        with pytest.raises(BadInput, match="same requests"):
            await rigged.helm.steer(Steer(pins=(PIN, PIN.model_copy(update={"request_type": ""}))))

    inside(tmp_path, work)


def test_options_are_what_agreements_leave_somebody_now(tmp_path):
    gone = datetime.now(UTC) - timedelta(days=1)
    agreements = {"UVA": agreement("UVA"), "VU": agreement("VU", valid_until=gone)}

    async def work(rigged):
        return await rigged.helm.options(Watch())

    options = inside(tmp_path, work, agreements=agreements)
    assert {(pin.provider, pin.archetype, pin.compute_provider) for pin in options.pins} == {
        ("UVA", "computeToData", "UVA"), ("UVA", "dataThroughTtp", "SURF"), ("UVA", "dataThroughTtp", "RUG"),
    }  # fmt: skip
    jsonschema.validate(options.as_json(), schema_of(Options))


def test_every_option_can_be_executed(tmp_path):
    async def work(rigged):
        for pin in (await rigged.helm.options(Watch())).pins:
            assert (await rigged.helm.steer(Steer(pins=(pin,)))).pins == (pin,)

    inside(tmp_path, work)


def test_a_service_that_may_not_run_under_an_archetype_leaves_no_pin(tmp_path):
    service = Service(name="sql-query", label="dataProvider", invalid_archetypes=("dataThroughTtp",))

    async def work(rigged):
        return await rigged.helm.options(Watch())

    assert {pin.archetype for pin in inside(tmp_path, work, services=(service,)).pins} == {"computeToData"}


def test_what_is_set_survives_a_restart_and_reaches_other_orchestrators(tmp_path):
    async def go():
        cluster = MemoryCluster(("UVA", "VU", "RUG", "SURF"))
        async with (
            asyncio.timeout(20),
            helm(tmp_path, cluster=cluster) as one,
            helm(tmp_path, cluster=cluster) as other,
        ):
            first = await one.helm.steer(Steer(pins=(PIN,)))
            await until("the other one follows", lambda: other.helm.steering == first)
            second = await other.helm.steer(Steer(pins=()))
            await until("the first one follows", lambda: one.helm.steering == second)
            third = await one.helm.steer(Steer(pins=(PIN,), revision=second.revision))
            with pytest.raises(Conflict):
                await one.helm.steer(Steer(pins=(), revision=second.revision))
        async with asyncio.timeout(20), helm(tmp_path, cluster=cluster) as later:
            return third, later.helm.steering

    third, later = asyncio.run(go())
    assert later == third
    assert later.pins == (PIN,)


def test_the_monitor_tells_who_is_there_and_which_agreement_holds(tmp_path):
    async def work(rigged):
        kb = rigged.cluster.connect("SURF")
        there = Presence(party="SURF", instance="1", address="x", active_since="now", config_updated="now")
        async with announce(kb.store(PRESENCE), "SURF.1", there):
            await until("SURF is there", lambda: "SURF" in rigged.helm._overview.online())
            return await rigged.helm.monitor(Watch())

    seen = inside(tmp_path, work)
    assert {name: party.online for name, party in seen.parties.items()} == {
        "UVA": False, "VU": False, "RUG": False, "SURF": True,
    }  # fmt: skip
    assert seen.parties["UVA"].agreement > 0
    jsonschema.validate(seen.as_json(), schema_of(Monitored))


class Changeable(ByWeights):
    """An adviser with a second planner, which knows one option."""

    def __init__(self):
        self.planners = {"weights": {}, "last": {"type": "object"}}
        self.used = []

    def use(self, planner, options):
        if set(options) - {"pace"}:
            raise BadInput("no such option", where="$.plannerOptions")
        self.used.append((planner, dict(options)))

    def monitored(self):
        return {"parties": {"SURF": {"parts": 3}}, "links": {"UVA>SURF": {"rate": 1.0}}, "symptoms": [{"kind": "gone"}]}


def test_another_planner_is_used_and_one_that_there_is_not_is_a_mistake(tmp_path):
    adviser = Changeable()

    async def work(rigged):
        await rigged.helm.steer(Steer(planner="last", planner_options={"pace": 2}))
        for wrong in [
            Steer(planner="lost"),
            Steer(planner_options={"speed": 1}),
            Steer(planner="", planner_options={"a": 1}),
        ]:
            with pytest.raises(BadInput):
                await rigged.helm.steer(wrong)
        kept = rigged.helm.steering
        await rigged.helm.steer(Steer(planner=""))
        return kept, await rigged.helm.monitor(Watch())

    kept, seen = inside(tmp_path, work, adviser=adviser)
    assert (kept.planner, kept.planner_options) == ("last", {"pace": 2})
    assert adviser.used[-1] == ("", {})
    assert ("last", {"pace": 2}) in adviser.used
    assert (seen.parties["SURF"].load, seen.links, seen.symptoms) == (
        {"parts": 3}, {"UVA>SURF": {"rate": 1.0}}, ({"kind": "gone"},),
    )  # fmt: skip


def test_who_is_no_admin_is_refused_by_the_orchestrator_too(tmp_path):
    async def work(rigged):
        rigged.helm._requestors = Requestors(tmp_path / "none.pem", open=False, clock=SystemClock())
        for ask in (
            rigged.helm.steer(Steer(pins=())), rigged.helm.monitor(Watch()), rigged.helm.options(Watch(voucher="x")),
        ):  # fmt: skip
            with pytest.raises(Refused):
                await ask

    inside(tmp_path, work)


def test_weights_is_what_there_is_without_an_adviser_that_can_be_changed(tmp_path):
    async def work(rigged):
        return await rigged.helm.options(Watch())

    assert inside(tmp_path, work).planner == (Weights.name,)


def test_the_strategy_on_the_page_runs_as_printed(tmp_path):
    page = Path(dynamos.__file__).parents[1] / "docs" / "how-to" / "adapt-from-outside.md"
    script = tmp_path / "strategy.py"
    script.write_text(re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1])

    async def work():
        service = Api(tmp_path / "api")
        pin = PIN.model_copy(update={"request_type": "sqlDataRequest"})
        there = Options(planner=("weights",), planner_options={"weights": {}}, pins=(pin,))

        async def options(_):
            return there

        service.orchestrator.options = options
        running = asyncio.create_task(service.run())
        address = await service.address
        token = service.issuer.token(BOB, ttl=60, audience=MARKETPLACE, admin_of=(MARKETPLACE,))
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, script, address, token, "UVA"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        service.stopped.set()
        await running
        return done, service.orchestrator.steering

    done, steering = asyncio.run(work())
    assert (done.returncode, done.stdout) == (0, "UVA computes at SURF\n"), done.stderr
    assert [pin.compute_provider for pin in steering.pins] == ["SURF"]
