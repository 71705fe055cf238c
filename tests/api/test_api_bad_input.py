"""Bad input gets one clear answer: where it is, what is wrong, what to do."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from dynamos.kit.errors import BadInput
from dynamos.middleware.api import bodies
from support.apis import ANN, api, upstream
from support.orchestrators import Script


def post(folder, *, content=None, body=None, headers=None, path="/api/v1/requestApproval", **settings):
    async def work():
        async with asyncio.timeout(20), api(folder, **settings) as rig:
            rig.orchestrator.script = Script()
            given = content if content is not None else json.dumps(body).encode()
            answer = await rig.client.post(path, content=given, headers={**rig.auth(), **(headers or {})})
            return answer, rig.orchestrator.submissions

    answer, submissions = asyncio.run(work())
    assert submissions == []
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == f"urn:dynamos:error:{problem['code']}"
    assert problem["title"]
    assert problem["instance"] == path.partition("?")[0]
    return problem


BROKEN = [
    (b"", "is empty"),
    (b"  \n", "is empty"),
    (b"{", "not JSON"),
    (b'{"a": 1,}', "not JSON"),
    (b"\xff\xfe", "not UTF-8"),
    (b'{"a": NaN}', "NaN"),
    (b'{"a": -Infinity}', "Infinity"),
    (b'{"a": 1e999}', "too large"),
    (b'{"a": %s}' % (b"9" * 5000), "too long"),
    (b'{"a": 1, "a": 2}', "given twice"),
    (b'{"a": "\\ud800"}', "lone surrogate"),
    (b"[" * 500_000, "nested deeper"),
    (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper"),
    (b'"' + b'\\"' * 300_000, "not JSON"),
    (b"5", "not an object"),
    (b"[]", "not an object"),
    (b"null", "not an object"),
]


@pytest.mark.parametrize(("content", "says"), BROKEN, ids=[says + str(len(content)) for content, says in BROKEN])
def test_what_is_not_a_json_object_is_400(tmp_path, content, says):
    problem = post(tmp_path, content=content)
    assert problem["status"] == 400
    assert says in problem["detail"]


def test_json_that_is_wrong_says_where(tmp_path):
    problem = post(tmp_path, content=b'{"type": "x",\n  "user" 5}')
    assert problem["where"] == "line 2, column 10"


def test_a_body_that_is_too_large_is_413(tmp_path):
    assert post(tmp_path, content=b'"' + b"x" * bodies.LIMIT_BYTES + b'"')["status"] == 413


@pytest.mark.parametrize("media", ["application/xml", "multipart/form-data; boundary=x", "image/png"])
def test_a_body_of_another_kind_is_415(tmp_path, media):
    assert post(tmp_path, body=upstream(), headers={"content-type": media})["status"] == 415


def without(name):
    body = upstream()
    del body[name]
    return body


def inner(**changes):
    body = upstream()
    body["data_request"].update(changes)
    return body


WRONG = [
    (without("data_request"), "$.data_request", "missing", ""),
    (without("type") | {"data_request": {"query": "SELECT 1"}}, "$.type", "missing", ""),
    (without("dataProviders"), "$.dataProviders", "missing", ""),
    (upstream(dataProvider=["UVA"]), "$.dataProvider", "unknown", "dataProviders"),
    (upstream(providers=("UVA",)) | {"providers": ["UVA"]}, "$.providers", "unknown", "dataProviders"),
    (inner(qurey="SELECT 1"), "$.data_request.qurey", "unknown", "query"),
    (inner(query=5), "$.data_request.query", "expected a text", ""),
    (inner(options={"graph": "yes"}), "$.data_request.options.graph", "true or false", ""),
    (inner(options=[]), "$.data_request.options", "expected a mapping", ""),
    (inner(algorithmColumns={"a": 1}), "$.data_request.algorithmColumns.a", "expected a text", ""),
    (inner(type="genericRequest"), "$.data_request.type", "sqlDataRequest", ""),
    (inner(Query="SELECT 2"), "$.data_request.Query", "given twice", ""),
    (upstream(providers=()), "$.dataProviders", "at least 1", ""),
    (upstream(providers=("UVA", "UVA")), "$.dataProviders", "named twice", ""),
    (upstream(dataProviders=["a b"]), "$.dataProviders[0]", "a name has", ""),
    (upstream() | {"user": "ann"}, "$.user", "expected an object", ""),
    (upstream() | {"user": {"username": ANN, "mail": "x"}}, "$.user.mail", "unknown", ""),
    (upstream() | {"user": {"userName": 5}}, "$.user.userName", "expected a text", ""),
    (upstream(deadline="soon"), "$.deadline", "not a duration", ""),
    (upstream(deadline=-1), "$.deadline", "not a", ""),
    (upstream(type=None, data_request={"query": "x"}), "$.type", "missing", ""),
    (
        {"type": "t", "providers": ["UVA"], "query": "q", "algorithmcolumn": {}},
        "$.algorithmcolumn",
        "unknown",
        "algorithm",
    ),
]


@pytest.mark.parametrize(("body", "where", "says", "hint"), WRONG, ids=[f"{w} {s}" for _, w, s, _ in WRONG])
def test_every_wrong_member_is_told_with_its_path(tmp_path, body, where, says, hint):
    problem = post(tmp_path, body=body)
    assert problem["status"] == 400
    told = {mistake["where"]: mistake for mistake in problem["mistakes"]}
    assert where in told
    assert says in told[where]["message"]
    assert hint in told[where]["hint"]


def test_all_mistakes_are_told_at_once(tmp_path):
    problem = post(tmp_path, body=inner(qurey="x", query=5) | {"userr": {}})
    assert {mistake["where"] for mistake in problem["mistakes"]} == {
        "$.userr",
        "$.data_request.qurey",
        "$.data_request.query",
    }


@pytest.mark.parametrize("query", ["wait=soon", "wait=-1", "wait=nan", "wait=5parsecs"])
def test_a_wait_that_is_no_time_is_400(tmp_path, query):
    problem = post(tmp_path, body=upstream(), path=f"/api/v1/jobs?{query}")
    assert (problem["status"], problem["where"]) == (400, "wait")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/requestApproval", 405),
        ("PATCH", "/api/v1/jobs", 405),
        ("PUT", "/api/v1/datasets", 405),
        ("GET", "/api/v1/jobs?limit=0", 400),
        ("GET", "/api/v1/jobs?state=asleep", 400),
        ("GET", "/api/v1/jobs/none", 404),
        ("GET", "/api/v1/jobs/none/result", 404),
        ("GET", "/api/v1/archetypes/none", 404),
        ("GET", "/api/v1/updateEtc", 410),
    ],
)
def test_wrong_paths_methods_and_parameters_are_problems(tmp_path, method, path, status):
    async def work():
        async with api(tmp_path) as rig:
            return await rig.client.request(method, path, headers=rig.auth())

    answer = asyncio.run(work())
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    if status == 405:
        assert answer.headers["allow"]


def test_a_trailing_slash_changes_nothing(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            return await rig.client.get("/api/v1/archetypes/", headers=rig.auth())

    assert asyncio.run(work()).status_code == 200


def test_a_defect_is_a_problem_without_what_it_knew(tmp_path, caplog):
    async def work():
        async with api(tmp_path) as rig:

            async def broken(*_):
                raise ZeroDivisionError("secret")

            rig.desk.orchestrator.look = broken
            return await rig.client.get("/api/v1/archetypes", headers=rig.auth())

    answer = asyncio.run(work())
    assert answer.status_code == 500
    assert answer.json()["code"] == "broken"
    assert "secret" not in answer.text
    assert "secret" in caplog.text


def test_a_body_that_never_comes_is_408(tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)

    async def never():
        yield b"{"
        await asyncio.Event().wait()

    async def work():
        async with api(tmp_path) as rig:
            request = httpx.Request("POST", "http://api", headers=rig.auth())
            return await slow(rig, request.headers.raw)

    assert asyncio.run(work()) == 408


async def slow(rig, headers):
    """Post a body that begins and then stalls."""
    told = []
    began = []

    async def receive():
        if began:
            await asyncio.Event().wait()
        began.append(True)
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def send(message):
        told.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/check", "raw_path": b"/api/v1/check", "query_string": b"",
        "headers": [(name.lower(), value) for name, value in headers], "http_version": "1.1", "scheme": "http",
        "server": ("api", 80), "client": ("127.0.0.1", 1), "asgi": {"version": "3.0", "spec_version": "2.3"},
    }  # fmt: skip
    await rig.app(scope, receive, send)
    return told[0]["status"]


def test_a_parser_bomb_is_refused_in_no_time():
    for bomb in (b'"' + b'\\"' * 500_000, b"[" * 1_000_000, b'{"a":' * 200_000, b'"' * 1_000_001):
        with pytest.raises(BadInput):
            bodies.parse(bomb)
