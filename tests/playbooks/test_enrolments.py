"""A unit's key is made where the unit lives, and only signing requests and certificates travel."""

import pytest

from dynamos.deploy import enrolments
from dynamos.kit.errors import BadInput, Conflict, NotFound

MARKET = "aviation"


def enrol(control, folder, unit="united", hosts=("198.18.1.11",), **options):
    request = enrolments.ask(folder, unit, MARKET, hosts, **options)
    if not request:
        return False
    signed = enrolments.sign(control, MARKET, {unit: {"request": request, "hosts": hosts}})
    authority = (control / "authority" / "authority.pem").read_text()
    enrolments.place(folder, signed[unit], authority)
    return True


def test_a_unit_is_enrolled_once(tmp_path):
    control, folder = tmp_path / "control", tmp_path / "unit"
    assert enrolments.found(control, MARKET)
    assert not enrolments.found(control, MARKET)
    assert enrolments.needs(folder, ())
    assert enrol(control, folder)
    assert not enrolments.needs(folder, ["198.18.1.11"])
    assert not enrol(control, folder)
    assert not (folder / enrolments.NEXT_KEY).exists()
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    key = (folder / "key.pem").read_text()
    assert not [path for path in control.rglob("*") if path.is_file() and path.read_text() == key]


def test_a_new_address_or_a_wish_gives_a_new_certificate(tmp_path):
    control, folder = tmp_path / "control", tmp_path / "unit"
    enrolments.found(control, MARKET)
    enrol(control, folder)
    before = (folder / "key.pem").read_text()
    assert enrol(control, folder, hosts=("198.18.9.9",))
    assert enrol(control, folder, hosts=("198.18.9.9",), renew=True)
    assert (folder / "key.pem").read_text() != before


def test_an_enrolment_that_was_interrupted_begins_again(tmp_path):
    control, folder = tmp_path / "control", tmp_path / "unit"
    enrolments.found(control, MARKET)
    old = enrolments.ask(folder, "united", MARKET, ())
    late = enrolments.sign(control, MARKET, {"united": {"request": old, "hosts": ()}})["united"]
    assert enrol(control, folder, hosts=())
    enrolments.ask(folder, "united", MARKET, (), renew=True)
    with pytest.raises(BadInput, match="for another key"):
        enrolments.place(folder, late, "")
    assert not enrolments.needs(folder, ())
    (folder / "certificate.pem").write_text(late)
    assert enrolments.needs(folder, ())
    assert enrol(control, folder, hosts=())


def test_another_marketplaces_authority_does_not_sign(tmp_path):
    with pytest.raises(NotFound):
        enrolments.sign(tmp_path, MARKET, {})
    enrolments.found(tmp_path, MARKET)
    with pytest.raises(Conflict, match="the authority is that of"):
        enrolments.sign(tmp_path, "health", {})
