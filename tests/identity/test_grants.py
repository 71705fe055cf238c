"""A grant is what the orchestrator signed, for one party, until it expires, once."""

from __future__ import annotations

import asyncio

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from dynamos.kit.clocks import ManualClock
from dynamos.kit.digests import canonical
from dynamos.kit.errors import NotFound, Refused, Unauthenticated, Unavailable
from dynamos.middleware.identity.grants import sign, verify
from dynamos.middleware.identity.spent import SpentGrants
from support.identities import Shelf, in_seconds, issue_all, make_grant


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    return issue_all(tmp_path_factory.mktemp("units"), "orchestrator", "united", "delta")


@pytest.fixture
def clock():
    return ManualClock()


def code_of(units, text, clock, party="united"):
    with pytest.raises((Unauthenticated, Refused)) as caught:
        verify(text, units["orchestrator"].certificate, party=party, clock=clock)
    return type(caught.value), caught.value.detail_code


def test_a_grant_comes_back_as_it_was_signed(units, clock):
    grant = make_grant(expires=in_seconds(clock.now(), 60))
    text = sign(grant, units["orchestrator"].key)
    assert verify(text, units["orchestrator"].certificate, party="united", clock=clock) == grant


def test_an_expired_grant_is_refused_from_that_moment(units, clock):
    text = sign(make_grant(expires=in_seconds(clock.now(), 60)), units["orchestrator"].key)
    clock.advance(59)
    verify(text, units["orchestrator"].certificate, party="united", clock=clock)
    clock.advance(1)
    assert code_of(units, text, clock) == (Unauthenticated, "grant-expired")


def test_a_grant_of_another_party_is_refused(units, clock):
    text = sign(make_grant("united"), units["orchestrator"].key)
    assert code_of(units, text, clock, party="delta") == (Refused, "grant-for-another")


def test_what_somebody_else_signed_is_forged(units, clock):
    text = sign(make_grant(), units["united"].key)
    assert code_of(units, text, clock) == (Unauthenticated, "grant-forged")


def test_what_the_orchestrator_signed_as_something_else_is_no_grant(units, clock):
    key = ECKey.import_key(units["orchestrator"].key.read_bytes())
    content = canonical(make_grant().as_json())
    for typ in ("JWT", "dynamos-token+jwt", None):
        header = {"alg": "ES256"} | ({"typ": typ} if typ else {})
        text = jws.serialize_compact(header, content, key, algorithms=["ES256"])
        assert code_of(units, text, clock) == (Unauthenticated, "grant-forged")


def test_a_grant_for_the_part_of_another_or_of_another_job_is_refused(units, clock):
    grant = make_grant("united")
    mixed = grant.model_copy(update={"part": make_grant("delta").part})
    assert code_of(units, sign(mixed, units["orchestrator"].key), clock)[1] == "grant-for-another"
    mixed = grant.model_copy(update={"job": "job-2"})
    assert code_of(units, sign(mixed, units["orchestrator"].key), clock)[1] == "grant-forged"


def test_truncated_changed_and_unsigned_grants_are_forged(units, clock):
    text = sign(make_grant(), units["orchestrator"].key)
    header, content, signature = text.split(".")
    forgeries = ["", "x", text[:-8], text[: len(text) // 2], f"{header}.{content}.", f"{header}.{content}"]
    forgeries += [f"eyJhbGciOiJub25lIn0.{content}.", f"{header}.{content[:-4]}AAAA.{signature}", "é", "x" * 2_000_000]
    for forgery in forgeries:
        assert code_of(units, forgery, clock) == (Unauthenticated, "grant-forged")


def test_a_missing_certificate_is_told(units, clock, tmp_path):
    with pytest.raises(NotFound):
        verify("x", tmp_path / "certificate.pem", party="united", clock=clock)


def spend(spent, *, clock, grant_id="grant-1", seconds=60):
    return spent.spend(grant_id, in_seconds(clock.now(), seconds))


def test_a_grant_is_spent_once(clock):
    async def run():
        spent = SpentGrants(Shelf(), clock=clock)
        await spend(spent, clock=clock)
        await spend(spent, clock=clock, grant_id="grant-2")
        with pytest.raises(Refused) as caught:
            await spend(spent, clock=clock)
        assert caught.value.detail_code == "grant-spent"

    asyncio.run(run())


def test_a_restart_forgets_no_spent_grant(clock):
    async def run():
        shelf = Shelf()
        await spend(SpentGrants(shelf, clock=clock), clock=clock)
        with pytest.raises(Refused):
            await spend(SpentGrants(shelf, clock=clock), clock=clock)

    asyncio.run(run())


def test_of_replays_at_the_same_time_exactly_one_wins(clock):
    class Slow(Shelf):
        async def put(self, key, value, *, revision=None):
            await asyncio.sleep(0)
            return await super().put(key, value, revision=revision)

    async def run():
        shelf = Slow()
        two = (SpentGrants(shelf, clock=clock), SpentGrants(shelf, clock=clock))
        results = await asyncio.gather(*(spend(s, clock=clock) for s in two * 20), return_exceptions=True)
        assert results.count(None) == 1
        assert all(isinstance(result, Refused) for result in results if result is not None)

    asyncio.run(run())


def test_a_grant_that_cannot_be_remembered_does_not_run_but_may_later(clock):
    async def run():
        shelf = Shelf()
        spent = SpentGrants(shelf, clock=clock)
        shelf.broken = Unavailable("away")
        with pytest.raises(Unavailable):
            await spend(spent, clock=clock)
        shelf.broken = None
        await spend(spent, clock=clock)

    asyncio.run(run())


def test_memories_go_only_after_their_grants_have_expired(clock):
    async def run():
        shelf = Shelf()
        spent = SpentGrants(shelf, clock=clock)
        await spend(spent, clock=clock, seconds=60)
        expires = in_seconds(clock.now(), 60)
        clock.advance(61)
        assert await spent.prune() == 0
        with pytest.raises(Unauthenticated):
            await spent.spend("grant-1", expires)
        clock.advance(300)
        assert await spent.prune() == 1
        assert shelf.values == {}

    asyncio.run(run())
