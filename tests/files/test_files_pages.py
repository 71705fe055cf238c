"""What the pages about files show is accepted, and nothing that a file may say is missing from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from dynamos.deploy import profiles
from dynamos.deploy.marketplace_files import FILES, Head
from dynamos.model.agreements import Agreement, Relation
from dynamos.model.archetypes import Archetype
from dynamos.model.clusters import Cluster, Ingress, Quota
from dynamos.model.datasets import DataSet, Source
from dynamos.model.explanations import members
from dynamos.model.marketplaces import Party
from dynamos.model.networks import Change, Fault, Group, Link, Overlay
from dynamos.model.overheads import TRAITS
from dynamos.model.profiles import Profile, Settings
from dynamos.model.request_types import RequestType
from dynamos.model.services import Limits, Service
from dynamos.model.sites import Node, Site
from dynamos.model.subnets import Subnets
from dynamos.model.units import Quantity

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = "".join((DOCS / "reference" / name).read_text() for name in ("files.md", "profiles.md"))
BLOCK = re.compile(r"```yaml\n# (\S+\.yaml)(?::[^\n]*)?\n(.*?)```", re.DOTALL)


def test_the_marketplace_of_the_how_to_is_right(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "bring-your-own-marketplace.md").read_text()
    for name, text in BLOCK.findall(page):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    checked = profiles.validate(tmp_path / "care.yaml")
    assert checked.warnings == ()
    assert set(checked.marketplace.agreements) == {"hospital", "clinic"}


@pytest.mark.parametrize(
    "model",
    [
        Head,
        Party,
        Source,
        Archetype,
        RequestType,
        Service,
        Limits,
        DataSet,
        Agreement,
        Relation,
        Profile,
        Site,
        Node,
        Link,
        Change,
        Overlay,
        Group,
        Fault,
        Subnets,
        Settings,
        Cluster,
        Quota,
        Ingress,
    ],
)
def test_every_member_of_a_file_is_on_the_reference_page(model: type[BaseModel]) -> None:
    page = PAGES
    unsaid = {"ID", "resultRecipient", "options"}  # upstream's, or the planner's: kept, never looked at
    missing = [name for name in members(model, ()) if name not in unsaid and not re.search(rf"\b{name}\b", page)]
    assert missing == []


def test_every_file_and_the_defaults_are_on_the_reference_page() -> None:
    page = PAGES
    assert [file for file in FILES if file not in page] == []
    settings = Settings()
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", page, re.MULTILINE):
        names, defaults = (re.findall(r"`([^`]+)`", cell) for cell in row)
        if names and names[0] in members(Settings, ()) and names != ["limits"] and defaults:
            for name, default in zip(names, defaults, strict=True):
                field = next(key for key, one in Settings.model_fields.items() if one.alias == name)
                value = getattr(settings, field)
                same = (
                    type(value).parse(default) == value
                    if isinstance(value, Quantity)
                    else str(value).lower() == default
                )
                assert same, name


def test_what_overlays_add_is_on_the_reference_page() -> None:
    for name, traits in TRAITS.items():
        row = re.search(
            rf"^\| `{name}` \| {traits.layer} \| (yes|no) \| {traits.overhead} \|(.*)$", PAGES, re.MULTILINE
        )
        assert row, name
        assert row[1] == ("yes" if traits.encrypts else "no")
        assert re.findall("`(.*?)`", row[2]) == list(traits.options)


def test_the_default_subnets_are_on_the_reference_page() -> None:
    for name, network in Subnets():
        assert f"| `{name}` | `{network}` |" in PAGES
