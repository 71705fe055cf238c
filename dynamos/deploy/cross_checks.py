"""Cross-checks: names in one file of a marketplace that no other file describes, with place and near names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from dynamos.deploy.drafts import Draft
from dynamos.kit.errors import Mistake
from dynamos.kit.words import suggest
from dynamos.model.agreements import Agreement, Relation
from dynamos.model.datasets import DataSet
from dynamos.model.marketplaces import Party

WORDS = {
    "parties": "party", "archetypes": "archetype", "request_types": "request type", "services": "service",
    "data_sets": "data set", "users": "user",
}  # fmt: skip
INSIDE = "paths are relative to the party's data folder and stay in it"


class _At(NamedTuple):
    """A thing in a file, and the path in it."""

    kind: str
    name: str
    path: tuple[str | int, ...] = ()

    def __truediv__(self, step: str | int) -> _At:
        return _At(self.kind, self.name, (*self.path, step))

    def where(self, draft: Draft) -> str:
        return draft.where(self.kind, self.name, *self.path)


def cross_check(draft: Draft) -> None:
    """Note in the draft every name that leads nowhere."""
    for party in draft.parties.values():
        _check_party(draft, party)
    for agreement in draft.agreements.values():
        _check_agreement(draft, agreement)
    for request_type in draft.request_types.values():
        at = _At("request_types", request_type.name)
        _each(draft, at / "requiredServices", "services", request_type.required_services)
        _keys(draft, at / "optionalServices", "services", request_type.optional_services)
    for service in draft.services.values():
        at = _At("services", service.name)
        for member, kind, names in (
            ("allowedOutputs", "services", service.allowed_outputs),
            ("invalidArchetypes", "archetypes", service.invalid_archetypes),
        ):
            if draft.says("services", service.name, member):
                _each(draft, at / member, kind, names)


def _check_party(draft: Draft, party: Party) -> None:
    at = _At("parties", party.name)
    if draft.users:
        _each(draft, at / "admins", "users", party.admins)
    _keys(draft, at / "data", "data_sets", party.data)
    for name, tables in party.data.items():
        declared = draft.data_sets.get(name)
        for table, source in tables.items():
            place = at / "data" / name / table
            if declared and declared.tables and spelled_as(table, declared.tables) is None:
                _lost(draft, place, f"data set {name!r} has no table {table!r}", table, declared.tables)
            if leads_out(source.path):
                message = f"{source.path!r} leads out of the party's data"
                draft.mistakes.append(Mistake(place.where(draft), message, INSIDE))
    if party.data and not draft.known("agreements", party.name):
        message = f"{party.name!r} has data and no agreement: nobody may use them"
        draft.warnings.append(Mistake(at.where(draft), message, f"write agreements/{party.name}.yaml"))


def _check_agreement(draft: Draft, agreement: Agreement) -> None:
    at = _At("agreements", agreement.name)
    if not draft.known("parties", agreement.name):
        message = f"the agreement is of {agreement.name!r}, which is no party"
        _lost(draft, at, message, agreement.name, draft.names("parties"))
    _each(draft, at / "computeProviders", "parties", agreement.compute_providers)
    _each(draft, at / "archetypes", "archetypes", agreement.archetypes)
    _keys(draft, at / "duties", "request_types", agreement.duties)
    for request_type, services in agreement.duties.items():
        _each(draft, at / "duties" / request_type, "services", services)
    if draft.users:
        _keys(draft, at / "relations", "users", agreement.relations)
    for user, relation in agreement.relations.items():
        _check_relation(draft, agreement, relation, at / "relations" / user)


def _check_relation(draft: Draft, agreement: Agreement, relation: Relation, at: _At) -> None:
    _each(draft, at / "requestTypes", "request_types", relation.request_types)
    _each(draft, at / "dataSets", "data_sets", relation.data_sets)
    _each(draft, at / "allowedArchetypes", "archetypes", relation.allowed_archetypes)
    _each(draft, at / "allowedComputeProviders", "parties", relation.allowed_compute_providers)
    _each(draft, at / "duties", "services", relation.duties)
    party = draft.parties.get(agreement.name)
    for index, name in enumerate(relation.data_sets):
        if party and party.data and name in draft.data_sets and name not in party.data:
            _lost(draft, at / "dataSets" / index, f"{party.name!r} does not hold data set {name!r}", name, party.data)
    for member, allowed, of_all, what in (
        ("allowedArchetypes", relation.allowed_archetypes, agreement.archetypes, "archetypes"),
        (
            "allowedComputeProviders",
            relation.allowed_compute_providers,
            agreement.compute_providers,
            "computeProviders",
        ),
    ):
        for index, name in enumerate(allowed):
            if name not in of_all:
                message = f"{name!r} is not among the agreement's {what}, so it is never permitted"
                hint = f"add it to {what}, or remove it here"
                draft.warnings.append(Mistake((at / member / index).where(draft), message, hint))
    _check_tables(draft, relation, at / "tables")


def _check_tables(draft: Draft, relation: Relation, at: _At) -> None:
    """Tables must be of a permitted data set, and columns of the table where its columns are declared."""
    data_sets = [draft.data_sets[name] for name in relation.data_sets if name in draft.data_sets]
    if len(data_sets) < len(relation.data_sets) or any(not one.tables for one in data_sets):
        return
    for table, columns in (relation.tables or {}).items():
        of = {name: one for one in data_sets for name in one.tables}
        spelled = spelled_as(table, of)
        if spelled is None:
            _lost(draft, at / table, f"no permitted data set has a table {table!r}", table, of)
            continue
        known = declared_columns(of[spelled], spelled)
        for index, column in enumerate(columns):
            if known and column != "*" and spelled_as(column, known) is None:
                _lost(draft, at / table / index, f"table {spelled!r} has no column {column!r}", column, known)


def declared_columns(data_set: DataSet, table: str) -> list[str]:
    """Give the columns of a table if the file declares them all, with their types."""
    columns = data_set.tables[table].columns
    return list(columns) if all(column.type for column in columns.values()) else []


def spelled_as(name: str, known: Iterable[str]) -> str | None:
    """Give the known name that is the same in any letter case."""
    return next((one for one in known if one.lower() == name.lower()), None)


def leads_out(path: str) -> bool:
    """Tell whether a data path is empty or could leave the party's folder."""
    parts = PurePosixPath(path)
    return not path or parts.is_absolute() or ".." in parts.parts


def near_or_known(name: str, known: Iterable[str]) -> str:
    """Give a hint for a name that leads nowhere: near names, else what there is."""
    names = list(known)
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")  # noqa: PLR2004  a line's worth
    return suggest(name, names) or (f"known: {listed}" if names else "none is described")


def _each(draft: Draft, at: _At, kind: str, names: Iterable[str]) -> None:
    for index, name in enumerate(names):
        _reference(draft, at / index, kind, name)


def _keys(draft: Draft, at: _At, kind: str, names: Iterable[str]) -> None:
    for name in names:
        _reference(draft, at / name, kind, name)


def _reference(draft: Draft, at: _At, kind: str, name: str) -> None:
    if not draft.known(kind, name):
        _lost(draft, at, f"there is no {WORDS[kind]} {name!r}", name, draft.names(kind))


def _lost(draft: Draft, at: _At, message: str, name: str, known: Iterable[str]) -> None:
    draft.dangling(at.where(draft), message, near_or_known(name, known))
