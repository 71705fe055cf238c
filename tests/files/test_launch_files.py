"""Upstream's six launch files are a marketplace, unchanged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dynamos.deploy import marketplaces
from dynamos.deploy.launch_files import FILES
from dynamos.kit.errors import Mistakes

WAGE_GAP = Path(__file__).parent.parent.parent / "profiles" / "marketplaces" / "wage-gap"
USER = "jorrit.stutterheim@cloudnation.nl"


@pytest.fixture
def launch(tmp_path: Path) -> Path:
    """The six files alone, as somebody brings them."""
    for file in FILES:
        shutil.copy(WAGE_GAP / file, tmp_path)
    return tmp_path


def test_the_six_files_are_accepted_unchanged(launch: Path) -> None:
    market = marketplaces.load(launch)
    assert list(market.parties) == ["VU", "UVA", "RUG", "SURF"]
    assert market.agreements["VU"].relations[USER].id == "GUID"
    assert market.agreements["VU"].relations[USER].allowed_compute_providers == ("SURF",)
    assert market.agreements["RUG"].relations == {}
    assert market.data_sets["wageGap"].delimiter == ";"
    assert list(market.data_sets["wageGap"].tables) == ["Aanstellingen", "Personen"]
    assert market.archetypes["dataThroughTtp"].weight == 200
    assert market.services["sql-query"].reads_data
    assert market.services["sql-aggregate"].invalid_archetypes == ("computeToData",)


def test_what_upstream_wrote_and_never_enforced_becomes_a_duty(launch: Path) -> None:
    market = marketplaces.load(launch)
    assert market.agreements["UVA"].duties == {"sqlDataRequest": ("sql-anonymize",)}
    assert market.agreements["VU"].duties == {}


def test_names_that_upstreams_files_do_not_describe_are_warnings(launch: Path) -> None:
    messages = [warning.message for warning in marketplaces.read(launch).warnings]
    assert messages == ["there is no party 'otherCompany'", "there is no archetype 'reproducableScience'"] * 2


def test_lists_mappings_single_things_nulls_and_any_letter_case_are_understood(launch: Path) -> None:
    write = lambda name, value: (launch / name).write_text(json.dumps(value))  # noqa: E731
    types = json.loads((launch / "requestType.json").read_text())
    write("requestType.json", {one["name"]: {k: v for k, v in one.items() if k != "name"} for one in types})
    write("datasets.json", json.loads((launch / "datasets.json").read_text())[0])
    agreements = json.loads((launch / "agreements.json").read_text())
    agreements[2] = {"Name": "RUG", "Relations": {}, "ComputeProviders": None, "archetypes": None, "note": "none"}
    relation = agreements[0]["relations"][USER]
    relation["id"] = relation.pop("ID")
    write("agreements.json", agreements)
    reading = marketplaces.read(launch)
    assert set(reading.marketplace.request_types) == {"sqlDataRequest", "genericRequest"}
    assert reading.marketplace.agreements["RUG"].compute_providers == ()
    assert reading.marketplace.agreements["VU"].relations[USER].id == "GUID"
    assert "unknown member 'note'" in [warning.message for warning in reading.warnings]


def test_a_sensitive_column_without_a_rule_is_hidden(launch: Path) -> None:
    (launch / "datasets.json").write_text(
        '[{"name": "wageGap", "tables": ["Personen"], "sensitive_columns": {"Personen": ["Gebdat", ""]}}]'
    )
    rule = marketplaces.load(launch).data_sets["wageGap"].rules()["Personen"]
    assert {column: one.method for column, one in rule.items()} == {"Gebdat": "mask"}


def test_a_launch_file_that_is_missing_is_a_mistake(launch: Path) -> None:
    (launch / "archetype.json").unlink()
    with pytest.raises(Mistakes) as caught:
        marketplaces.load(launch)
    assert str(caught.value.mistakes[0]).startswith("archetype.json: the launch file is missing (the six are ")
