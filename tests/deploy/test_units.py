from pathlib import Path

import pytest

from dynamos.deploy.units import EDGE, JWKS, SIGNER, Places, units
from dynamos.kit.errors import BadInput
from dynamos.model.agreements import Agreement
from dynamos.model.datasets import DataSet, Source
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.profiles import Profile

PLACES = Places(
    units=Path("/s/units"), data={"united": Path("/s/data/united")}, bus="tls://127.0.0.1:4222", api_port=8080
)
PROFILE = Profile(name="laptop", marketplace="aviation")


def marketplace(*parties):
    return Marketplace(
        name="aviation",
        parties={party.name: party for party in parties},
        agreements={"united": Agreement(name="united", archetypes=("computeToData",))},
        data_sets={"flights": DataSet(name="flights"), "weather": DataSet(name="weather")},
    )


UNITED = Party(name="united", data={"flights": {"flights": Source(path="united.parquet")}})
NOAA = Party(name="noaa", data={"weather": {"weather": Source(path="weather.parquet")}})


def test_the_bus_is_first_and_everything_comes_after_it():
    found = units(PROFILE, marketplace(UNITED, NOAA), PLACES)
    assert list(found) == ["localhost"]
    assert [unit.name for unit in found["localhost"]] == ["bus", "orchestrator", "united", "noaa", "api"]
    assert [unit.after for unit in found["localhost"]] == [(), *[("bus",)] * 4]


def test_an_agent_is_told_its_own_affairs_only():
    found = {unit.name: unit for unit in units(PROFILE, marketplace(UNITED, NOAA), PLACES)["localhost"]}
    noaa = found["noaa"].config.model_dump_json()
    assert "united" not in noaa
    assert list(found["united"].config.data_sets) == ["flights"]
    assert found["united"].config.agreement.archetypes == ("computeToData",)
    assert found["united"].config.data == Path("/s/data/united")


def test_a_party_without_an_agreement_permits_nothing():
    found = {unit.name: unit for unit in units(PROFILE, marketplace(NOAA), PLACES)["localhost"]}
    assert found["noaa"].config.agreement == Agreement(name="noaa")


def test_each_unit_has_the_keys_that_it_checks_others_with_and_no_more():
    files = {unit.name: set(unit.files) for unit in units(PROFILE, marketplace(UNITED), PLACES)["localhost"]}
    assert {name for name, held in files.items() if SIGNER in held} == {"united", "api"}
    assert {name for name, held in files.items() if EDGE in held} == {"united", "orchestrator"}
    assert {name for name, held in files.items() if JWKS in held} == {"api"}


@pytest.mark.parametrize("name", ["API", "orchestrator", "Bus", "admin"])
def test_a_party_may_not_have_the_name_of_another_unit(name):
    with pytest.raises(BadInput, match=f"the name '{name}' is taken"):
        units(PROFILE, marketplace(Party(name=name)), PLACES)


def test_two_parties_may_not_differ_in_letter_case_only():
    with pytest.raises(BadInput, match="is taken"):
        units(PROFILE, marketplace(Party(name="VU"), Party(name="vu")), PLACES)
