"""The forms in which a result can be had, and which of them a client gets. Each is written batch by batch."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
from pyarrow import parquet

from dynamos.kit.errors import JobFailed
from dynamos.kit.words import suggest
from dynamos.middleware.api import rows
from dynamos.middleware.api.errors import NotAcceptable
from dynamos.middleware.api.results import Result

Writer = Callable[[Result], Iterator[bytes]]
ROWS_OF_A_GROUP = 131072
CHART = "chart"


@dataclass(frozen=True, slots=True)
class Form:
    """A representation: what `format=` calls it, its media type, and how it is written."""

    name: str
    media_type: str
    write: Writer


class _Pieces(io.RawIOBase):
    """A file that hands out what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        """Give what has been written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def arrow(result: Result) -> Iterator[bytes]:
    """Give the Arrow IPC stream, as it arrived."""
    return result.spool.chunks()


def csv(result: Result) -> Iterator[bytes]:
    """Give CSV with a header; nested values are JSON texts."""
    with result.reader() as batches:
        pieces = _Pieces()
        schema = pa.schema([pa.field(field.name, _csv_type(field.type)) for field in batches.schema])
        with arrow_csv.CSVWriter(pieces, schema) as writer:
            for batch in batches:
                columns = [_csv_column(column) for column in batch.columns]
                writer.write_batch(pa.record_batch(columns, schema=schema))
                yield pieces.take()
        yield pieces.take()


def _csv_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _csv_type(kind.value_type)
    plain = pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return kind if plain and not pa.types.is_duration(kind) and not pa.types.is_float16(kind) else rows.TEXT


def _csv_column(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return _csv_column(column.dictionary_decode())
    return column if _csv_type(column.type) == column.type else rows.texts(column)


def as_parquet(result: Result) -> Iterator[bytes]:
    """Give a Parquet file with row groups of a bounded size."""
    with result.reader() as batches:
        pieces = _Pieces()
        with parquet.ParquetWriter(pieces, batches.schema) as writer:
            for group in _groups(batches):
                writer.write_table(group)
                yield pieces.take()
        yield pieces.take()


def _groups(batches: pa.RecordBatchReader) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= ROWS_OF_A_GROUP:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def json(result: Result) -> Iterator[bytes]:
    """Give one JSON array of objects."""
    yield b"["
    comma = b""
    for text in _objects(result, ",\n"):
        yield comma + text[:-2]
        comma = b",\n"
    yield b"]\n"


def ndjson(result: Result) -> Iterator[bytes]:
    """Give one JSON object per line."""
    return _objects(result, "\n")


def _objects(result: Result, separator: str) -> Iterator[bytes]:
    for piece in pieces(result):
        yield rows.objects(piece, separator)


def pieces(result: Result) -> Iterator[pa.RecordBatch]:
    """Give the rows, few enough at once to be written as text."""
    with result.reader() as batches:
        for batch in batches:
            for start in range(0, batch.num_rows, rows.ROWS_AT_ONCE):
                yield batch.slice(start, rows.ROWS_AT_ONCE)


def first_row(result: Result) -> dict[str, Any]:
    """Give the first row as members, empty where there is none."""
    for piece in pieces(result):
        found: dict[str, Any] = piece.slice(0, 1).to_pylist()[0]
        return found
    return {}


def chart(result: Result) -> tuple[str, bytes]:
    """Give media type and content of a chart. Raises JobFailed where the service made none."""
    row = {name.lower().replace("_", ""): value for name, value in first_row(result).items()}
    data = row.get("data")
    if not isinstance(data, bytes | str):
        raise JobFailed("the chart has no picture in it", where=result.party, code="bad-result")
    return str(row.get("mediatype") or "image/svg+xml"), data.encode() if isinstance(data, str) else data


def chart_text(data: bytes) -> str:
    """Give a picture as text: as it is if it is text, else in base64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


FORMS = (
    Form("json", "application/json", json),
    Form("ndjson", "application/x-ndjson", ndjson),
    Form("csv", "text/csv", csv),
    Form("arrow", "application/vnd.apache.arrow.stream", arrow),
    Form("parquet", "application/vnd.apache.parquet", as_parquet),
)
ARROW = FORMS[3]
SVG = Form("image", "image/svg+xml", lambda result: iter((chart(result)[1],)))


def forms_of(result: Result) -> tuple[Form, ...]:
    """Give the forms in which this result can be had, the preferred one first."""
    if result.shape != CHART:
        return FORMS
    media_type, data = chart(result)
    return (Form("image", media_type, lambda _: iter((data,))), *FORMS)


def choose(result: Result, *, accept: str, name: str = "") -> Form:
    """Give the form that a client wants: the one named, else by its `Accept`. Raises NotAcceptable with what there
    is."""
    forms = forms_of(result)
    if name:
        found = next((form for form in forms if name.lower() in (form.name, form.media_type)), None)
        if found is None:
            hint = suggest(name, [form.name for form in forms]) or _offer(forms)
            raise NotAcceptable(f"there is no format {name!r}", where="format", hint=hint)
        return found
    best = max(forms, key=lambda form: (quality(form.media_type, accept), -forms.index(form)))
    if quality(best.media_type, accept) <= 0:
        raise NotAcceptable(f"the result cannot be given as {accept!r}", where="Accept", hint=_offer(forms))
    return best


def _offer(forms: tuple[Form, ...]) -> str:
    return "there is " + ", ".join(f"{form.name} ({form.media_type})" for form in forms)


def quality(media_type: str, accept: str) -> float:
    """Give how much an `Accept` header wants a media type, from 0 to 1 (RFC 9110, 12.5.1); all of it if empty."""
    best = (-1, 0.0)
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        pattern, *parameters = (word.strip().lower() for word in part.split(";"))
        rank = _rank(pattern, media_type)
        if rank > best[0]:
            best = (rank, _weight(parameters))
    return best[1]


def _rank(pattern: str, media_type: str) -> int:
    """Tell how closely a pattern names a media type; -1 for not at all."""
    if pattern == media_type:
        return 2
    if pattern == f"{media_type.partition('/')[0]}/*":
        return 1
    return 0 if pattern == "*/*" else -1


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
