"""Results as upstream writes them: JSON in a text. Given piece by piece, however large they are."""

from __future__ import annotations

from collections.abc import Iterator

from dynamos.middleware.api import media, rows
from dynamos.middleware.api.bodies import dumps
from dynamos.middleware.api.results import Result


def text(result: Result) -> Iterator[bytes]:
    """Give the text of one result: an object for a record, rows of strings below a header for a table, and a picture
    with its media type for a chart."""
    match result.shape:
        case "record":
            return _record(result)
        case "chart":
            return _chart(result)
        case _:
            return _table(result)


def quoted(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Give a JSON text as a JSON string, piece by piece: inner texts have no bare control characters."""
    yield b'"'
    for piece in pieces:
        yield piece.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    yield b'"'


def _record(result: Result) -> Iterator[bytes]:
    """A value that is absent is left out, as upstream leaves out a sex without rows."""
    for piece in media.pieces(result):
        first = piece.slice(0, 1)
        columns = zip(first.schema.names, first.columns, strict=True)
        cells = {name: rows.texts(column)[0].as_py() for name, column in columns}
        yield dumps({name: cell for name, cell in cells.items() if cell is not None})
        return
    yield b"{}"


def _table(result: Result) -> Iterator[bytes]:
    assert result.schema is not None
    yield b"[" + dumps(list(result.schema.names))
    for piece in media.pieces(result):
        yield b"," + rows.arrays_of_texts(piece, ",")[:-1]
    yield b"]"


def _chart(result: Result) -> Iterator[bytes]:
    media_type, data = media.chart(result)
    yield dumps({"mediaType": media_type, "data": media.chart_text(data)})
