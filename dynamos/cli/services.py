"""`service`: the services that are installed, and the start of one of your own."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from dynamos.cli.shows import Format
from dynamos.kit.errors import BadInput, Conflict

service = typer.Typer(help="List services, begin one of your own.", no_args_is_help=True)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME = 40


class Label(StrEnum):
    """Which part of a chain a service belongs to."""

    PROVIDER = "dataProvider"
    COMPUTE = "computeProvider"


def add(app: typer.Typer) -> None:
    app.add_typer(service, name="service")


@service.command("list")
def list_services(
    format: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.TABLE,  # noqa: A002
) -> None:
    """List the services that are installed on this machine."""
    from dynamos.cli.shows import print_json, print_table
    from dynamos.services import catalogue

    found = [catalogue.manifest(name) for name in catalogue.names()]
    if format is Format.JSON:
        print_json([each.as_json() for each in found])
        return
    rows = [[each.name, each.label, each.inputs, ", ".join(each.options), each.description] for each in found]
    print_table(("service", "label", "inputs", "options", "description"), rows)


@service.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Its name: lower-case words joined by '-'.")],
    label: Annotated[Label, typer.Option("--label", help="Whose part of the chain it is in.")] = Label.COMPUTE,
    into: Annotated[Path, typer.Option("--into", help="The folder to make its folder in.")] = Path(),
) -> None:
    """Make a package with a new service that runs at once: a function over record batches, its test, how to use it."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise BadInput(f"{name!r} cannot be a service's name", hint="lower-case words joined by '-', such as add-noise")
    folder = into / name
    if folder.exists():
        raise Conflict("there is something already", where=str(folder), hint="choose another name or --into")
    words = {"name": name, "module": name.replace("-", "_"), "label": label.value}
    from dynamos.deploy.states import explained

    with explained(folder):
        for path, text in _FILES.items():
            file = folder / Template(path).substitute(words)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(words), encoding="utf-8")
    print(f"{folder} is made; {folder / 'README.md'} says what comes next")


_FILES = {
    "$module.py": '''"""The service $name."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from dynamos.services.kit import Stream, Task, service
from dynamos.model.values import Value


class Options(Value):
    """What a request may set; each member is an option of the service."""

    limit: int = 1000


@service("$name", label="$label", options=Options)
def $module(rows: Stream, options: Options, task: Task) -> Stream:
    """Keep rows whose first number is at most the limit; one batch at a time, so that memory stays bounded."""
    first = next((n for n in rows.schema.names if pa.types.is_integer(rows.schema.field(n).type)), None)

    def kept() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            yield batch if first is None else batch.filter(pc.less_equal(batch[first], options.limit))

    return Stream(rows.schema, kept())
''',
    "test_$module.py": """import pyarrow as pa

from $module import Options, $module
from dynamos.services.kit import Stream


def test_rows_above_the_limit_go():
    table = pa.table({"delay": [1, 5, 2000], "origin": ["JFK", "LGA", "EWR"]})
    found = $module(Stream.of(table), Options(limit=10), None)
    assert pa.Table.from_batches(list(found), found.schema).to_pydict() == {"delay": [1, 5], "origin": ["JFK", "LGA"]}
""",
    "pyproject.toml": """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "dynamos-$name"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["dynamos"]

[project.entry-points."dynamos.services"]
$name = "$module:$module"

[tool.hatch.build.targets.wheel]
include = ["$module.py"]
""",
    "README.md": """# $name

A data-exchange service for DYNAMOS.

    pip install --editable .          # beside dynamos: the entry point makes it known
    pytest                            # its own test
    dynamos service list              # it is there

Put it into a marketplace (`services.yaml`, `requestTypes.yaml`):

    $name: {}

and let the service before it hand over to it: `allowedOutputs: [$name]`. Then `dynamos profile validate` and
`dynamos chain --marketplace FOLDER` show whether the chain is right.
""",
}
