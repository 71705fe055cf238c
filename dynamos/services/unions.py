"""Several streams as one: their schemas joined by the names of columns, their batches as they come."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dynamos.kit.errors import BadInput, Mistake, Mistakes
from dynamos.kit.words import suggest
from dynamos.services.streams import Stream

_WAITING_BATCHES = 2


def joined(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """Give the schema that holds the rows of all providers: the names of the first, and of each column the widest type.

    Integers widen to 64 bits, then to double, then everything to string. Raises Mistakes that name the provider for
    every column that is not everywhere.
    """
    (first, model), *others = schemas
    mistakes = [
        Mistake(f"{provider}.{column}", "two of its columns have this name")
        for provider, schema in schemas
        for column in sorted({name for name in schema.names if schema.names.count(name) > 1})
    ]
    for provider, schema in others:
        for here, there, where in ((model, schema, provider), (schema, model, first)):
            mistakes += [
                Mistake(f"{where}.{column}", f"{where} has no such column", suggest(column, there.names))
                for column in here.names
                if column not in there.names
            ]
    if mistakes:
        raise Mistakes(list(dict.fromkeys(mistakes)), subject="the union")
    return pa.schema([_widest(name, [schema.field(name) for _, schema in schemas]) for name in model.names])


def fitted(batch: pa.RecordBatch, schema: pa.Schema, provider: str) -> pa.RecordBatch:
    """Give the batch in the order and the types of `schema`. Raises BadInput where a value does not fit exactly."""
    arrays = []
    for field in schema:
        values = batch.column(field.name)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        try:
            arrays.append(values if values.type == field.type else pc.cast(values, field.type))
        except pa.ArrowInvalid:
            raise BadInput(
                f"a value of {values.type} does not fit {field.type}, which another provider has",
                where=f"{provider}.{field.name}",
                hint="cast the column in the query, for example CAST(x AS VARCHAR)",
            ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def interleaved(streams: Mapping[str, Stream]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Give the batches of all streams with the names of their streams, as they come.

    A thread for each stream reads ahead one batch, and two more wait for all, so that a slow stream keeps no other
    waiting, and memory stays bounded. Raises what a stream raises, at once.
    """
    arrivals = _Arrivals()
    for name, stream in streams.items():
        # Daemons: a thread that waits for a stream ends when the runner ends the stream's writer, not before.
        threading.Thread(target=_drain, args=(name, stream, arrivals), daemon=True).start()
    left = len(streams)
    try:
        while left:
            name, arrived = arrivals.take()
            if arrived is None:
                left -= 1
            elif isinstance(arrived, Exception):
                raise arrived
            else:
                yield name, arrived
    finally:
        arrivals.stop()


_Arrival = tuple[str, pa.RecordBatch | Exception | None]
"""The name of a stream, and its next batch, or what it raised, or None at its end."""


class _Arrivals:
    """A short queue whose writers can be sent home."""

    def __init__(self) -> None:
        self._waiting: deque[_Arrival] = deque()
        self._changed = threading.Condition()
        self._stopped = False

    def put(self, arrival: _Arrival) -> bool:
        """Wait for room and hand over; give False where nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or len(self._waiting) < _WAITING_BATCHES)
            self._waiting.append(arrival)
            self._changed.notify_all()
            return not self._stopped

    def take(self) -> _Arrival:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting))
            self._changed.notify_all()
            return self._waiting.popleft()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _drain(name: str, stream: Stream, arrivals: _Arrivals) -> None:
    try:
        for batch in stream:
            if not arrivals.put((name, batch)):
                return
        arrivals.put((name, None))
    except Exception as error:  # noqa: BLE001  the top of a thread: raised again in the one that takes
        arrivals.put((name, error))


def _widest(name: str, fields: list[pa.Field]) -> pa.Field:
    kinds = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in fields]
    known = list(dict.fromkeys(kind for kind in kinds if not pa.types.is_null(kind)))
    if len(known) <= 1:
        return pa.field(name, known[0] if known else pa.null())
    try:
        unified = pa.unify_schemas([pa.schema([pa.field(name, kind)]) for kind in known], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.field(name, pa.string())
    return pa.field(name, unified.field(name).type)
