"""What the command line prints: answers on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from dynamos.kit.errors import DynamosError

if TYPE_CHECKING:
    from threading import Timer

    from rich.console import Console
    from rich.status import Status
    from rich.table import Table
    from rich.text import Text

WIDTH_WITHOUT_TERMINAL = 100


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How to print the answer.")]


def console(*, error: bool = False, record: bool = False) -> Console:
    """Give a console for standard output (or error): colour only on a terminal that wants it, or for a record."""
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    plain = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(
        stderr=error,
        highlight=False,
        width=WIDTH_WITHOUT_TERMINAL if plain or record else None,
        record=record,
        force_terminal=record or None,
        color_system="truecolor" if record else "auto",
    )


def print_json(value: Any) -> None:
    """Print one JSON value and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", empty: str = "") -> None:
    """Print a table that keeps to the width of the terminal; `empty` where there are no rows."""
    shown, out = list(rows), console()
    if title:
        out.print(styled(title, "bold"))
    out.print(styled(empty, "dim") if not shown and empty else table(columns, shown))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Give a table without lines; columns of numbers keep to the right."""
    from rich.table import Table
    from rich.text import Text

    shown = [[cell if isinstance(cell, Text) else Text(_text(cell)) for cell in row] for row in rows]
    made = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        numeric = bool(shown) and all(_is_number(row[place].plain) for row in shown)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in shown:
        made.add_row(*row)
    return made


def print_facts(facts: Mapping[str, object], *, title: str = "") -> None:
    """Print names and values, one a line, empty ones left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, box=None, pad_edge=False, show_header=False, title_justify="left")
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value not in ("", None, [], {}, ()):
            table.add_row(name, value if isinstance(value, Text) else Text(_text(value)))
    console().print(table)


def save_picture(out: Console, path: Path, *, title: str) -> None:
    """Write what a recording console has shown as an SVG that needs no font from elsewhere."""
    import re

    from dynamos.deploy.states import explained

    picture = re.sub(r"@font-face\s*\{[^}]*\}", "", out.export_svg(title=title))
    with explained(path):
        path.write_text(re.sub(r"\n\s*\n+", "\n", picture), encoding="utf-8")


def note(text: str) -> None:
    """Say something that is not the answer, on standard error."""
    from rich.text import Text

    console(error=True).print(Text(text, style="dim"))


def print_error(error: DynamosError) -> None:
    """Say what is wrong, where, why, and what to do, on standard error."""
    from rich.text import Text

    out = console(error=True)
    place = f"{error.where}: " if error.where else ""
    code = f"[{error.detail_code or error.code}] "
    out.print(Text.assemble(("error ", "bold red"), (code, "red"), place, error.message))
    for mistake in _dicts(error.facts.get("mistakes")):
        hint = f" ({mistake['hint']})" if mistake.get("hint") else ""
        out.print(Text(f"  {mistake.get('where', '')}: {mistake.get('message', '')}{hint}"))
    for reason in _dicts(error.facts.get("reasons")):
        print_reason(out, reason)
    for line in error.facts.get("log") or ():
        out.print(Text(f"  | {line}", style="dim"))
    if error.hint:
        out.print(Text.assemble(("hint ", "bold"), error.hint))


def print_reason(out: Console, reason: Mapping[str, Any]) -> None:
    """Say why one party refuses: the clause, the fact, and the smallest change that would permit it."""
    from rich.table import Table
    from rich.text import Text

    facts = {name: reason[name] for name in ("clause", "fact", "remedy") if reason.get(name)}
    if position := reason.get("position"):
        facts["place"] = f"line {position[0]}, column {position[1]} of the query"
    grid = Table.grid(padding=(0, 1, 0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in facts.items():
        grid.add_row(f"  {name}", Text(str(text)))
    out.print(Text.assemble("  ", (str(reason.get("party", "")), "bold"), f": {reason.get('message', '')}"))
    out.print(grid)


class Progress:
    """Shows that work goes on, once it has taken longer than `after` seconds; nothing where nobody looks."""

    def __init__(self, text: str, *, after: float = 1.0) -> None:
        self._text = text
        self._after = after
        self._status: Status | None = None
        self._timer: Timer | None = None

    def say(self, text: str) -> None:
        """Say what the work is at now."""
        if self._status:
            self._status.update(text)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from threading import Timer

            self._status = console(error=True).status(self._text)
            self._timer = Timer(self._after, self._status.start)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer and self._status:
            self._timer.cancel()
            self._timer.join()
            self._status.stop()


def styled(text: str, style: str) -> Text:
    """Give a text that has a colour where there are colours."""
    from rich.text import Text

    return Text(text, style=style)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"  # noqa: PLR2004
    if isinstance(value, list | tuple | set):
        return ", ".join(map(str, value))
    return str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == ""
    return True


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list | tuple) else []
