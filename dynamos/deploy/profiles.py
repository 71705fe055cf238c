"""Profiles from files: read, checked against the marketplace that they name, and merged into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamos.deploy import data, marketplaces, merging, places
from dynamos.deploy.drafts import open_document
from dynamos.kit.errors import Mistake, Mistakes, NotFound
from dynamos.model.documents import Document, json_path
from dynamos.model.marketplaces import Marketplace
from dynamos.model.profiles import Profile

SCHEMA = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Checked:
    """A profile that is right, the marketplace that it gives, and what seems odd and does no harm."""

    profile: Profile
    marketplace: Marketplace
    warnings: tuple[Mistake, ...]


def load(path_or_name: str | Path) -> Profile:
    """Read a profile by path, or by name among those that come with DYNAMOS; its paths become absolute.

    Raises NotFound, or Mistakes with every mistake of the file.
    """
    return _read(path_or_name)[0]


def resolve(profile: Profile) -> Marketplace:
    """Give the profile's marketplace with what the profile adds to it. Raises Mistakes with all of them."""
    return _check(profile, None).marketplace


def validate(path_or_name: str | Path) -> Checked:
    """Read a profile and the marketplace that it names. Raises Mistakes with every mistake and its place."""
    return _check(*_read(path_or_name))


def prepare(profile: Profile, target: Path | None = None) -> dict[str, Path]:
    """Give the folder that holds each party's data, after it is made where a generator makes it.

    `target` is where generated data go, by default `.dynamos/data/<marketplace>`. Raises Mistakes where data are
    missing.
    """
    folders = data.prepare(profile.marketplace, target, checked=False)
    folders.update({party: Path(folder) for party, folder in profile.data_folders.items()})
    reading = marketplaces.read(Path(profile.marketplace))

    def where(party: str, data_set: str, table: str) -> str:
        ours = table in profile.data.get(party, {}).get(data_set, {})
        return json_path(("data", party, data_set, table)) if ours else reading.where(party, data_set, table)

    missing = marketplaces.missing_data(resolve(profile), folders, where)
    if missing:
        raise Mistakes(missing, subject=f"profile {profile.name}")
    return folders


def schema() -> dict[str, Any]:
    """Give the JSON Schema of profiles, for editors."""
    described = Profile.model_json_schema(by_alias=True)
    return {"$schema": SCHEMA, **described, "title": "DYNAMOS profile"}


def _read(path_or_name: str | Path) -> tuple[Profile, Document]:
    path = places.profile_file(path_or_name)
    document = open_document(path, str(path_or_name) if path == Path(path_or_name) else str(path))
    profile = document.validate(Profile)
    beside = path.resolve().parent
    try:
        folder = places.marketplace_folder(profile.marketplace, beside=beside)
    except NotFound as error:
        raise Mistakes([document.mistake(("marketplace",), error.message, error.hint)], subject=document.file) from None
    absolute = {party: str(beside / Path(where).expanduser()) for party, where in profile.data_folders.items()}
    return profile.model_copy(update={"marketplace": str(folder), "data_folders": absolute}), document


def _check(profile: Profile, document: Document | None) -> Checked:
    reading = marketplaces.read(Path(profile.marketplace))
    merger = merging.Merger(profile, reading.marketplace, document)
    marketplace = merger.merge()
    if merger.mistakes:
        raise Mistakes(merger.mistakes, subject=document.file if document else f"profile {profile.name}")
    return Checked(profile, marketplace, (*reading.warnings, *merger.warnings))
