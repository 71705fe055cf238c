"""Results are kept within bounds, given in pieces, and never half."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import threading
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv
import pytest

from dynamos.kit.clocks import ManualClock
from dynamos.kit.errors import Cancelled, DynamosError, Full, JobFailed, NotFound, Refused, Unavailable
from dynamos.middleware.api import media, rows, texts
from dynamos.middleware.api.results import Phase, Result, Results
from dynamos.middleware.api.spools import CHUNK_BYTES, IN_MEMORY, Store
from support.apis import api, results_of, upstream
from support.orchestrators import Script, bring

LARGE = pa.table({"n": pa.array(range(200_000), pa.int64()), "s": [f"row {n}" for n in range(200_000)]})
EVERY_TYPE = pa.record_batch(
    {
        "int": pa.array([1, None, -3], pa.int8()),
        "big": pa.array([2**63, 0, None], pa.uint64()),
        "float": pa.array([1.5, float("nan"), float("inf")]),
        "half": pa.array([1.5, None, 2.0], pa.float16()),
        "decimal": pa.array([Decimal("1.20"), None, Decimal("-0.05")]),
        "bool": pa.array([True, None, False]),
        "text": pa.array(['a "quoted" \\ text', "line\nbreak\x01", "é€😀"]),
        "word": pa.array(["x", "y", None]).dictionary_encode(),
        "date": pa.array([date(2013, 1, 1), None, date(1969, 7, 20)]),
        "time": pa.array([time(5, 4, 3), None, time(0)], pa.time32("s")),
        "at": pa.array([datetime(2013, 1, 1, 5), None, datetime(1969, 7, 20)], pa.timestamp("s")),  # noqa: DTZ001
        "utc": pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC)] * 3, pa.timestamp("s", "UTC")),
        "took": pa.array([timedelta(seconds=3)] * 3),
        "bytes": pa.array([b"\x00\xff", None, b""]),
        "list": pa.array([[1, None], None, []]),
        "struct": pa.array([{"a": 1.0, "b": "x"}, None, {"a": float("nan"), "b": None}]),
        "nothing": pa.nulls(3),
    }
)


def made(folder, table, *, memory=8 << 20, disk=1 << 30, **options):
    """Give a result with these rows, and its store."""
    store = Store(folder, memory=memory, disk=disk, **options)
    result = Result("result", "UVA", store.spool(), lambda _: None)
    bring(result, table)
    return result, store


def read(result):
    with result.reader() as batches:
        return batches.read_all()


@pytest.mark.parametrize("memory", [0, 1000, 8 << 20], ids=["disk", "both", "memory"])
def test_rows_come_back_as_they_were(tmp_path, memory):
    result, store = made(tmp_path, LARGE, memory=memory)
    assert read(result).equals(LARGE)
    assert (result.rows, result.phase) == (200_000, Phase.COMPLETE)
    assert (store.in_memory > 0) == (memory > LARGE.nbytes)
    assert len(list(tmp_path.iterdir())) == (memory < LARGE.nbytes)
    assert store.in_memory + store.on_disk == result.spool.size == sum(len(chunk) for chunk in result.spool.chunks())
    result.drop()
    assert (store.in_memory, store.on_disk, list(tmp_path.iterdir())) == (0, 0, [])


def test_dictionaries_that_change_from_batch_to_batch_are_kept(tmp_path):
    first, second = (pa.table({"w": pa.array(words).dictionary_encode()}) for words in (["a", "b"], ["c", "d"]))
    store = Store(tmp_path, memory=0, disk=1 << 20)
    result = Result("result", "UVA", store.spool(), lambda _: None)
    result.open(first.schema)
    for table in (first, second):
        for batch in table.to_batches():
            result.write(batch)
    result.close()
    assert read(result)["w"].to_pylist() == ["a", "b", "c", "d"]


def test_files_are_for_the_owner_only_and_leftovers_go(tmp_path):
    folder = tmp_path / "results"
    made(folder, LARGE, memory=0)
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    Store(folder, memory=0, disk=0)
    assert list(folder.iterdir()) == []


def test_memory_is_bounded_over_all_results(tmp_path):
    table = pa.table({"n": list(range(100))})
    store = Store(tmp_path, memory=2000, disk=1 << 20)
    for number in range(50):
        result = Result(str(number), "UVA", store.spool(), lambda _: None)
        bring(result, table)
        assert read(result).equals(table)
    assert 0 < store.in_memory <= 2000 * IN_MEMORY
    assert store.on_disk > 0


def test_a_full_quota_is_full_and_frees_what_was_taken(tmp_path):
    store = Store(tmp_path, memory=0, disk=100_000)
    result = Result("result", "UVA", store.spool(), lambda _: None)
    with pytest.raises(Full, match="of 100kB"):
        bring(result, LARGE)
    assert result.phase is Phase.FAILED
    assert (store.on_disk, list(tmp_path.iterdir())) == (0, [])
    with pytest.raises(Full):
        result.write(LARGE.to_batches()[0])


class Broken(io.BytesIO):
    """A file on a disk that says no."""

    def __init__(self, number, after):
        super().__init__()
        self.number = number
        self.after = after

    def write(self, data):
        if self.tell() >= self.after:
            raise OSError(self.number, "no")
        return super().write(data)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, Full), (errno.EDQUOT, Full), (errno.EIO, Unavailable), (None, Unavailable)]
)
@pytest.mark.parametrize("after", [0, 500_000])
def test_a_disk_that_fails_is_told_as_what_it_is(tmp_path, number, kind, after):
    store = Store(tmp_path, memory=100, disk=1 << 30, create=lambda _: Broken(number, after))
    result = Result("result", "UVA", store.spool(), lambda _: None)
    with pytest.raises(kind):
        bring(result, LARGE)
    assert isinstance(result.error, kind)
    assert result.fault
    assert (store.in_memory, store.on_disk) == (0, 0)


def test_a_full_disk_fails_the_job_with_507_and_cancels_it(tmp_path):
    async def work():
        async with asyncio.timeout(20), api(tmp_path, result_memory="1kB", result_disk="100kB") as rig:
            rig.orchestrator.script = Script(tables={"UVA": LARGE}, early=False, hold=asyncio.Event())
            answer = await rig.client.post(
                "/api/v1/jobs?wait=true", json=upstream(providers=("UVA",)), headers=rig.auth()
            )
            await rig.orchestrator.until_cancelled()
            job = rig.orchestrator.submissions[0].job
            result = await rig.client.get(f"/api/v1/jobs/{job}/result", headers=rig.auth())
            return answer, result, rig.orchestrator.cancelled, rig.desk.results.store.on_disk

    answer, result, cancelled, left = asyncio.run(work())
    assert (answer.status_code, answer.json()["code"]) == (507, "full")
    assert "resultDisk" in answer.json()["hint"]
    assert result.status_code == 507
    assert "cannot be kept" in cancelled[0].reason
    assert left == 0


def test_a_disk_without_room_is_507(tmp_path):
    def results(made_config):
        kept = results_of(made_config, ManualClock())
        kept.store = Store(tmp_path / "r", memory=10, disk=1 << 30, create=lambda _: Broken(errno.ENOSPC, 0))
        return kept

    async def work():
        async with asyncio.timeout(20), api(tmp_path, results=results) as rig:
            rig.orchestrator.script = Script(tables={"UVA": LARGE})
            return await rig.client.post(
                "/api/v1/requestApproval", json=upstream(providers=("UVA",)), headers=rig.auth()
            )

    answer = asyncio.run(work())
    assert (answer.status_code, answer.json()["code"]) == (507, "full")
    assert "No space left" in answer.json()["detail"]


def test_a_stream_is_taken_once_and_only_where_somebody_waits(tmp_path):
    async def work():
        results = Results(Store(tmp_path, memory=1 << 20, disk=0), ManualClock(), age=60, longest=60)
        with pytest.raises(NotFound):
            results.admit("job", "result", "UVA")
        results.expect("job", "ann", "digest")
        results.admit("job", "result", "UVA").abort(JobFailed("no connection"))
        sink = results.admit("job", "result", "UVA")  # nothing had come, so it may come again
        sink.open(LARGE.schema)
        for _ in range(2):
            with pytest.raises(Refused, match="taken already"):
                results.admit("job", "result", "UVA")
        results.forget("job")
        with pytest.raises(Cancelled):
            sink.write(LARGE.to_batches()[0])
        with pytest.raises(NotFound):
            results.admit("job", "result", "UVA")
        return results.store.in_memory

    assert asyncio.run(work()) == 0


def test_a_result_that_was_aborted_does_not_become_complete(tmp_path):
    store = Store(tmp_path, memory=1 << 20, disk=0)
    result = Result("result", "UVA", store.spool(), lambda _: None)
    bring(result, LARGE.slice(0, 10), JobFailed("crashed"))
    with pytest.raises(JobFailed):
        result.close()
    assert not result.fault
    assert store.in_memory == 0


def test_who_reads_may_read_on_when_a_result_is_removed(tmp_path):
    result, _ = made(tmp_path, LARGE, memory=0)
    chunks = result.spool.chunks()
    first = next(chunks)
    result.drop()
    assert len(first) + sum(len(chunk) for chunk in chunks) == result.spool.size
    with pytest.raises(Cancelled):
        read(result)


def test_waiters_are_woken_from_receivers_threads(tmp_path):
    async def work():
        results = Results(Store(tmp_path, memory=1 << 20, disk=0), ManualClock(), age=60, longest=60)
        delivery = results.expect("job", "ann", "digest")
        sink = results.admit("job", "result", "UVA")
        thread = threading.Thread(target=bring, args=(sink, pa.table({"n": [1]})))
        thread.start()
        done = lambda seen: seen.results["result"].phase is Phase.COMPLETE  # noqa: E731
        await delivery.until(done, within=10, what="the result")
        thread.join()

    asyncio.run(work())


def test_text_forms_are_json_for_every_type(tmp_path):
    table = pa.Table.from_batches([EVERY_TYPE])
    result, _ = made(tmp_path, table)
    objects = json.loads(b"".join(media.json(result)))
    assert [json.loads(line) for line in b"".join(media.ndjson(result)).splitlines()] == objects
    assert [row["int"] for row in objects] == [1, None, -3]
    assert [row["big"] for row in objects] == [2**63, 0, None]
    assert [row["float"] for row in objects] == [1.5, None, None]
    assert [row["decimal"] for row in objects] == [1.2, None, -0.05]
    assert [row["text"] for row in objects] == EVERY_TYPE["text"].to_pylist()
    assert [row["word"] for row in objects] == ["x", "y", None]
    assert [row["date"] for row in objects] == ["2013-01-01", None, "1969-07-20"]
    assert objects[0]["at"] == "2013-01-01T05:00:00"
    assert objects[0]["utc"] == "2013-01-01T05:00:00Z"
    assert objects[0]["list"] == [1, None]
    assert objects[2]["struct"] == {"a": None, "b": None}
    assert objects[0]["bytes"] == "AP8="
    assert objects[0]["nothing"] is None


def test_upstreams_rows_are_all_texts(tmp_path):
    result, _ = made(tmp_path, pa.Table.from_batches([EVERY_TYPE]))
    table = json.loads(b"".join(texts.text(result)))
    assert table[0] == EVERY_TYPE.schema.names
    assert len(table) == 4
    assert all(isinstance(cell, str) for row in table for cell in row)
    outer = json.loads(b"".join(texts.quoted(texts.text(result))))
    assert json.loads(outer) == table


def test_csv_takes_every_type(tmp_path):
    result, _ = made(tmp_path, pa.Table.from_batches([EVERY_TYPE]))
    content = b"".join(media.csv(result))
    options = pa.csv.ParseOptions(newlines_in_values=True)
    again = pa.csv.read_csv(io.BytesIO(content), parse_options=options)
    assert again.column_names == EVERY_TYPE.schema.names
    assert again["text"].to_pylist() == EVERY_TYPE["text"].to_pylist()
    assert again["bytes"][0].as_py() == "AP8="


@pytest.mark.parametrize("form", media.FORMS, ids=lambda form: form.name)
def test_every_form_is_written_in_pieces(tmp_path, form):
    result, _ = made(tmp_path, pa.concat_tables([LARGE] * 3), memory=0)
    sizes = [len(piece) for piece in form.write(result)]
    assert len(sizes) > 3
    assert max(sizes) < max(CHUNK_BYTES, sum(sizes) / 2)


@pytest.mark.parametrize("form", media.FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("table", [pa.table({"n": pa.array([], pa.int64())}), pa.table({})], ids=["no rows", "nothing"])
def test_empty_results_are_written_too(tmp_path, form, table):
    result, _ = made(tmp_path, table)
    content = b"".join(form.write(result))
    if form.name == "json":
        assert json.loads(content) == []
    assert json.loads(b"".join(texts.text(result))) == [table.column_names]


def test_a_slice_is_written_as_its_own_rows():
    batch = EVERY_TYPE.slice(1, 1)
    assert rows.objects(batch, "\n").count(b"\n") == 1
    assert json.loads(rows.objects(batch, ""))["text"] == "line\nbreak\x01"


def test_columns_without_members_make_empty_objects():
    batch = pa.record_batch([pa.array([1, 2])], names=["n"]).select([])
    assert rows.objects(batch, ",") in (b"{},{},", b"")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/*", "csv"),
        ("application/*;q=0.5, text/csv", "csv"),
        ("application/json;q=0.1, application/x-ndjson", "ndjson"),
        ("application/vnd.apache.arrow.stream", "arrow"),
        ("*/*;q=0.1, application/json;q=0", "ndjson"),
        ("text/csv;q=broken, application/json;q=0.1", "json"),
        ("TEXT/CSV", "csv"),
    ],
)
def test_the_form_follows_the_header(tmp_path, accept, wanted):
    result, _ = made(tmp_path, LARGE.slice(0, 1))
    assert media.choose(result, accept=accept).name == wanted


def test_errors_of_a_sink_are_ours(tmp_path):
    store = Store(tmp_path, memory=1 << 20, disk=0)
    result = Result("result", "UVA", store.spool(), lambda _: None)
    result.open(pa.schema([("n", pa.int64())]))
    with pytest.raises(DynamosError, match="not sound Arrow"):
        result.write(pa.record_batch({"other": ["x"]}))
