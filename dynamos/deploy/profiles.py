"""Profiles from files: read, checked against the marketplace that they name, and merged into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynamos.deploy import (
    cluster_checks,
    data,
    marketplaces,
    merging,
    overlay_checks,
    places,
    planner_checks,
    site_checks,
)
from dynamos.deploy.extending import Layered, open_layered
from dynamos.deploy.notes import Notes
from dynamos.deploy.salvage import salvage
from dynamos.kit.errors import Mistake, Mistakes, NotFound
from dynamos.model.clusters import Cluster
from dynamos.model.documents import json_path
from dynamos.model.marketplaces import Marketplace
from dynamos.model.profiles import Profile
from dynamos.model.sites import Site

SCHEMA = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Checked:
    """A profile that is right, the marketplace that it gives, and what seems odd and does no harm."""

    profile: Profile
    marketplace: Marketplace
    warnings: tuple[Mistake, ...]


def load(path_or_name: str | Path) -> Profile:
    """Read a profile by path, or by name among those that come with DYNAMOS; its paths become absolute.

    What it extends is in it. Raises NotFound, or Mistakes with every mistake of form.
    """
    layered = _read(path_or_name)
    notes = Notes(layered.document)
    profile = _placed(layered, layered.document.validate(Profile), notes)
    if notes.mistakes:
        raise Mistakes(notes.mistakes, subject=layered.document.file)
    return profile


def resolve(profile: Profile) -> Marketplace:
    """Give the profile's marketplace with what the profile adds to it. Raises Mistakes with all of them."""
    notes = Notes()
    marketplace = _check(profile, notes)
    if notes.mistakes or marketplace is None:
        raise Mistakes(notes.mistakes, subject=f"profile {profile.name}")
    return marketplace


def validate(path_or_name: str | Path) -> Checked:
    """Read a profile and the marketplace that it names. Raises Mistakes with every mistake and its place."""
    layered = _read(path_or_name)
    found = salvage(layered.document)
    notes = Notes(layered.document, found.numbers)
    marketplace = None
    if found.profile:
        profile = _placed(layered, found.profile, notes)
        marketplace = _check(profile, notes, found.lost)
    mistakes = [*found.mistakes, *notes.mistakes]
    if mistakes or marketplace is None:
        raise Mistakes(list(dict.fromkeys(mistakes)), subject=layered.document.file)
    return Checked(profile, marketplace, tuple(notes.warnings))


def where(path_or_name: str | Path, *member: str | int) -> str:
    """Give the place of a member in the files of a profile: file, line and column, and JSON path."""
    return _read(path_or_name).document.where(member)


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


def _read(path_or_name: str | Path) -> Layered:
    path = places.profile_file(path_or_name)
    return open_layered(path, str(path_or_name) if path == Path(path_or_name) else str(path))


def _placed(layered: Layered, profile: Profile, notes: Notes) -> Profile:
    """Give the profile with absolute paths: those in a file are relative to it, also where another file extends it."""
    market = profile.marketplace
    try:
        market = str(places.marketplace_folder(market, beside=layered.beside("marketplace"))) if market else market
    except NotFound as error:
        notes.wrong(("marketplace",), error.message, error.hint)
        market = ""
    folders = {
        party: str(layered.beside("dataFolders", party) / Path(where).expanduser())
        for party, where in profile.data_folders.items()
    }
    sites = {name: _with_identities(layered, site, notes) for name, site in profile.sites.items()}
    told = {"marketplace": market, "data_folders": folders, "sites": sites, "cluster": _reached(layered, profile)}
    return profile.model_copy(update=told)


def _reached(layered: Layered, profile: Profile) -> Cluster:
    """Give the profile's cluster, with the path of the file that says how to reach it."""
    cluster = profile.cluster
    if not cluster.kubeconfig:
        return cluster
    path = layered.beside("cluster", "kubeconfig") / Path(cluster.kubeconfig).expanduser()
    return cluster.model_copy(update={"kubeconfig": str(path)})


def _with_identities(layered: Layered, site: Site, notes: Notes) -> Site:
    nodes = {}
    for name, node in site.nodes.items():
        at = ("sites", site.name, "nodes", name, "identity")
        path = layered.beside(*at) / Path(node.identity).expanduser() if node.identity else None
        if path and not path.is_file():
            notes.wrong(at, f"there is no file {str(path)!r}", "give the file of the private key")
        nodes[name] = node.model_copy(update={"identity": str(path)}) if path else node
    return site.model_copy(update={"nodes": nodes})


def _check(profile: Profile, notes: Notes, lost: frozenset[str] = frozenset()) -> Marketplace | None:
    """Give the profile's marketplace, None where it is wrong, with every mistake in the notes."""
    reading = None
    if profile.marketplace and "marketplace" not in lost:
        try:
            reading = marketplaces.read(Path(profile.marketplace))
        except Mistakes as wrong:
            notes.mistakes.extend(wrong.mistakes)
        else:
            notes.warnings.extend(reading.warnings)
    parties = reading.marketplace.parties if reading else None
    site_checks.check_sites(profile, notes, parties, lost)
    overlay_checks.check_overlay(profile, notes, parties, lost)
    cluster_checks.check_cluster(profile, notes, parties, lost)
    planner_checks.check_planner(profile, notes)
    return merging.Merger(profile, reading.marketplace, notes).merge() if reading else None
