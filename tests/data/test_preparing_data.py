"""Data appear whole or not at all, once, and are made again only when what makes them changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dynamos.deploy import data
from dynamos.kit.errors import BadInput, Broken, Full, Mistakes, NotFound

Run = Callable[[str, Path], None]


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """A marketplace with a generator."""
    folder = tmp_path / "market"
    folder.mkdir()
    (folder / "marketplace.yaml").write_text(
        "name: tiny\ngenerator: wage-gap\nparties:\n  UVA: {data: {d: {p: Personen_UVA.csv}}}\n  HUB: {}\n"
    )
    (folder / "datasets.yaml").write_text("d: {delimiter: ';', tables: [p]}")
    return folder


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each run of a generator, which writes one small file."""
    seen: list[str] = []

    def run(name: str, folder: Path) -> None:
        seen.append(name)
        (folder / "UVA").mkdir()
        (folder / "UVA" / "Personen_UVA.csv").write_text(f"x\n{len(seen)}\n")

    monkeypatch.setattr(data, "_run", run)
    return seen


def test_data_are_made_once(market: Path, runs: list[str], tmp_path: Path) -> None:
    target = tmp_path / "data"
    assert data.prepare(market, target) == {"UVA": target / "UVA", "HUB": target / "HUB"}
    assert data.prepare(market, target) == {"UVA": target / "UVA", "HUB": target / "HUB"}
    assert runs == ["wage-gap"]
    assert list((target / "HUB").iterdir()) == []


def test_data_are_made_again_when_the_program_has_changed(market: Path, runs: list[str], tmp_path: Path) -> None:
    target = tmp_path / "data"
    data.prepare(market, target)
    (target / data.STAMP).write_text(json.dumps({"digest": "of another program"}))
    data.prepare(market, target)
    assert (target / "UVA" / "Personen_UVA.csv").read_text() == "x\n2\n"
    assert [path.name for path in tmp_path.iterdir() if "making" in path.name] == []


def test_a_failure_leaves_nothing_and_keeps_what_was_there(
    market: Path, runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "data"
    data.prepare(market, target)
    (target / data.STAMP).write_text("{}")

    def fail(name: str, folder: Path) -> None:
        (folder / "half").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data, "_run", fail)
    with pytest.raises(Full, match="no room for the data"):
        data.prepare(market, target)
    assert (target / "UVA" / "Personen_UVA.csv").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"market", "data", ".data.lock"}


def test_what_was_left_half_made_is_removed(market: Path, runs: list[str], tmp_path: Path) -> None:
    (tmp_path / ".data.making-killed").mkdir()
    data.prepare(market, tmp_path / "data")
    assert not (tmp_path / ".data.making-killed").exists()


def test_a_folder_of_somebody_elses_is_not_replaced(market: Path, runs: list[str], tmp_path: Path) -> None:
    target = tmp_path / "data"
    target.mkdir()
    (target / "thesis.txt").write_text("precious")
    with pytest.raises(BadInput, match="holds something that was not generated"):
        data.prepare(market, target)
    assert (target / "thesis.txt").read_text() == "precious"


def test_an_unknown_generator_gets_near_names(market: Path, tmp_path: Path) -> None:
    path = market / "marketplace.yaml"
    path.write_text(path.read_text().replace("wage-gap", "wagegap"))
    with pytest.raises(BadInput, match="did you mean 'wage-gap'"):
        data.prepare(market, tmp_path / "data")
    with pytest.raises(NotFound, match="there is no marketplace"):
        data.prepare("nowhere", tmp_path / "data")


def test_a_generator_that_leaves_out_a_table_is_found_out(market: Path, runs: list[str], tmp_path: Path) -> None:
    path = market / "marketplace.yaml"
    path.write_text(path.read_text().replace("Personen_UVA", "Persons_UVA"))
    with pytest.raises(Mistakes) as caught:
        data.prepare(market, tmp_path / "data")
    assert "did you mean 'Personen_UVA.csv'?" in str(caught.value)


def test_a_generator_that_crashes_is_our_defect(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="the generator 'nothing' failed"):
        data._run("nothing", tmp_path)


def test_parties_can_be_read_by_a_sandbox_and_hold_no_links(market: Path, tmp_path: Path) -> None:
    folders = data.prepare(market, tmp_path / "data")
    paths = [path for folder in folders.values() for path in (folder, *folder.rglob("*"))]
    assert {oct(path.stat().st_mode & 0o777) for path in paths if path.is_file()} == {"0o644"}
    assert {oct(path.stat().st_mode & 0o777) for path in paths if path.is_dir()} == {"0o755"}
    assert not any(path.is_symlink() for path in paths)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_who_prepares_data_can_fork_afterwards(market: Path, tmp_path: Path) -> None:
    program = (
        "import os; from pathlib import Path; from dynamos.deploy import data;"
        f"data.prepare(Path({str(market)!r}), Path({str(tmp_path / 'data')!r}));"
        "print(len(os.listdir('/proc/self/task')))"
    )
    one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **one})
    assert done.stdout.strip() == "1"


def test_bench_data_have_six_columns_and_no_row_in_common(tmp_path: Path) -> None:
    folders = data.bench_data(tmp_path / "bench", [1000, 30_000, 1234], ["alpha", "beta"])
    alpha, beta = (pq.read_table(folder / "rows_30k.parquet") for folder in folders.values())
    assert alpha.num_rows == beta.num_rows == 30_000
    assert alpha.num_columns == 6
    assert not set(alpha["id"].to_pylist()) & set(beta["id"].to_pylist())
    assert pq.read_metadata(folders["beta"] / "rows_1234.parquet").num_rows == 1234
    shutil.rmtree(tmp_path / "bench")
