"""A voucher tells who asked for one thing, and is of no use for anything else."""

import pytest

from dynamos.kit.clocks import ManualClock
from dynamos.kit.errors import Refused, Unauthenticated
from dynamos.middleware.identity import vouchers
from dynamos.middleware.identity.requestors import Requestors
from support.identities import issue_all
from support.marketplaces import request

ASKED = request()
PURPOSE = vouchers.to_run("job-1", ASKED)


@pytest.fixture
def units(tmp_path):
    return issue_all(tmp_path, "api", "orchestrator")


@pytest.fixture
def clock():
    return ManualClock()


def voucher(units, clock, *, by="api", purpose=PURPOSE, admin_of=()):
    return vouchers.sign("ann@x.org", admin_of, purpose, units[by].key, clock)


def test_it_names_the_user(units, clock):
    known = vouchers.verify(voucher(units, clock), units["api"].certificate, purpose=PURPOSE, clock=clock)
    assert known.user == "ann@x.org"


def test_the_orchestrator_cannot_make_one(units, clock):
    forged = voucher(units, clock, by="orchestrator")
    with pytest.raises(Unauthenticated) as caught:
        vouchers.verify(forged, units["api"].certificate, purpose=PURPOSE, clock=clock)
    assert caught.value.detail_code == "voucher-forged"


@pytest.mark.parametrize(
    "other",
    [
        vouchers.to_run("job-2", ASKED),
        vouchers.to_run("job-1", request(algorithm="count")),
        vouchers.to_check(ASKED),
        vouchers.to_change("policyEnforcer", "UVA", None, None),
    ],
)
def test_it_holds_for_nothing_else(units, clock, other):
    with pytest.raises(Refused) as caught:
        vouchers.verify(voucher(units, clock), units["api"].certificate, purpose=other, clock=clock)
    assert caught.value.detail_code == "voucher-for-another"


def test_it_expires(units, clock):
    text = voucher(units, clock)
    clock.advance(vouchers.LIFETIME.total_seconds())
    with pytest.raises(Unauthenticated) as caught:
        vouchers.verify(text, units["api"].certificate, purpose=PURPOSE, clock=clock)
    assert caught.value.detail_code == "voucher-expired"


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é"])
def test_rubbish_is_none(units, clock, text):
    with pytest.raises(Unauthenticated):
        vouchers.verify(text, units["api"].certificate, purpose=PURPOSE, clock=clock)


def test_another_users_request_is_refused(units, clock):
    requestors = Requestors(units["api"].certificate, open=False, clock=clock)
    requestors.check("ann@x.org", voucher(units, clock), PURPOSE)
    with pytest.raises(Refused) as caught:
        requestors.check("bob@x.org", voucher(units, clock), PURPOSE)
    assert caught.value.detail_code == "other-user"


def test_only_who_administers_a_party_may_change_what_is_its_own(units, clock):
    requestors = Requestors(units["api"].certificate, open=False, clock=clock)
    purpose = vouchers.to_change("policyEnforcer", "UVA", {"name": "UVA"}, 3)
    good = voucher(units, clock, purpose=purpose, admin_of=("UVA",))
    assert requestors.administers("UVA", good, purpose) == "ann@x.org"
    assert requestors.administers("VU", good, purpose) is None
    assert requestors.administers("UVA", good, vouchers.to_change("policyEnforcer", "UVA", {}, 3)) is None
    assert requestors.administers("UVA", "", purpose) is None


def test_the_open_mode_believes_who_comes_without_one_and_still_checks_one(units, clock):
    requestors = Requestors(units["api"].certificate, open=True, clock=clock)
    requestors.check("anybody", "", PURPOSE)
    with pytest.raises(Unauthenticated):
        requestors.check("anybody", voucher(units, clock, by="orchestrator"), PURPOSE)
