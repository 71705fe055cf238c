"""Merging: what a profile adds to a marketplace, checked against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from dynamos.deploy.cross_checks import INSIDE, declared_columns, leads_out, near_or_known, spelled_as
from dynamos.deploy.notes import Notes
from dynamos.model.agreements import Agreement
from dynamos.model.datasets import Column, DataSet, Rule, Table
from dynamos.model.explanations import explain
from dynamos.model.marketplaces import Marketplace, Party
from dynamos.model.profiles import Profile


class Merger:
    """Puts a profile's data, administrators, duties and rules into a marketplace, noting every mistake."""

    def __init__(self, profile: Profile, marketplace: Marketplace, notes: Notes) -> None:
        self.profile = profile
        self._notes = notes
        self._marketplace = marketplace
        self._parties: dict[str, Party] = dict(marketplace.parties)
        self._agreements: dict[str, Agreement] = dict(marketplace.agreements)
        self._data_sets: dict[str, DataSet] = dict(marketplace.data_sets)

    def merge(self) -> Marketplace:
        """Give the marketplace with what the profile adds, as far as it is right."""
        self._data()
        self._admins()
        self._duties()
        self._rules()
        return self._marketplace.model_copy(
            update={"parties": self._parties, "agreements": self._agreements, "data_sets": self._data_sets}
        )

    def _data(self) -> None:
        for name in self.profile.data_folders:
            self._notes.known(("dataFolders", name), "party", name, self._parties)
        for name, data_sets in self.profile.data.items():
            if not self._notes.known(("data", name), "party", name, self._parties):
                continue
            party = self._parties[name]
            merged = {data_set: dict(tables) for data_set, tables in party.data.items()}
            for data_set, tables in data_sets.items():
                path = ("data", name, data_set)
                if not self._notes.known(path, "data set", data_set, self._data_sets):
                    continue
                known = self._data_sets[data_set].tables
                for table, source in tables.items():
                    if known and spelled_as(table, known) is None:
                        message = f"data set {data_set!r} has no table {table!r}"
                        self._notes.wrong((*path, table), message, near_or_known(table, known))
                    if leads_out(source.path):
                        self._notes.wrong((*path, table), f"{source.path!r} leads out of the party's data", INSIDE)
                    merged.setdefault(data_set, {})[table] = source
            self._parties[name] = party.model_copy(update={"data": merged})

    def _admins(self) -> None:
        users = self._marketplace.users
        for name, admins in self.profile.admins.items():
            if not self._notes.known(("admins", name), "party", name, self._parties):
                continue
            for index, admin in enumerate(admins if users else ()):
                self._notes.known(("admins", name, index), "user", admin, users)
            party = self._parties[name]
            self._parties[name] = party.model_copy(update={"admins": _joined(party.admins, admins)})

    def _duties(self) -> None:
        for name, duties in self.profile.duties.items():
            if not self._notes.known(("duties", name), "party", name, self._parties):
                continue
            agreement = self._agreements.get(name, Agreement(name=name))
            merged = dict(agreement.duties)
            for request_type, services in duties.items():
                path = ("duties", name, request_type)
                self._notes.known(path, "request type", request_type, self._marketplace.request_types)
                for index, service in enumerate(services):
                    self._notes.known((*path, index), "service", service, self._marketplace.services)
                merged[request_type] = _joined(merged.get(request_type, ()), services)
            self._agreements[name] = agreement.model_copy(update={"duties": merged})

    def _rules(self) -> None:
        for name, tables in self.profile.rules.items():
            if not self._notes.known(("rules", name), "data set", name, self._data_sets):
                continue
            data_set = self._data_sets[name]
            merged = dict(data_set.tables)
            for table, columns in tables.items():
                spelled = spelled_as(table, merged)
                if spelled is None and merged:
                    message = f"data set {name!r} has no table {table!r}"
                    self._notes.wrong(("rules", name, table), message, near_or_known(table, merged))
                    continue
                key = spelled or table
                merged[key] = self._ruled(("rules", name, table), data_set, key, columns)
            self._data_sets[name] = data_set.model_copy(update={"tables": merged})

    def _ruled(self, path: tuple[str, ...], data_set: DataSet, table: str, rules: Mapping[str, str]) -> Table:
        """Give the table with rules at its columns."""
        columns: dict[str, Column] = dict(data_set.tables[table].columns) if table in data_set.tables else {}
        known = declared_columns(data_set, table) if columns else []
        for name, text in rules.items():
            spelled = spelled_as(name, columns) or name
            if known and spelled not in columns:
                self._notes.wrong((*path, name), f"table {table!r} has no column {name!r}", near_or_known(name, known))
                continue
            rule = self._rule((*path, name), text)
            if rule:
                columns[spelled] = columns.get(spelled, Column()).model_copy(update={"rule": rule})
        return Table(columns=columns)

    def _rule(self, path: tuple[str, ...], text: str) -> Rule | None:
        try:
            return Rule.model_validate(text)
        except ValidationError as invalid:
            for error in invalid.errors(include_url=False):
                details: dict[str, Any] = dict(error)
                self._notes.wrong(path, *explain(details, Rule))
            return None


def _joined(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    """Give both, each once, in order."""
    return tuple(dict.fromkeys((*first, *second)))
