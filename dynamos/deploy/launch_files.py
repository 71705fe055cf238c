"""The six launch files of upstream, unchanged, as a marketplace.

    requestType.json  archetype.json  microservices.json  agreements.json  datasets.json  optional_microservices.json

Read as upstream's programs read them: member names in any letter case, null for what is absent, unknown members passed
over (with a warning). Each file holds a list of things with a `name`, one such thing, or a mapping of names to things.
What upstream wrote down and never enforced becomes what it means: optional_microservices are the duties that a party
forces, sensitive_columns are rules that hide a column.
"""

from __future__ import annotations

from typing import Any

from dynamos.deploy.drafts import Draft, V
from dynamos.deploy.marketplace_files import read_head
from dynamos.kit.errors import Mistake
from dynamos.kit.words import suggest
from dynamos.model.agreements import Agreement, Relation
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.documents import Document
from dynamos.model.explanations import members, show
from dynamos.model.marketplaces import Party
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Value
from dynamos.services import catalogue

REQUEST_TYPES = "requestType.json"
ARCHETYPES = "archetype.json"
SERVICES = "microservices.json"
AGREEMENTS = "agreements.json"
DATA_SETS = "datasets.json"
DUTIES = "optional_microservices.json"
FILES = (REQUEST_TYPES, ARCHETYPES, SERVICES, AGREEMENTS, DATA_SETS, DUTIES)
HIDDEN = {"method": "mask"}
"""What happens to a column that a launch file calls sensitive, where the profile gives no rule."""

Path = tuple[str | int, ...]


def read_folder(draft: Draft) -> None:
    """Read the launch files of the folder into the draft."""
    read_head(draft, required=False)
    _read(draft, REQUEST_TYPES, "request_types", RequestType)
    _read(draft, ARCHETYPES, "archetypes", Archetype)
    _read(draft, SERVICES, "services", Service)
    _read(draft, AGREEMENTS, "agreements", Agreement)
    _read(draft, DATA_SETS, "data_sets", DataSet)
    _read_duties(draft)
    _find_parties(draft)


def _read(draft: Draft, file: str, kind: str, model: type[V]) -> None:
    """Read every thing of one file."""
    document = draft.open(file)
    if document is None:
        if not (draft.folder / file).exists():
            draft.mistakes.append(Mistake(file, "the launch file is missing", f"the six are {', '.join(FILES)}"))
        return
    for path, value in _things(draft, document):
        members_of_it = _tidy(draft, document, path, model, value)
        if model is Service:
            members_of_it = {**_manifest(draft, document, path, members_of_it), **members_of_it}
        found, mistakes = document.examine(model, members_of_it, path)
        draft.put(kind, str(members_of_it.get("name", "")), found, mistakes, (document, path))


def _things(draft: Draft, document: Document) -> list[tuple[Path, dict[str, Any]]]:
    """Give the things of a file with their paths: of a list, of a mapping by name, or the one."""
    value = document.value
    if isinstance(value, list):
        found: list[tuple[Path, Any]] = [((index,), item) for index, item in enumerate(value)]
    elif isinstance(value, dict) and not any(name.lower() in ("name", "data_steward") for name in value):
        found = [((name,), {"name": name, **item} if isinstance(item, dict) else item) for name, item in value.items()]
    else:
        found = [((), value)]
    for path, item in found:
        if not isinstance(item, dict):
            draft.mistakes.append(document.mistake(path, f"found {show(item)}, expected an object"))
    return [(path, item) for path, item in found if isinstance(item, dict)]


def _tidy(draft: Draft, document: Document, path: Path, model: type[Value], value: dict[str, Any]) -> dict[str, Any]:
    """Give the members under the names that `model` knows, without nulls; unknown ones are warnings."""
    known = {name.lower(): name for name in members(model, ())}
    tidied: dict[str, Any] = {}
    for name, member in value.items():
        if member is None:
            continue
        if model is DataSet and name.lower() == "sensitive_columns":
            _hide(tidied, value, member)
        elif name.lower() in known:
            tidied.setdefault(known[name.lower()], member)
        else:
            hint = suggest(name, known.values()) or "it is passed over"
            draft.warnings.append(document.mistake((*path, name), f"unknown member {name!r}", hint))
    if model is Agreement and isinstance(tidied.get("relations"), dict):
        tidied["relations"] = {
            user: _tidy(draft, document, (*path, "relations", user), Relation, relation)
            if isinstance(relation, dict)
            else relation
            for user, relation in tidied["relations"].items()
        }
    return tidied


def _hide(tidied: dict[str, Any], value: dict[str, Any], sensitive: Any) -> None:
    """Turn sensitive_columns {table: [column]} into rules; empty names say nothing."""
    listed = next((tables for name, tables in value.items() if name.lower() == "tables"), None)
    if not isinstance(sensitive, dict) or not isinstance(listed, list):
        return
    tables: dict[str, Any] = {table: {} for table in listed if isinstance(table, str)}
    for table, columns in sensitive.items():
        hidden = {name: {"rule": HIDDEN} for name in columns or () if isinstance(name, str) and name.strip()}
        if hidden:
            tables[table] = {"columns": hidden}
    tidied["tables"] = tables


def _manifest(draft: Draft, document: Document, path: Path, service: dict[str, Any]) -> dict[str, Any]:
    """Give what the installed service of this name says of itself."""
    name = service.get("name")
    if name in catalogue.names():
        return catalogue.manifest(str(name)).as_json()
    hint = suggest(str(name), catalogue.names()) or "requests that need it are refused until it is installed"
    draft.warnings.append(document.mistake(path, f"service {name!r} is not installed", hint))
    return {}


def _read_duties(draft: Draft) -> None:
    """Put what optional_microservices.json says parties force into their agreements."""
    document = draft.open(DUTIES)
    if document is None:
        return
    for path, item in _things(draft, document):
        party = next((item[name] for name in ("data_steward", "name") if name in item), None)
        types = item.get("types")
        agreement = draft.agreements.get(party) if isinstance(party, str) else None
        if agreement is None or not isinstance(types, dict):
            hint = (
                suggest(str(party), draft.agreements) or "write {data_steward: party, types: {requestType: [service]}}"
            )
            draft.dangling(document.where(path), f"no agreement of {party!r} to put the services into", hint)
            continue
        found, mistakes = document.examine(Agreement, {"name": party, "duties": types}, path)
        draft.mistakes.extend(mistakes)
        if found:
            draft.agreements[agreement.name] = agreement.model_copy(update={"duties": found.duties})


def _find_parties(draft: Draft) -> None:
    """Make a party of everybody who has an agreement or is allowed as a compute provider by a relation."""
    names = list(draft.agreements)
    for agreement in draft.agreements.values():
        for relation in agreement.relations.values():
            names.extend(relation.allowed_compute_providers)
    for name in dict.fromkeys(names):
        draft.parties.setdefault(name, Party(name=name))
