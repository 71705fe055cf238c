"""Record batches as JSON text, column by column: no Python object is made for a cell that has a plain type."""

from __future__ import annotations

import base64
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ROWS_AT_ONCE = 8192
TEXT = pa.large_string()
_CONTROL = r"[\x00-\x1f]"


def objects(batch: pa.RecordBatch, separator: str) -> bytes:
    """Give each row as a JSON object with the column names as members, and `separator` after each."""
    members: list[Any] = []
    for number, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True)):
        members += [f"{',' if number else '{'}{json.dumps(name, ensure_ascii=False)}:", values(column)]
    return _joined([*members, f"}}{separator}"], f"{{}}{separator}", batch.num_rows, absent="null")


def arrays_of_texts(batch: pa.RecordBatch, separator: str) -> bytes:
    """Give each row as a JSON array of strings, whatever the columns' types, and `separator` after each."""
    members: list[Any] = []
    for number, column in enumerate(batch.columns):
        members += ["," if number else "[", _literals(column)]
    return _joined([*members, f"]{separator}"], f"[]{separator}", batch.num_rows, absent='""')


def _joined(members: list[Any], empty: str, count: int, *, absent: str) -> bytes:
    if len(members) == 1:
        return empty.encode() * count
    return content(_join(members, null_handling="replace", null_replacement=absent))


def _join(members: list[Any], **options: Any) -> pa.Array:
    literals = [pa.scalar(member, TEXT) if isinstance(member, str) else member for member in members]
    return pc.binary_join_element_wise(*literals, pa.scalar("", TEXT), **options)


def content(column: pa.Array) -> bytes:
    """Give all values of a text column, one behind the other."""
    column = column.cast(TEXT)
    _, offsets, data = column.buffers()
    if not len(column) or data is None:
        return b""
    ends = memoryview(offsets).cast("q")
    first, last = ends[column.offset], ends[column.offset + len(column)]
    return bytes(data.slice(first, last - first))


def values(column: pa.Array) -> pa.Array:
    """Give the JSON text of each value; null stays null, and so becomes what is not finite."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return values(column.dictionary_decode())
    if pa.types.is_floating(kind):
        numbers = column.cast(pa.float64())
        return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64())).cast(TEXT)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return column.cast(TEXT)
    if _is_text(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        return quoted(texts(column))
    return _one_by_one(column)


def texts(column: pa.Array) -> pa.Array:
    """Give each value as people would write it; null stays null. Times are ISO 8601."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return texts(column.dictionary_decode())
    if pa.types.is_timestamp(kind):
        return pc.replace_substring(column.cast(TEXT), pattern=" ", replacement="T", max_replacements=1)
    if _is_text(kind) or (pa.types.is_primitive(kind) and not pa.types.is_duration(kind)) or pa.types.is_decimal(kind):
        return column.cast(TEXT)
    if pa.types.is_null(kind):
        return column.cast(TEXT)
    return _one_by_one(column, bare=True)


def _literals(column: pa.Array) -> pa.Array:
    """Give each value's text as a JSON string; digits need no care."""
    if pa.types.is_primitive(column.type):
        return _join(['"', texts(column), '"'])
    return quoted(texts(column))


def quoted(column: pa.Array) -> pa.Array:
    """Give each text as a JSON string."""
    escaped = pc.replace_substring(column, pattern="\\", replacement="\\\\")
    escaped = pc.replace_substring(escaped, pattern='"', replacement='\\"')
    if pc.any(pc.match_substring_regex(escaped, pattern=_CONTROL)).as_py():
        literals = [None if text is None else json.dumps(text, ensure_ascii=False) for text in column.to_pylist()]
        return pa.array(literals, TEXT)
    return _join(['"', escaped, '"'])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _one_by_one(column: pa.Array, *, bare: bool = False) -> pa.Array:
    """Give the JSON text of values of nested and rare types; with `bare`, a text without its quotes."""
    plain = [_plain(value) for value in column.to_pylist()]
    literals = [
        value if value is None or (bare and isinstance(value, str)) else json.dumps(value, ensure_ascii=False)
        for value in plain
    ]
    return pa.array(literals, TEXT)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(name): _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(member) for member in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
