"""The methods of anonymisation: each makes of a column's type a function over its values. Nulls stay null."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from dynamos.kit.errors import BadInput
from dynamos.model.datasets import Rule

Change = Callable[[pa.Array], pa.Array]

STARS = "***"
"""What mask shows of the hidden part, whatever its length: the length would tell something too."""

_PSEUDONYM_BYTES = 16


def step(column: str, rule: Rule, *, key: bytes, kind: pa.DataType) -> Change | None:
    """Give the function that anonymises a column of type `kind`, None to drop it. Raises BadInput where it cannot."""
    if rule.method == "drop":
        return None
    size = rule.size
    if rule.method == "generalise":
        return _generalise(column, size, _plain(kind))
    _texts(pa.array([], kind), column)
    if rule.method == "truncate":
        return lambda values: pc.utf8_slice_codeunits(_texts(values, column), 0, size)
    if rule.method == "mask":
        return lambda values: _mask(_texts(values, column), size or 0)
    if not key:
        raise BadInput(
            "hash needs the party's key",
            where=f"rules.{column}",
            hint="without a key, pseudonyms can be undone by trying all values",
        )
    return lambda values: _pseudonyms(_texts(values, column), key)


def apply(batch: pa.RecordBatch, steps: Mapping[str, Change | None]) -> pa.RecordBatch:
    """Give the batch with each step applied to its column."""
    columns = {}
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        change = steps.get(name, _same)
        if change is not None:
            columns[name] = change(values)
    if not columns:
        raise BadInput("the rules drop every column", where="rules", hint="ask for a column that is not sensitive")
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _same(values: pa.Array) -> pa.Array:
    return values


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _texts(values: pa.Array, column: str) -> pa.Array:
    """Give the text form of each value: what CAST(... AS VARCHAR) shows a person."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    try:
        return pc.cast(values, pa.string())
    except pa.ArrowNotImplementedError:
        raise BadInput(
            f"values of type {values.type} have no text form", where=f"rules.{column}", hint="drop the column"
        ) from None


def _mask(texts: pa.Array, size: int) -> pa.Array:
    """Keep the last `size` characters (the first, where it is below 0), and nothing of a text that is no longer."""
    if size == 0:
        shown = pc.if_else(pc.is_valid(texts), "", None)
        return pc.binary_join_element_wise(STARS, shown, "")
    shown = pc.utf8_slice_codeunits(texts, -size) if size > 0 else pc.utf8_slice_codeunits(texts, 0, -size)
    shown = pc.if_else(pc.less_equal(pc.utf8_length(texts), abs(size)), "", shown)
    ends = (STARS, shown) if size > 0 else (shown, STARS)
    return pc.binary_join_element_wise(*ends, "")


def _pseudonyms(texts: pa.Array, key: bytes) -> pa.Array:
    """Give keyed BLAKE2b of each text in hexadecimal: the same for the same value and key."""
    encoded = texts.dictionary_encode()
    secret = hashlib.blake2b(key).digest()
    known = [
        hashlib.blake2b(value.encode(), key=secret, digest_size=_PSEUDONYM_BYTES).hexdigest()
        for value in encoded.dictionary.to_pylist()
    ]
    return pa.array(known, pa.string()).take(encoded.indices)


def _generalise(column: str, size: int | None, kind: pa.DataType) -> Change:
    """Give numbers as the lower end of their bin of `size`, and dates as their year (or the first of `size` years)."""
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        return lambda values: _bins(pc.cast(pc.year(_decoded(values)), pa.int64()), size or 1)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise BadInput(
            f"generalise takes numbers and dates, and {column!r} is {kind}",
            where=f"rules.{column}",
            hint="truncate or mask a text",
        )
    if size is None:
        raise BadInput("generalise needs a size: the width of a bin", where=f"rules.{column}")
    target = pa.int64() if pa.types.is_integer(kind) else pa.float64()
    return lambda values: _bins(pc.cast(_decoded(values), target), size)


def _decoded(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _bins(values: pa.Array, size: int) -> pa.Array:
    if pa.types.is_floating(values.type):
        return pc.multiply(pc.floor(pc.divide(values, float(size))), float(size))
    # Integer division goes towards zero, bins go towards minus infinity.
    rest = pc.subtract(values, pc.multiply(pc.divide(values, size), size))
    rest = pc.if_else(pc.less(rest, 0), pc.add(rest, size), rest)
    return pc.subtract_checked(values, rest)
