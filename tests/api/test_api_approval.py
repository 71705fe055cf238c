"""Upstream's one call: its JSON in, its JSON out, and what upstream left out beside it."""

from __future__ import annotations

import asyncio
import json

import pyarrow as pa
import pytest

from dynamos.kit.errors import BadInput, JobFailed, NotFound, Refused, TimedOut, Unauthenticated, Unavailable
from dynamos.middleware.messages import CancelJob
from support.apis import ANN, BOB, api, upstream
from support.orchestrators import Script

RECORD = pa.schema(
    [("avg_salary_scale_men", pa.string()), ("avg_salary_scale_women", pa.string())],
    metadata={"dynamos.shape": "record"},
)
AVERAGE = pa.table([["11.877"], ["10.597"]], schema=RECORD)
ROWS = pa.table({"Unieknr": [1, 2], "Naam": ['a "b"', None]})


def call(folder, script, *, body=None, headers=None, **settings):
    """Post one request and give the answer and the scripted orchestrator."""

    async def work():
        async with api(folder, **settings) as rig:
            rig.orchestrator.script = script
            answer = await rig.client.post(
                "/api/v1/requestApproval", json=body or upstream(), headers=headers or rig.auth()
            )
            return answer, rig.orchestrator

    return asyncio.run(work())


def test_upstreams_request_gets_upstreams_answer(tmp_path):
    answer, orchestrator = call(tmp_path, Script(tables={"VU": AVERAGE, "UVA": ROWS}))
    assert answer.status_code == 200
    body = answer.json()
    assert list(body)[:2] == ["jobId", "responses"]
    assert body["jobId"] == orchestrator.submissions[0].job
    assert body["responses"] == [
        '{"avg_salary_scale_men":"11.877","avg_salary_scale_women":"10.597"}',
        '[["Unieknr","Naam"],["1","a \\"b\\""],["2",""]]',
    ]
    assert answer.text.startswith('{\n    "jobId": ')
    assert body["timings"]["total_ms"] > 0


@pytest.mark.parametrize("providers", [("VU", "UVA"), ("UVA", "VU")])
def test_responses_come_in_the_order_of_the_request(tmp_path, providers):
    tables = {name: pa.table({"party": [name]}) for name in providers}
    answer, _ = call(tmp_path, Script(tables=tables), body=upstream(providers=providers))
    body = answer.json()
    assert [json.loads(text)[1] for text in body["responses"]] == [[name] for name in providers]
    assert [(entry["party"], entry["response"]) for entry in body["results"]] == [
        (name, number) for number, name in enumerate(providers)
    ]


def test_through_a_third_party_there_is_one_response(tmp_path):
    answer, _ = call(tmp_path, Script(through="SURF", tables={"SURF": AVERAGE}))
    body = answer.json()
    assert len(body["responses"]) == 1
    assert body["results"][0]["providers"] == ["VU", "UVA"]
    assert body["archetypes"] == {"VU": "dataThroughTtp", "UVA": "dataThroughTtp"}
    assert body["providers"]["UVA"]["computeProvider"] == "SURF"


def test_a_chart_is_its_media_type_and_its_picture(tmp_path):
    schema = pa.schema([("media_type", pa.string()), ("data", pa.string())], metadata={"dynamos.shape": "chart"})
    chart = pa.table([["image/svg+xml"], ["<svg/>"]], schema=schema)
    answer, _ = call(tmp_path, Script(tables={"VU": chart}), body=upstream(providers=("VU",)))
    assert json.loads(answer.json()["responses"][0]) == {"mediaType": "image/svg+xml", "data": "<svg/>"}


def test_a_refused_provider_is_named_with_its_reasons(tmp_path):
    answer, _ = call(tmp_path, Script(refused={"RUG": "no relation"}), body=upstream(providers=("RUG", "VU")))
    body = answer.json()
    assert answer.status_code == 200
    assert body["providers"]["RUG"]["outcome"] == "refused"
    assert body["providers"]["RUG"]["reasons"][0]["message"] == "no relation"
    assert body["providers"]["VU"]["outcome"] == "answered"
    assert body["decision"]["refused"] == ["RUG"]
    assert answer.headers["dynamos-providers"] == "RUG=refused, VU=answered"


def test_a_failed_provider_is_named_and_leaves_no_empty_response(tmp_path):
    failed = {"UVA": JobFailed("the service crashed", where="UVA", code="crashed")}
    answer, _ = call(tmp_path, Script(failed=failed, tables={"VU": AVERAGE}))
    body = answer.json()
    assert answer.status_code == 200
    assert len(body["responses"]) == 1
    assert body["state"] == "partial"
    assert body["providers"]["UVA"]["outcome"] == "failed"
    assert body["providers"]["UVA"]["error"]["code"] == "crashed"
    assert "response" not in next(entry for entry in body["results"] if entry["party"] == "UVA")


def test_a_result_that_breaks_off_does_not_count(tmp_path):
    script = Script(failed={"UVA": JobFailed("it crashed", where="UVA")}, cut=frozenset({"UVA"}))
    answer, _ = call(tmp_path, script)
    body = answer.json()
    assert [entry["status"] for entry in body["results"]] == ["complete", "failed"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (JobFailed("it crashed", code="crashed"), 502, "crashed"),
        (TimedOut("too slow", code="deadline"), 504, "deadline"),
        (Unavailable("gone"), 503, "unavailable"),
        (Unauthenticated("the grant expired", code="grant-expired"), 504, "grant-expired"),
        (Unauthenticated("forged", code="grant-forged"), 502, "grant-forged"),
        (NotFound("nobody waits"), 502, "not-found"),
        (BadInput("cannot run", code="query-invalid"), 400, "query-invalid"),
        (Refused("revoked"), 403, "refused"),
    ],
)
def test_a_job_without_any_result_is_no_success(tmp_path, error, status, code):
    answer, _ = call(tmp_path, Script(failed={"UVA": error, "VU": error}))
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code
    assert problem["providers"]["VU"]["outcome"] == "failed"
    assert problem["links"]["trace"].startswith("/api/v1/jobs/")


def test_a_refusal_is_403_with_reasons_not_a_crash(tmp_path):
    answer, _ = call(tmp_path, Script(refused={"UVA": "no relation", "VU": "expired"}))
    assert answer.status_code == 403
    problem = answer.json()
    assert problem["code"] == "refused"
    assert [reason["message"] for reason in problem["reasons"]] == ["expired", "no relation"]


def test_results_that_come_before_the_orchestrators_answer_count(tmp_path):
    early, _ = call(tmp_path / "early", Script(early=True))
    late, _ = call(tmp_path / "late", Script(early=False))
    assert early.json()["responses"] == late.json()["responses"]


def test_concurrent_requests_of_one_user_do_not_mix(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            rig.orchestrator.script = Script(tables={name: pa.table({"party": [name]}) for name in ("UVA", "VU")})

            async def ask(number):
                provider = ("UVA", "VU")[number % 2]
                answer = await rig.client.post(
                    "/api/v1/requestApproval", json=upstream(providers=(provider,)), headers=rig.auth()
                )
                return provider, answer.json()

            return await asyncio.gather(*(ask(number) for number in range(16)))

    answers = asyncio.run(work())
    assert len({body["jobId"] for _, body in answers}) == 16
    for provider, body in answers:
        assert json.loads(body["responses"][0]) == [["party"], [provider]]


def test_a_client_that_goes_away_cancels_its_job(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            rig.orchestrator.script = Script(hold=asyncio.Event())
            async with asyncio.timeout(10):
                await gone_while_running(rig)
            return rig.orchestrator, rig.desk.results.all(), rig.desk.results.store.in_memory

    orchestrator, left, memory = asyncio.run(work())
    assert orchestrator.cancelled == [CancelJob(job=orchestrator.submissions[0].job, reason="the client went away")]
    assert left == []
    assert memory == 0


async def gone_while_running(rig):
    """Post a request as a client that hangs up once its job runs."""
    sent = []
    body = json.dumps(upstream()).encode()

    async def receive():
        if not sent:
            sent.append(True)
            return {"type": "http.request", "body": body, "more_body": False}
        await rig.orchestrator.submitted.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    header = rig.auth()["authorization"].encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/requestApproval",
        "raw_path": b"/api/v1/requestApproval",
        "query_string": b"",
        "headers": [(b"authorization", header), (b"host", b"api")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("api", 80),
        "client": ("127.0.0.1", 1),
        "asgi": {"version": "3.0", "spec_version": "2.3"},
    }
    await rig.app(scope, receive, send)
    await rig.orchestrator.until_cancelled()


def test_an_orchestrator_that_is_away_is_503(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            await rig.orchestrator.kb.close()
            return await rig.client.post("/api/v1/requestApproval", json=upstream(), headers=rig.auth())

    answer = asyncio.run(work())
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"


def test_two_users_see_only_their_own_answers(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            rig.orchestrator.scripts = {user: Script(tables={"UVA": pa.table({"user": [user]})}) for user in (ANN, BOB)}
            asks = [
                rig.client.post(
                    "/api/v1/requestApproval", json=upstream(user, providers=("UVA",)), headers=rig.auth(user)
                )
                for user in (ANN, BOB)
            ]
            return [answer.json()["responses"][0] for answer in await asyncio.gather(*asks)]

    assert asyncio.run(work()) == [f'[["user"],["{ANN}"]]', f'[["user"],["{BOB}"]]']


def test_members_are_read_in_any_letter_case_and_the_user_may_be_left_out(tmp_path):
    body = {"TYPE": "sqlDataRequest", "DataProviders": ["UVA"], "dataRequest": {"Query": "SELECT 1", "OPTIONS": None}}
    answer, orchestrator = call(tmp_path, Script(), body=body)
    assert answer.status_code == 200
    request = orchestrator.submissions[0].request
    assert (request.query, request.user.user_name, request.user.id) == ("SELECT 1", ANN, ANN)
