"""Folders of YAML become marketplaces; of a broken one every mistake is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamos.deploy import marketplaces
from dynamos.kit.errors import Mistakes, NotFound

HERE = Path(__file__).parent
SHIPPED = HERE.parent.parent / "profiles" / "marketplaces"


def write(folder: Path, **files: str) -> Path:
    """Make a folder of YAML files; `__` in a name is a slash."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def mistakes_of(folder: Path) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        marketplaces.load(folder)
    return [str(mistake) for mistake in caught.value.mistakes]


@pytest.mark.parametrize("case", ["broken", "broken_launch"])
def test_every_mistake_of_every_file_is_told_at_once(case: str) -> None:
    with pytest.raises(Mistakes) as caught:
        marketplaces.load(HERE / case)
    assert f"{caught.value}\n" == (HERE / f"{case}.txt").read_text()


@pytest.mark.parametrize("name", ["aviation", "bench"])
def test_the_marketplaces_that_come_with_it_have_nothing_odd(name: str) -> None:
    reading = marketplaces.read(SHIPPED / name)
    assert reading.warnings == ()
    assert reading.generator == name


def test_aviation_says_who_may_do_what() -> None:
    market = marketplaces.load(SHIPPED / "aviation")
    assert set(market.parties) == {"united", "jetblue", "delta", "weather", "registry", "safety-board"}
    assert market.agreements["delta"].archetypes == ("computeToData",)
    assert market.agreements["jetblue"].relations["nina@daily-news.example"].duties == ("sql-anonymize",)
    assert set(market.data_sets["operations"].rules()["flights"]) == {"tailnum", "flight", "dep_time", "arr_time"}
    assert market.services["sql-query"].reads_data


def test_a_small_folder_takes_the_standard_for_what_it_leaves_out(tmp_path: Path) -> None:
    write(tmp_path, marketplace="name: tiny\nparties: {a: {data: {d: {t: t.csv}}}}", datasets="d: {tables: [t]}")
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "t.csv").write_text("x\n1\n")
    market = marketplaces.load(tmp_path)
    assert set(market.archetypes) == {"computeToData", "dataThroughTtp"}
    assert set(market.request_types) == {"sqlDataRequest"}
    assert "sql-algorithm" in market.services
    warnings = [str(warning) for warning in marketplaces.read(tmp_path).warnings]
    assert warnings == [
        (
            "marketplace.yaml:2:11 ($.parties.a): 'a' has data and no agreement: nobody may use them"
            " (write agreements/a.yaml)"
        )
    ]


def test_a_service_keeps_what_its_manifest_says_where_the_file_says_nothing(tmp_path: Path) -> None:
    write(
        tmp_path,
        marketplace="name: tiny",
        requestTypes="r: {requiredServices: [sql-query, sql-algorithm]}",
        services="sql-query: {allowedOutputs: [sql-algorithm]}\nsql-algorithm: {limits: {memory: 64MiB}}",
    )
    services = marketplaces.load(tmp_path).services
    assert set(services) == {"sql-query", "sql-algorithm"}
    assert services["sql-query"].reads_data
    assert services["sql-query"].allowed_outputs == ("sql-algorithm",)
    assert services["sql-algorithm"].label == "computeProvider"
    assert services["sql-algorithm"].limits.memory == 64 * 2**20


def test_data_that_are_missing_or_unreadable_are_mistakes(tmp_path: Path) -> None:
    write(
        tmp_path,
        marketplace="""\
name: tiny
parties:
  a:
    data:
      d:
        t: flight.csv
        u: u.csv
        v: v.csv
        w: w.csv
  b: {data: {d: {t: t.csv}}}
""",
        datasets="d: {tables: [t, u, v, w]}",
    )
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    (folder / "flights.csv").write_text("x\n")
    (folder / "u.csv").write_text("")
    (folder / "v.csv").mkdir()
    (folder / "w.csv").symlink_to("/etc/hostname")
    assert [text.replace(str(tmp_path), "") for text in mistakes_of(tmp_path)] == [
        (
            "marketplace.yaml:6:9 ($.parties.a.data.d.t): data file 'flight.csv' is missing in '/data/a'"
            " (did you mean 'flights.csv'?)"
        ),
        "marketplace.yaml:7:9 ($.parties.a.data.d.u): data file 'u.csv' is empty (write at least its header)",
        (
            "marketplace.yaml:8:9 ($.parties.a.data.d.v): data file 'v.csv' cannot be read: is a directory"
            " (look at its path and its permissions)"
        ),
        (
            "marketplace.yaml:9:9 ($.parties.a.data.d.w): data file 'w.csv' is a link out of the party's data folder"
            " (copy the file into the folder)"
        ),
        (
            "marketplace.yaml:10:18 ($.parties.b.data.d.t): the party's data folder '/data/b' is missing"
            " (make it, or say where it is in dataFolders)"
        ),
    ]


def test_a_table_may_lie_in_several_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        marketplace="name: tiny\nparties: {a: {data: {d: {t: 't-*.csv', u: 'u-*.csv'}}}}",
        datasets="d: {tables: [t, u]}",
    )
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    (folder / "t-1.csv").write_text("x\n1\n")
    (folder / "t-2.csv").write_text("x\n2\n")
    (told,) = mistakes_of(tmp_path)
    assert f"data file 'u-*.csv' is missing in '{folder}'" in told


def test_services_that_make_no_chain_are_a_mistake_of_their_request_type(tmp_path: Path) -> None:
    write(
        tmp_path,
        marketplace="name: tiny",
        requestTypes="one: {requiredServices: [sql-query]}\nr: {requiredServices: [sql-graph, sql-query]}",
    )
    places = [text.split(": ")[0] for text in mistakes_of(tmp_path)]
    assert set(places) == {"requestTypes.yaml:2:1 ($.r)"}


def test_a_folder_that_is_no_marketplace_says_what_one_is(tmp_path: Path) -> None:
    assert mistakes_of(tmp_path) == [
        (
            "marketplace.yaml: the file is missing"
            " (a marketplace is a folder with marketplace.yaml, or with the six launch files of upstream)"
        )
    ]
    with pytest.raises(NotFound, match="there is no folder"):
        marketplaces.load(tmp_path / "nowhere")


def test_what_is_not_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "marketplace.yaml")
    assert mistakes_of(tmp_path) == ["marketplace.yaml: this is not a file (put a file there)"]
    (tmp_path / "marketplace.yaml").unlink()
    write(tmp_path, marketplace="name: tiny\nparties: {a: {data: {d: {t: t.csv}}}}", datasets="d: {tables: [t]}")
    (tmp_path / "data" / "a").mkdir(parents=True)
    os.mkfifo(tmp_path / "data" / "a" / "t.csv")
    assert [text.split("): ")[1] for text in mistakes_of(tmp_path)] == [
        "data file 't.csv' is not a file (put a file there)"
    ]
