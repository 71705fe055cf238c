"""What the pages say of the API and of errors is what there is."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import dynamos
from dynamos.kit.errors import DynamosError
from dynamos.middleware.api.errors import kinds
from support.apis import api

ROOT = Path(dynamos.__file__).parents[1]
ROW = re.compile(r"^\| `([a-z-]+)` \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)


def page(name):
    return (ROOT / "docs" / "reference" / name).read_text()


def test_every_route_has_its_place_in_the_page(tmp_path):
    async def work():
        async with api(tmp_path) as rig:
            return rig.app.openapi()["paths"]

    told = set(re.findall(r"`(GET|POST|PUT|DELETE|PATCH)\s+(/[^`\s]*)`", page("api.md")))
    there = {(method.upper(), path) for path, operations in asyncio.run(work()).items() for method in operations}
    assert told - {("GET", "/openapi.json")} == there


def test_every_kind_of_error_has_its_row_with_status_and_exit_code():
    rows = ROW.findall(page("errors.md").split("## Narrower")[0])
    told = {code: (status.strip(), leave.strip()) for code, status, leave in rows}
    ours = [kind for kind in kinds() if kind.__module__.startswith("dynamos.")]
    assert told == {kind.code: (str(kind.status), str(kind.exit)) for kind in ours}


def test_every_narrower_code_of_the_api_has_its_row():
    told = {code for code, _, _ in ROW.findall(page("errors.md").split("## Narrower")[1])}
    sources = (ROOT / "dynamos" / "middleware" / "api").rglob("*.py")
    used = {code for source in sources for code in re.findall(r'\bcode="([a-z-]+)"', source.read_text())}
    assert told == used


def test_the_tree_in_the_docstring_is_the_tree():
    module = (ROOT / "dynamos" / "kit" / "errors.py").read_text()
    drawn = re.findall(r"[├└]─ (\w+)\s+([a-z-]+)\s+(\d+)\s+(\d+)", module)
    there = {(kind.__name__, kind.code, str(kind.status), str(kind.exit)) for kind in DynamosError.__subclasses__()}
    assert set(drawn) == {row for row in there if row[0] in module}
