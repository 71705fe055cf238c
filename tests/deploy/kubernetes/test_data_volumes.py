"""Data of parties on a cluster: whatever their size, a party's pods find its files as they were."""

from __future__ import annotations

import base64
import random
import tarfile

import pytest

from dynamos.deploy.kubernetes.filling import fill
from dynamos.deploy.kubernetes.preparing import files_of
from dynamos.deploy.kubernetes.volumes import CHUNK, LARGE, SMALL, data_volume, fits, pack, too_large
from dynamos.kit.errors import BadInput
from dynamos.model.datasets import Source
from dynamos.model.marketplaces import Party
from support.plans import SOUTH, plan

NOISE = random.Random(7).randbytes(2 * CHUNK + 5)


def test_small_data_are_a_configmap_that_never_changes():
    files = {"a.csv": b"x,y\n1,2\n", "b.parquet": bytes(range(256))}
    found = data_volume(plan(data={"south": files}), "south")
    (held,) = found.private
    assert found.public == ()
    assert found.volume == {"configMap": {"name": held["metadata"]["name"]}}
    assert held["immutable"] is True
    assert held["metadata"]["namespace"] == SOUTH
    assert {name: base64.b64decode(text) for name, text in held["binaryData"].items()} == files
    other = data_volume(plan(data={"south": {**files, "a.csv": b"new"}}), "south")
    assert other.private[0]["metadata"]["name"] != held["metadata"]["name"]


@pytest.mark.parametrize("files", [{"a.csv": NOISE}, {"deep/er/a.csv": b"x"}, {"b c.csv": b"x", "a.csv": NOISE}])
def test_larger_data_come_in_pieces_which_a_job_puts_together(tmp_path, files):
    found = data_volume(plan(data={"south": files}), "south")
    assert [each["kind"] for each in found.public] == ["PersistentVolumeClaim", "Job"]
    packed, data = tmp_path / "packed", tmp_path / "data"
    packed.mkdir()
    data.mkdir()
    for each in found.private:
        assert each["kind"] == "ConfigMap"
        assert sum(len(base64.b64decode(text)) for text in each["binaryData"].values()) <= SMALL
        for name, text in each["binaryData"].items():
            (packed / name).write_bytes(base64.b64decode(text))
    for _ in range(2):  # a job that is tried again finds what it left
        fill(packed, data)
        assert {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()} == files
    sources = found.public[1]["spec"]["template"]["spec"]["volumes"][1]["projected"]["sources"]
    assert [each["configMap"]["name"] for each in sources] == [each["metadata"]["name"] for each in found.private]


def test_a_claim_that_is_there_is_taken_and_only_read():
    found = data_volume(plan(data={"south": {"a.csv": b"x"}}, cluster={"claims": {"south": "mine"}}), "south")
    assert found.volume == {"persistentVolumeClaim": {"claimName": "mine", "readOnly": True}}
    assert (found.private, found.public) == ((), ())


def test_who_has_no_data_has_no_volume():
    assert data_volume(plan(data={"south": {}}), "south") is None


def test_data_that_are_too_large_for_this_are_told_with_what_to_do(monkeypatch):
    monkeypatch.setattr("dynamos.deploy.kubernetes.volumes.LARGE", CHUNK)
    assert LARGE > CHUNK
    (mistake,) = too_large(plan(data={"south": {"a.csv": NOISE}, "North_One": {"a.csv": b"x"}}))
    assert mistake.where == "$.cluster.claims.south"
    assert "cluster.claims" in mistake.hint
    assert too_large(plan(data={"south": {"a.csv": NOISE}}, cluster={"claims": {"south": "mine"}})) == []


def test_the_same_files_are_packed_the_same():
    assert pack({"b": b"2", "a": b"1"}) == pack({"a": b"1", "b": b"2"})
    assert fits({"a": b"x" * SMALL})
    assert not fits({"a": b"x" * (SMALL + 1)})


def test_of_a_party_that_names_no_tables_every_file_is_taken(tmp_path):
    (tmp_path / "wageGap").mkdir()
    (tmp_path / "wageGap" / "Personen.csv").write_text("a\n1\n")
    assert files_of(Party(name="p"), tmp_path) == {"wageGap/Personen.csv": b"a\n1\n"}


def test_all_files_of_a_partys_tables_are_taken_and_no_others(tmp_path):
    for name in ("flights.csv", "parts/1.csv", "parts/2.csv", "year-1.csv", "year-2.csv", "private.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    tables = {name: Source(path=name) for name in ("flights.csv", "parts", "year-*.csv")}
    found = files_of(Party(name="p", data={"d": tables}), tmp_path)
    assert sorted(found) == ["flights.csv", "parts/1.csv", "parts/2.csv", "year-1.csv", "year-2.csv"]


def test_pieces_that_are_no_archive_of_ours_are_refused(tmp_path):
    packed, data = tmp_path / "packed", tmp_path / "data"
    packed.mkdir()
    data.mkdir()
    (packed / "0000").write_bytes(pack({"a.csv": NOISE})[:-100])
    with pytest.raises(BadInput, match="no archive"):
        fill(packed, data)
    with tarfile.open(packed / "0000", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../escaped"))
    with pytest.raises(BadInput, match="no plain file"):
        fill(packed, data)
    assert not (tmp_path / "escaped").exists()
