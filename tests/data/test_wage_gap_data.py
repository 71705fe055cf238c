"""The numbers that upstream's users know come out of the invented people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from pyarrow import csv

from dynamos.deploy.generators import wage_gap

JOIN = "Personen_{0} p JOIN Aanstellingen_{0} s ON p.Unieknr = s.Unieknr"
PAY = f"SELECT p.Geslacht AS sex, s.Salschal AS scale FROM {JOIN}"
MEANS = "SELECT sex, round(avg(scale), 3) FROM ({}) GROUP BY sex ORDER BY sex"
SIX = f"SELECT DISTINCT p.Unieknr, p.Geslacht, p.Gebdat, s.Aanst_22, s.Functcat, s.Salschal FROM {JOIN}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("wage-gap")
    wage_gap.write(made)
    return made


@pytest.fixture(scope="module")
def tables(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The four files as tables of the same names. Arrow's reader takes their line ends as they are."""
    with duckdb.connect() as connection:
        for party in ("UVA", "VU"):
            for name in ("Personen", "Aanstellingen"):
                path = folder / party / f"{name}_{party}.csv"
                options = csv.ParseOptions(delimiter=";")
                connection.register(f"{name}_{party}", csv.read_csv(path, parse_options=options))
        yield connection


@pytest.mark.parametrize(
    ("party", "sizes", "appointments"),
    [("UVA", (18026, 9902, 10123, 7903), 18639), ("VU", (16217, 5713, 8384, 7833), 16626)],
)
def test_files_have_the_published_sizes(
    tables: duckdb.DuckDBPyConnection, party: str, sizes: tuple[int, ...], appointments: int
) -> None:
    counts = "count(*), count(DISTINCT Unieknr), count(*) FILTER (Geslacht = 'V'), count(*) FILTER (Geslacht = 'M')"
    assert tables.execute(f"SELECT {counts} FROM Personen_{party}").fetchone() == sizes
    assert tables.execute(f"SELECT count(*) FROM Aanstellingen_{party}").fetchone() == (appointments,)


@pytest.mark.parametrize(
    ("party", "rows", "men", "women"), [("UVA", 35559, 11.877, 10.597), ("VU", 56483, 10.955, 9.657)]
)
def test_mean_scales_by_sex_are_the_published_ones(
    tables: duckdb.DuckDBPyConnection, party: str, rows: int, men: float, women: float
) -> None:
    assert tables.execute(f"SELECT count(*) FROM ({PAY.format(party)})").fetchone() == (rows,)
    assert tables.execute(MEANS.format(PAY.format(party))).fetchall() == [("M", men), ("V", women)]


def test_pooled_means_are_the_published_ones_also_with_upstreams_double_count(
    tables: duckdb.DuckDBPyConnection,
) -> None:
    uva, vu = PAY.format("UVA"), PAY.format("VU")
    pooled = {
        f"{uva} UNION ALL {vu}": (11.287, 10.042),
        f"{uva} UNION ALL {uva} UNION ALL {vu}": (11.443, 10.203),
        f"{vu} UNION ALL {vu} UNION ALL {uva}": (11.157, 9.899),
    }
    for query, (men, women) in pooled.items():
        assert tables.execute(MEANS.format(query)).fetchall() == [("M", men), ("V", women)]


@pytest.mark.parametrize(("party", "rows"), [("UVA", 25163), ("VU", 8204)])
def test_the_six_column_query_has_the_published_number_of_rows(
    tables: duckdb.DuckDBPyConnection, party: str, rows: int
) -> None:
    assert tables.execute(f"SELECT count(*) FROM ({SIX.format(party)})").fetchone() == (rows,)


@pytest.mark.parametrize(("party", "mean"), [("UVA", 11.115), ("VU", 10.626)])
def test_the_readme_query_crosses_one_woman_with_a_thousand_appointments(
    tables: duckdb.DuckDBPyConnection, party: str, mean: float
) -> None:
    first = tables.execute(f"SELECT * FROM Personen_{party}").fetchone()
    scales = tables.execute(f"SELECT Salschal FROM Aanstellingen_{party}").fetchmany(1000)
    assert first is not None
    assert first[2] == "V"
    assert sum(scale for (scale,) in scales) == round(mean * 1000)


@pytest.mark.parametrize(("party", "code", "lowest"), [("UVA", "AAA", 3), ("VU", "DDD", 1)])
def test_values_are_in_the_published_ranges(
    tables: duckdb.DuckDBPyConnection, party: str, code: str, lowest: int
) -> None:
    scales = "min(Salschal), max(Salschal) FILTER (Salschal < 99), max(Salschal), any_value(Instcode)"
    assert tables.execute(f"SELECT {scales} FROM Aanstellingen_{party}").fetchone() == (lowest, 18, 99, code)
    years = tables.execute(f"SELECT DISTINCT Peildat FROM Personen_{party} ORDER BY 1").fetchall()
    assert years == [(20171231,), (20181231,), (20191231,), (20201231,)]


def test_line_ends_are_as_awkward_as_upstreams(folder: Path) -> None:
    persons = (folder / "VU" / "Personen_VU.csv").read_bytes()
    appointments = (folder / "VU" / "Aanstellingen_VU.csv").read_bytes()
    assert persons.count(b"\r\r\n") == persons.count(b"\n") == 16218
    assert appointments.count(b"\r") == 16627
    assert b"\n" not in appointments
    assert persons.startswith(b"Instcode;Unieknr;Geslacht;Gebdat;Nationaliteit;BKO;SKO;Peildat\r\r\n")
    assert b";0001;" in persons


def test_the_same_people_are_invented_every_time(folder: Path, tmp_path: Path) -> None:
    wage_gap.write(tmp_path)
    names = [path.relative_to(folder) for path in folder.rglob("*.csv")]
    assert len(names) == 4
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)
