"""Profiles: read, checked against their marketplace, merged into it, and described for editors."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from dynamos.deploy import profiles
from dynamos.kit.errors import Mistakes, NotFound

SHIPPED = Path(__file__).parent.parent.parent / "profiles"
NAMES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def mistakes_of(path: Path) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        profiles.validate(path)
    return [str(mistake).replace(str(path.parent), "") for mistake in caught.value.mistakes]


@pytest.mark.parametrize("name", NAMES)
def test_the_profiles_that_come_with_it_are_right(name: str) -> None:
    checked = profiles.validate(name)
    assert checked.profile.name == name
    placed = [party for site in checked.profile.sites.values() for party in site.parties]
    wanted = checked.marketplace.parties if checked.profile.driver != "kubernetes" else ()  # any node will do there
    assert sorted(placed) == sorted(wanted)


@pytest.mark.parametrize("name", NAMES)
def test_an_editor_finds_the_schema_and_nothing_wrong(name: str) -> None:
    text = (SHIPPED / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=profile.schema.json\n")
    jsonschema_rs.validate(json.loads((SHIPPED / "profile.schema.json").read_text()), yaml.safe_load(text))


def test_the_schema_is_current() -> None:
    assert json.loads((SHIPPED / "profile.schema.json").read_text()) == json.loads(json.dumps(profiles.schema()))


def test_only_the_profile_for_upstream_is_open_and_it_says_so() -> None:
    assert [name for name in NAMES if profiles.load(name).settings.open] == ["upstream"]
    assert "WITHOUT A TOKEN" in (SHIPPED / "upstream.yaml").read_text()
    assert profiles.load("upstream").description.startswith("OPEN MODE")


def test_what_the_profile_adds_is_in_the_marketplace() -> None:
    market = profiles.resolve(profiles.load("upstream"))
    assert market.parties["UVA"].data["wageGap"]["Personen"].path == "Personen_UVA.csv"
    assert market.data_sets["wageGap"].rules()["Personen"]["Gebdat"].size == 4
    assert market.agreements["UVA"].duties == {"sqlDataRequest": ("sql-anonymize",)}


def test_every_mistake_of_a_profile_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("""\
name: mine
marketplace: aviation
sites:
  one: {parties: [united, jetblue, delta, wether]}
  two: {parties: [united, registry, weather]}
data:
  delta:
    operations: {flight: flights.parquet}
    operation: {flights: flights.parquet}
  united:
    operations: {flights: ../delta/flights.parquet}
dataFolders: {boing: /srv}
admins: {united: [ann@safety-board.exmaple]}
duties:
  united: {sqlDataReq: [sql-anonymise]}
rules:
  operations:
    flights: {tailnumber: hash, dest: "truncate:0", origin: shred}
    planes: {tailnum: hash}
  weathers: {}
""")
    assert mistakes_of(path) == [
        "/mine.yaml:4:43 ($.sites.one.parties[3]): there is no party 'wether' (did you mean 'weather'?)",
        "/mine.yaml:5:19 ($.sites.two.parties[0]): party 'united' is at site 'one' already (keep it at one site)",
        "/mine.yaml:3:1 ($.sites): party 'safety-board' is at no site (add it to the parties of a site)",
        (
            "/mine.yaml:12:15 ($.dataFolders.boing): there is no party 'boing'"
            " (known: united, jetblue, delta, weather, registry, safety-board)"
        ),
        (
            "/mine.yaml:8:18 ($.data.delta.operations.flight): data set 'operations' has no table 'flight'"
            " (did you mean 'flights'?)"
        ),
        "/mine.yaml:9:5 ($.data.delta.operation): there is no data set 'operation' (did you mean 'operations'?)",
        (
            "/mine.yaml:11:18 ($.data.united.operations.flights):"
            " '../delta/flights.parquet' leads out of the party's data"
            " (paths are relative to the party's data folder and stay in it)"
        ),
        (
            "/mine.yaml:13:19 ($.admins.united[0]): there is no user 'ann@safety-board.exmaple'"
            " (did you mean 'ann@safety-board.example'?)"
        ),
        (
            "/mine.yaml:15:12 ($.duties.united.sqlDataReq): there is no request type 'sqlDataReq'"
            " (did you mean 'sqlDataRequest'?)"
        ),
        (
            "/mine.yaml:15:25 ($.duties.united.sqlDataReq[0]): there is no service 'sql-anonymise'"
            " (did you mean 'sql-anonymize'?)"
        ),
        (
            "/mine.yaml:18:15 ($.rules.operations.flights.tailnumber): table 'flights' has no column 'tailnumber'"
            " (did you mean 'tailnum'?)"
        ),
        "/mine.yaml:18:33 ($.rules.operations.flights.dest): found 'truncate:0': truncate needs a size from 1 on",
        (
            "/mine.yaml:18:53 ($.rules.operations.flights.origin): found 'shred',"
            " expected 'truncate', 'mask', 'hash', 'generalise' or 'drop'"
        ),
        "/mine.yaml:19:5 ($.rules.operations.planes): data set 'operations' has no table 'planes' (known: flights)",
        "/mine.yaml:20:3 ($.rules.weathers): there is no data set 'weathers' (did you mean 'weather'?)",
    ]


def test_paths_are_relative_to_the_profile(tmp_path: Path) -> None:
    market = tmp_path / "market"
    market.mkdir()
    (market / "marketplace.yaml").write_text("name: tiny\nparties: {a: {data: {d: {t: t.csv}}}}")
    (market / "datasets.yaml").write_text("d: {tables: [t]}")
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nmarketplace: market\ndataFolders: {a: elsewhere}\n")
    profile = profiles.load(path)
    assert profile.marketplace == str(market)
    with pytest.raises(Mistakes, match=r"data folder .* is missing"):
        profiles.prepare(profile)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "t.csv").write_text("x\n1\n")
    assert profiles.prepare(profile) == {"a": tmp_path / "elsewhere"}


def test_a_name_that_is_nowhere_gets_near_names(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="did you mean 'laptop'"):
        profiles.load("labtop")
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nmarketplace: aviaton\n")
    assert mistakes_of(path) == [
        "/mine.yaml:2:1 ($.marketplace): there is no marketplace 'aviaton' (did you mean 'aviation'?)"
    ]


def test_what_is_no_profile_gives_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text in ("", "[]", "name: [", "name: x", "\0"):
        path.write_text(text)
        assert mistakes_of(path)
