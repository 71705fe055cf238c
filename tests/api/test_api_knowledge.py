"""The knowledge paths: upstream's JSON, real statuses, revisions, and only admins who write."""

from __future__ import annotations

import asyncio

import pytest

from support.apis import ANN, BOB, MARKETPLACE, api

ARCHETYPE = {"name": "computeToData", "computeProvider": "dataProvider", "resultRecipient": "requestor", "weight": 100}
RELATION = {
    "ID": "GUID",
    "requestTypes": ["sqlDataRequest"],
    "dataSets": ["wageGap"],
    "allowedArchetypes": ["computeToData"],
    "allowedComputeProviders": ["SURF"],
}
AGREEMENT = {
    "name": "UVA",
    "relations": {ANN: RELATION, BOB: RELATION},
    "computeProviders": ["SURF"],
    "archetypes": ["computeToData"],
}
SERVICE = {"name": "sql-query", "label": "dataProvider", "allowedOutputs": ["sql-algorithm"]}
DATA_SET = {
    "name": "wageGap",
    "type": "csv",
    "delimiter": ";",
    "tables": {"Personen": {"columns": {"Id": {"type": "INT"}}}},
}


def run(work, folder, **settings):
    async def inside():
        async with asyncio.timeout(20), api(folder, **settings) as rig:
            rig.orchestrator.values = {
                "archetypes": {"computeToData": (ARCHETYPE, 7)},
                "requestTypes": {"sqlDataRequest": ({"name": "sqlDataRequest"}, 2)},
                "microservices": {"sql-query": (SERVICE, 1)},
                "policyEnforcer": {"UVA": (AGREEMENT, 3)},
                "datasets": {f"{party}.wageGap": ({"party": party, **DATA_SET}, 0) for party in ("UVA", "VU")},
                "parties": {"UVA": ({"name": "UVA", "online": True}, 0)},
            }
            return await work(rig)

    return asyncio.run(inside())


def admin(rig, *of):
    return rig.auth(admin_of=of or (MARKETPLACE,))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("archetypes", [ARCHETYPE]),
        ("archetypes/computeToData", ARCHETYPE),
        ("requestTypes/sqlDataRequest", {"name": "sqlDataRequest"}),
        ("requesttypes", [{"name": "sqlDataRequest"}]),
        ("requesttypes/sqlDataRequest", {"name": "sqlDataRequest"}),
        ("microservices/sql-query", SERVICE),
        ("microservices/sql-query/chainMetadata", SERVICE),
        ("parties", [{"name": "UVA", "online": True}]),
    ],
)
def test_values_are_read_under_upstreams_paths(tmp_path, path, expected):
    async def work(rig):
        return await rig.client.get(f"/api/v1/{path}", headers=rig.auth())

    answer = run(work, tmp_path)
    assert answer.status_code == 200
    assert answer.json() == expected


def test_data_sets_have_upstreams_form_and_the_columns_beside_it(tmp_path):
    async def work(rig):
        listed = await rig.client.get("/api/v1/datasets", headers=rig.auth())
        one = await rig.client.get("/api/v1/datasets/wageGap", headers=rig.auth())
        none = await rig.client.get("/api/v1/datasets/wageGaps", headers=rig.auth())
        return listed.json(), one.json(), none

    listed, one, none = run(work, tmp_path)
    assert listed == [one]
    assert (one["type"], one["delimiter"], one["tables"]) == ("csv", ";", ["Personen"])
    assert one["parties"]["VU"]["Personen"] == {"Id": {"type": "INT"}}
    assert none.status_code == 404
    assert "wageGap" in none.json()["hint"]


def test_what_is_not_there_is_404_with_near_names(tmp_path):
    async def work(rig):
        return await rig.client.get("/api/v1/archetypes/computeToDat", headers=rig.auth())

    answer = run(work, tmp_path)
    assert answer.status_code == 404
    assert "computeToData" in answer.json()["hint"]


def test_put_keeps_upstreams_answer_and_adds_the_revision(tmp_path):
    async def work(rig):
        body = {**ARCHETYPE, "weight": 300}
        answer = await rig.client.put("/api/v1/archetypes", json=body, headers=admin(rig))
        looked = await rig.client.get("/api/v1/archetypes/computeToData", headers=rig.auth())
        return answer, looked, rig.orchestrator.changes

    answer, looked, changes = run(work, tmp_path)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert answer.headers["etag"] == looked.headers["etag"] == '"8"'
    assert looked.json()["weight"] == 300
    assert changes[0].voucher


def test_revisions_keep_changes_from_overwriting_each_other(tmp_path):
    async def work(rig):
        async def put(**headers):
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            return await rig.client.put(
                "/api/v1/archetypes/computeToData", json=ARCHETYPE, headers={**admin(rig), **headers}
            )

        fresh = {**ARCHETYPE, "name": "fresh"}
        return [
            (await put(if_match='"6"')).status_code,
            (await put(if_none_match="*")).status_code,
            (await put(if_match='"x"')).status_code,
            (await put(if_match='"7"')).status_code,
            (await put(if_match='"7"')).status_code,
            (await put(if_match="*")).status_code,
            (
                await rig.client.put("/api/v1/archetypes", json=fresh, headers={**admin(rig), "if-match": "*"})
            ).status_code,
            (
                await rig.client.put("/api/v1/archetypes", json=fresh, headers={**admin(rig), "if-none-match": "*"})
            ).status_code,
        ]

    assert run(work, tmp_path) == [412, 412, 400, 200, 412, 200, 412, 200]


def test_a_value_that_has_not_changed_is_304(tmp_path):
    async def work(rig):
        path = "/api/v1/archetypes/computeToData"
        return await rig.client.get(path, headers={**rig.auth(), "if-none-match": '"1", W/"7"'})

    assert run(work, tmp_path).status_code == 304


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("archetypes", {"computeProvider": "other"}, "$.name"),
        ("archetypes", {**ARCHETYPE, "weigth": 1}, "$.weigth"),
        ("archetypes", {**ARCHETYPE, "computeProvider": "moon"}, "$.computeProvider"),
        ("archetypes/other", ARCHETYPE, "$.name"),
        ("microservices", {**SERVICE, "label": 5}, "$.label"),
        ("policyEnforcer/UVA", {**AGREEMENT, "relations": {ANN: {"dataset": []}}}, "$.relations['ann@uva.nl'].dataset"),
        ("policyEnforcer/UVA", [], "$"),
    ],
)
def test_what_is_not_such_a_value_is_told_with_its_path(tmp_path, path, body, where):
    async def work(rig):
        answer = await rig.client.put(f"/api/v1/{path}", json=body, headers=admin(rig, MARKETPLACE, "UVA"))
        return answer, rig.orchestrator.changes

    answer, changes = run(work, tmp_path)
    assert answer.status_code == 400
    problem = answer.json()
    assert where in [problem.get("where"), *(mistake["where"] for mistake in problem.get("mistakes", []))]
    assert changes == []


def test_delete_removes_and_a_second_one_finds_nothing(tmp_path):
    async def work(rig):
        path = "/api/v1/archetypes/computeToData"
        return [(await rig.client.delete(path, headers=admin(rig))).status_code for _ in range(2)]

    assert run(work, tmp_path) == [204, 404]


@pytest.mark.parametrize(
    ("call", "body", "of", "status"),
    [
        ("PUT archetypes", ARCHETYPE, (), 403),
        ("PUT archetypes", ARCHETYPE, ("UVA",), 403),
        ("PUT microservices", {**SERVICE, "command": ["/bin/sh"]}, ("UVA",), 403),
        ("DELETE archetypes/computeToData", None, ("UVA",), 403),
        ("PUT policyEnforcer", AGREEMENT, ("VU",), 403),
        ("PUT policyEnforcer", AGREEMENT, (MARKETPLACE,), 403),
        ("PUT policyEnforcer", AGREEMENT, ("UVA",), 200),
        ("PUT policyEnforcer/agreements/UVA", AGREEMENT, ("UVA",), 200),
        ("PUT policyEnforcer", {"name": "NOBODY"}, ("NOBODY",), 404),
        ("DELETE policyEnforcer/UVA", None, ("UVA",), 204),
        ("DELETE policyEnforcer/agreements/UVA", None, (), 403),
    ],
)
def test_only_admins_write(tmp_path, call, body, of, status):
    async def work(rig):
        method, path = call.split()
        headers = rig.auth(admin_of=of)
        answer = await rig.client.request(method, f"/api/v1/{path}", json=body, headers=headers)
        return answer, rig.orchestrator.changes

    answer, changes = run(work, tmp_path)
    assert answer.status_code == status
    assert len(changes) == (status < 400)


@pytest.mark.parametrize("path", ["policyEnforcer", "policyEnforcer/UVA", "policyEnforcer/agreements/UVA"])
def test_of_an_agreement_everybody_sees_what_is_about_themselves(tmp_path, path):
    async def work(rig):
        found = []
        for headers in (rig.auth(ANN), rig.auth("eve@x.org"), admin(rig, "UVA"), admin(rig, "VU")):
            body = (await rig.client.get(f"/api/v1/{path}", headers=headers)).json()
            found.append(sorted((body[0] if isinstance(body, list) else body)["relations"]))
        return found

    assert run(work, tmp_path) == [[ANN], [], [ANN, BOB], [ANN]]


def test_the_open_mode_lets_everything_through_as_upstream_does(tmp_path):
    async def work(rig):
        return (
            await rig.client.put("/api/v1/policyEnforcer", json=AGREEMENT),
            await rig.client.get("/api/v1/policyEnforcer/agreements/UVA"),
        )

    put, got = run(work, tmp_path, open=True)
    assert (put.status_code, put.text, put.headers["dynamos-mode"]) == (200, "OK", "open")
    assert sorted(got.json()["relations"]) == [ANN, BOB]
