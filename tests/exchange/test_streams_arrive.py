"""What is sent arrives: every type, any number of rows, several at once, over one connection."""

from __future__ import annotations

import asyncio
import os

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.exchange.sinks import CollectSink, PipeSink
from dynamos.exchange.wire import PIECE
from dynamos.kit.errors import JobFailed
from support.exchanges import Relay, pair, raw, written
from support.identities import issue_all


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    return issue_all(tmp_path_factory.mktemp("units"), "orchestrator", "united", "delta", "clearing")


def tables():
    """Tables of any types that services use, nested up to two levels."""
    leaf = st.sampled_from(
        [
            (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
            (pa.float64(), st.floats(allow_nan=False)),
            (pa.string(), st.text(max_size=20)),
            (pa.large_string(), st.text(max_size=5)),
            (pa.string_view(), st.text(max_size=30)),
            (pa.binary(), st.binary(max_size=20)),
            (pa.bool_(), st.booleans()),
            (pa.null(), st.none()),
            (pa.date32(), st.dates()),
            (pa.decimal128(10, 2), st.decimals(-1000, 1000, places=2)),
            (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", "c"])),
            (pa.dictionary(pa.int8(), pa.string(), ordered=True), st.sampled_from(["x", "y"])),
        ]
    )
    # A null struct over a dictionary without words is what Arrow's own check refuses; it has a test of its own.
    nested = leaf.flatmap(
        lambda pair: st.sampled_from(
            [
                pair,
                (pa.list_(pair[0]), st.lists(pair[1] | st.none(), max_size=3)),
                (pa.struct([("a", pair[0]), ("b", pa.int8())]), structs(pair)),
                (pa.map_(pa.string(), pair[0]), st.lists(st.tuples(st.text(max_size=3), pair[1]), max_size=2)),
            ]
        )
    )

    def structs(pair):
        return st.fixed_dictionaries({"a": pair[1] | st.none(), "b": st.just(1)})

    def optional(kind, values):
        over_words = pa.types.is_struct(kind) and pa.types.is_dictionary(kind.field(0).type)
        return values if over_words else values | st.none()

    def fill(kinds):
        rows = st.integers(0, 12)
        return rows.flatmap(
            lambda count: st.tuples(
                *(st.lists(optional(kind, values), min_size=count, max_size=count) for kind, values in kinds)
            ).map(lambda columns: table(kinds, columns))
        )

    def table(kinds, columns):
        arrays = [pa.array(column, type=kind) for (kind, _), column in zip(kinds, columns, strict=True)]
        fields = [pa.field(f"c{i}", kind, metadata={"unit": "m"}) for i, (kind, _) in enumerate(kinds)]
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={"from": "test"}))

    return st.lists(nested, min_size=1, max_size=4).flatmap(fill)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(table=tables(), chunk=st.integers(1, 5), compression=st.sampled_from(["none", "lz4", "zstd"]))
def test_every_type_arrives_as_it_was_sent(units, table, chunk, compression):
    async def run():
        async with pair(units) as both:
            source = written(table.schema, table.to_batches(max_chunksize=chunk))
            transfer = await both.send(source, compression=compression)
            assert both.sink.complete
            assert both.sink.error is None
            assert both.sink.schema.equals(table.schema, check_metadata=True)
            assert both.sink.table().equals(table)
            assert (transfer.edge, transfer.rows) == ("rows", table.num_rows)

    asyncio.run(run())


def test_a_null_struct_over_a_dictionary_without_words_is_refused_with_arrows_reason(units):
    """pyarrow makes such arrays, with an index that points nowhere under the null, and its own check refuses them."""

    async def run():
        kind = pa.struct([("word", pa.dictionary(pa.int32(), pa.string()))])
        batch = pa.record_batch([pa.array([None], kind)], names=["s"])
        async with pair(units) as both:
            with pytest.raises(JobFailed, match="out of bounds") as caught:
                await both.send(written(batch.schema, [batch]))
            assert caught.value.detail_code == "not-arrow"
            assert not both.sink.complete

    asyncio.run(run())


def test_a_stream_without_batches_arrives_with_its_schema(units):
    async def run():
        async with pair(units) as both:
            schema = pa.schema([("a", pa.int64()), ("d", pa.dictionary(pa.int8(), pa.string()))])
            transfer = await both.send(written(schema, []))
            assert (both.sink.complete, both.sink.schema, both.sink.batches) == (True, schema, [])
            assert (transfer.rows, transfer.bytes) == (0, 0)

    asyncio.run(run())


def test_rows_without_columns_are_counted(units):
    async def run():
        batch = pa.RecordBatch.from_struct_array(pa.array([{}] * 7, type=pa.struct([])))
        async with pair(units) as both:
            transfer = await both.send(written(batch.schema, [batch, batch]))
            assert transfer.rows == 14
            assert sum(batch.num_rows for batch in both.sink.batches) == 14

    asyncio.run(run())


def test_a_dictionary_that_changes_on_the_way_arrives(units):
    async def run():
        kind = pa.dictionary(pa.int8(), pa.string())
        schema = pa.schema([("d", kind)])
        batches = [
            pa.record_batch([pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), words)], schema=schema)
            for words in (["a", "b"], ["c", "d"], ["c", "d"])
        ]
        async with pair(units) as both:
            await both.send(written(schema, batches))
            assert both.sink.table().column(0).to_pylist() == ["a", "b", "c", "d", "c", "d"]

    asyncio.run(run())


def test_a_large_batch_arrives_in_pieces_with_the_same_rows(units):
    async def run():
        batch = pa.record_batch({"n": pa.array(range(700_000)), "s": pa.array(["row"] * 700_000)})
        assert batch.nbytes > 2 * PIECE
        async with pair(units) as both:
            transfer = await both.send(written(batch.schema, [batch]))
            assert both.sink.table().equals(pa.Table.from_batches([batch]))
            assert max(piece.nbytes for piece in both.sink.batches) <= PIECE
            assert transfer.rows == 700_000
            assert transfer.bytes >= batch.nbytes

    asyncio.run(run())


def test_compression_makes_what_is_sent_smaller(units):
    async def sent(compression):
        async with pair(units) as both:
            with Relay(both.receiver.port) as relay:
                batch = pa.record_batch({"s": ["the same text again"] * 50_000})
                await both.send(written(batch.schema, [batch]), address=relay.address, compression=compression)
                assert both.sink.table().num_rows == 50_000
                return relay.count

    none, lz4, zstd = (asyncio.run(sent(compression)) for compression in ("none", "lz4", "zstd"))
    assert none > 1_000_000
    assert lz4 < none / 5
    assert zstd < none / 5


def test_streams_at_the_same_time_do_not_mix(units):
    async def run():
        async with pair(units) as both:
            edges = [f"rows-{i}" for i in range(6)]
            for edge in edges:
                both.door.sinks["job-1", edge] = CollectSink()
            batches = {edge: pa.record_batch({"edge": [edge] * 3000}) for edge in edges}
            await asyncio.gather(
                *(
                    both.send(written(batch.schema, [batch] * 5), edge=edge, grant=both.grant(edge=edge))
                    for edge, batch in batches.items()
                )
            )
            for edge in edges:
                column = both.door.sinks["job-1", edge].table().column(0)
                assert (len(column), column.unique().to_pylist()) == (15_000, [edge])

    asyncio.run(run())


def test_the_receiver_knows_the_sender_by_its_certificate(units):
    async def run():
        async with pair(units) as both:
            batch = pa.record_batch({"a": [1]})
            await both.send(written(batch.schema, [batch]))
            (arrival,) = both.door.arrivals
            assert (arrival.peer, arrival.job, arrival.edge) == ("united", "job-1", "rows")

    asyncio.run(run())


def test_a_pipe_sink_gives_a_step_the_whole_stream(units):
    async def run():
        reading, writing = os.pipe()
        table = pa.table({"n": list(range(200_000)), "d": pa.array(["x", "y"] * 100_000).dictionary_encode()})

        def step():
            with os.fdopen(reading, "rb") as file, pa.ipc.open_stream(file) as stream:
                return stream.read_all()

        async with pair(units, PipeSink(writing)) as both:
            got, _ = await asyncio.gather(
                asyncio.to_thread(step), both.send(written(table.schema, table.to_batches(max_chunksize=9_000)))
            )
            assert got.equals(table)

    asyncio.run(run())


def test_an_end_without_end_mark_counts_if_the_step_ended_well(units):
    """Arrow allows it: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format"""

    async def run():
        batch = pa.record_batch({"a": [1, 2]})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        content = sink.getvalue().to_pybytes()
        async with pair(units) as both:
            transfer = await both.send(raw(content[:-8]))
            assert (transfer.rows, both.sink.complete) == (2, True)

    asyncio.run(run())


def test_a_peer_that_restarts_is_found_again(units):
    async def run():
        batch = pa.record_batch({"a": [1]})
        async with pair(units) as first:
            await first.send(written(batch.schema, [batch]))
            port = first.receiver.port
            await first.receiver.close()
            async with pair(units, port=port) as second:
                await second.send(written(batch.schema, [batch]), sender=first.sender)
                assert second.sink.complete

    asyncio.run(run())
