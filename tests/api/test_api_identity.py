"""Who may ask for what: tokens, other users' names, and the open mode that says loudly what it is."""

from __future__ import annotations

import asyncio
import logging

import pytest

from dynamos.kit.clocks import SystemClock
from dynamos.middleware.api import main
from dynamos.middleware.api.callers import callers_of
from dynamos.middleware.identity import vouchers
from dynamos.middleware.identity.oidc import OidcVerifier
from dynamos.middleware.identity.tokens import DevelopmentIssuer
from support.apis import ANN, BOB, MARKETPLACE, api, config, upstream

FREE = {"/", "/healthz", "/readyz", "/openapi.json", "/.well-known/jwks.json"}


def run(work, folder, **settings):
    async def inside():
        async with asyncio.timeout(20), api(folder, **settings) as rig:
            return await work(rig)

    return asyncio.run(inside())


def paths(app):
    """Give every method and path that the API describes, with something for its parameters."""
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path.replace("{job}", "x").replace("{name}", "UVA")


def test_everything_but_health_and_openapi_needs_a_token(tmp_path):
    async def work(rig):
        return [
            (path, (await rig.client.request(method, path, json=upstream())).status_code)
            for method, path in [*paths(rig.app), ("GET", "/openapi.json"), ("POST", "/api/v1/updateEtc")]
        ]

    for path, status in run(work, tmp_path):
        assert (status == 401) == (path not in FREE), path


def bad_tokens(rig, folder):
    other = DevelopmentIssuer.create(folder / "other")
    good = rig.auth()["authorization"]
    return {
        "none": "",
        "1234": "bearer 1234",
        "basic": "Basic YTpi",
        "expired": rig.auth(ttl=-60)["authorization"],
        "another key": f"Bearer {other.token(ANN, ttl=60, audience=MARKETPLACE)}",
        "another audience": f"Bearer {rig.issuer.token(ANN, ttl=60, audience='aviation')}",
        "changed": good[:-8] + ("A" * 8),
        "not ascii": "Bearer ü.ü.ü",
        "long": f"Bearer {'a' * 20000}.b.c",
    }


def test_a_token_that_does_not_hold_is_401(tmp_path):
    async def work(rig):
        found = {}
        for name, value in bad_tokens(rig, tmp_path).items():
            headers = {"authorization": value.encode()} if value else {}
            found[name] = await rig.client.post("/api/v1/requestApproval", json=upstream(), headers=headers)
        return found, rig.orchestrator.submissions

    answers, submissions = run(work, tmp_path)
    for name, answer in answers.items():
        assert answer.status_code == 401, name
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"].startswith("token-"), name
    assert submissions == []


def test_a_request_in_somebody_elses_name_is_403(tmp_path):
    async def work(rig):
        answer = await rig.client.post("/api/v1/requestApproval", json=upstream(BOB), headers=rig.auth(ANN))
        return answer, rig.orchestrator.submissions

    answer, submissions = run(work, tmp_path)
    assert (answer.status_code, answer.json()["code"]) == (403, "other-user")
    assert submissions == []


def test_the_token_stays_here_and_a_voucher_for_just_this_request_goes_on(tmp_path):
    async def work(rig):
        headers = rig.auth()
        await rig.client.post("/api/v1/jobs", json=upstream(), headers=headers)
        return headers["authorization"], rig.orchestrator.submissions[0]

    token, submission = run(work, tmp_path)
    assert token.removeprefix("Bearer ") not in submission.model_dump_json()
    certificate = tmp_path / "certificates" / "units" / "api" / "certificate.pem"
    purpose = vouchers.to_run(submission.job, submission.request)
    assert vouchers.verify(submission.voucher, certificate, purpose=purpose, clock=SystemClock()).user == ANN
    assert submission.request.user.id == ANN


@pytest.mark.parametrize("headers", [{}, {"authorization": "bearer 1234"}])
def test_the_open_mode_takes_upstreams_scripts_and_says_what_it_is(tmp_path, headers):
    async def work(rig):
        answer = await rig.client.post("/api/v1/requestApproval", json=upstream(), headers=headers)
        return answer, rig.orchestrator.submissions[0]

    answer, submission = run(work, tmp_path, open=True)
    assert answer.status_code == 200
    assert answer.headers["dynamos-mode"] == "open"
    assert submission.voucher == ""
    assert submission.request.user.id == "12324"


def test_the_open_mode_does_not_take_a_forged_token(tmp_path):
    async def work(rig):
        forged = {"authorization": rig.auth()["authorization"][:-8] + "A" * 8}
        return (
            await rig.client.post("/api/v1/check", json=upstream(), headers=forged),
            await rig.client.post("/api/v1/check", json=upstream(BOB), headers=rig.auth(ANN)),
        )

    forged, other = run(work, tmp_path, open=True)
    assert forged.status_code == 401
    assert other.status_code == 403


def test_the_open_mode_is_not_open_to_pages_of_other_sites(tmp_path):
    async def work(rig):
        return await rig.client.post("/api/v1/check", json=upstream(), headers={"sec-fetch-site": "cross-site"})

    assert run(work, tmp_path, open=True).json()["code"] == "cross-site"


def test_without_a_user_the_open_mode_says_who_is_missing(tmp_path):
    async def work(rig):
        body = upstream()
        del body["user"]
        return await rig.client.post("/api/v1/check", json=body)

    answer = run(work, tmp_path, open=True)
    assert answer.status_code == 400
    assert answer.json()["mistakes"][0]["where"] == "$.user.userName"


def test_answers_with_tokens_do_not_claim_to_be_open(tmp_path):
    async def work(rig):
        return await rig.client.get("/healthz")

    assert "dynamos-mode" not in run(work, tmp_path).headers


@pytest.mark.parametrize(
    ("settings", "host", "says"), [({"open": True}, "127.0.0.1", "ANYBODY"), ({}, "0.0.0.0", "TLS")]
)
def test_what_is_not_safe_is_said_at_the_start(tmp_path, caplog, settings, host, says):
    made, _ = config(tmp_path, **settings)
    with caplog.at_level(logging.WARNING):
        main._warn(made.model_copy(update={"host": host}))
    assert says in caplog.text


def test_the_keys_of_an_issuer_elsewhere_are_asked_for_in_a_thread(tmp_path):
    made, _ = config(tmp_path, issuer="https://issuer.example")
    callers = callers_of(made)
    assert callers._slow
    assert isinstance(callers._verifier, OidcVerifier)


def test_the_keys_that_are_shown_are_public(tmp_path):
    async def work(rig):
        return await rig.client.get("/.well-known/jwks.json")

    answer = run(work, tmp_path)
    assert answer.json()["keys"]
    assert all("d" not in key for key in answer.json()["keys"])
