"""The YAML folder of a marketplace: one file for each kind of thing (docs/reference/files.md)."""

from __future__ import annotations

from pydantic import Field

from dynamos.deploy.drafts import Draft
from dynamos.kit.errors import Mistake
from dynamos.kit.words import near, suggest
from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.documents import Document
from dynamos.model.explanations import show
from dynamos.model.marketplaces import Party
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Name, Value
from dynamos.services import catalogue

HEAD = "marketplace.yaml"
ARCHETYPES = "archetypes.yaml"
REQUEST_TYPES = "requestTypes.yaml"
SERVICES = "services.yaml"
DATA_SETS = "datasets.yaml"
AGREEMENTS = "agreements"
FILES = (HEAD, ARCHETYPES, REQUEST_TYPES, SERVICES, DATA_SETS)

STANDARD_ARCHETYPES = (
    Archetype(name="computeToData", compute_provider="dataProvider", weight=100),
    Archetype(name="dataThroughTtp", compute_provider="other", weight=200),
)
STANDARD_REQUEST_TYPES = (
    RequestType(
        name="sqlDataRequest",
        required_services=("sql-query", "sql-algorithm"),
        optional_services={"sql-anonymize": "anonymize", "sql-graph": "graph", "sql-aggregate": "aggregate"},
    ),
)


class Head(Value):
    """marketplace.yaml. `generator` names the program that makes the data (dynamos.deploy.data)."""

    name: Name
    description: str = ""
    generator: str = ""
    users: dict[str, str] = Field(default_factory=dict)
    parties: dict[str, dict[str, object]] = Field(default_factory=dict)


def read_folder(draft: Draft) -> None:
    """Read every file of the folder into the draft."""
    _strangers(draft)
    read_head(draft, required=True)
    _read_named(draft, ARCHETYPES, "archetypes", Archetype)
    _read_named(draft, REQUEST_TYPES, "request_types", RequestType)
    _read_named(draft, DATA_SETS, "data_sets", DataSet)
    _read_services(draft)
    for path in sorted((draft.folder / AGREEMENTS).glob("*.yaml")):
        document = draft.open(f"{AGREEMENTS}/{path.name}")
        if document:
            draft.take("agreements", document, (), Agreement, name=path.stem)
    if not (draft.folder / ARCHETYPES).exists():
        draft.archetypes.update({one.name: one for one in STANDARD_ARCHETYPES})
    if not (draft.folder / REQUEST_TYPES).exists():
        draft.request_types.update({one.name: one for one in STANDARD_REQUEST_TYPES})


def read_head(draft: Draft, *, required: bool) -> None:
    """Read marketplace.yaml: name, description, generator, users and parties."""
    if not (draft.folder / HEAD).exists():
        if required:
            hint = "a marketplace is a folder with marketplace.yaml, or with the six launch files of upstream"
            draft.mistakes.append(Mistake(HEAD, "the file is missing", hint))
        draft.name = draft.folder.name
        return
    document = draft.open(HEAD)
    if document is None:
        return
    head, mistakes = document.check(Head)
    draft.mistakes.extend(mistakes)
    if head:
        draft.name, draft.description, draft.generator = head.name, head.description, head.generator
    for name in _mapping(document, "users"):
        draft.users[name] = str(document.at(("users", name)))
        draft.keep("users", name, document, "users", name)
    for name in _mapping(document, "parties"):
        if isinstance(document.at(("parties", name)), dict):
            draft.take("parties", document, ("parties", name), Party, name=name)
        else:
            draft.keep("parties", name, document, "parties", name)


def _mapping(document: Document, member: str) -> list[str]:
    found = document.at((member,))
    return list(found) if isinstance(found, dict) else []


def _read_named(draft: Draft, file: str, kind: str, model: type[Archetype | RequestType | DataSet]) -> None:
    """Read a file that maps names to things."""
    for document, name in _entries(draft, file):
        draft.take(kind, document, (name,), model, name=name)


def _read_services(draft: Draft) -> None:
    """Read services.yaml over the manifests of what is installed; without the file, everything that is installed."""
    installed = {name: catalogue.manifest(name) for name in catalogue.names()}
    if not (draft.folder / SERVICES).exists():
        draft.services.update(installed)
        return
    for document, name in _entries(draft, SERVICES):
        manifest = installed[name].as_json() if name in installed else {}
        service = draft.take("services", document, (name,), Service, **{**manifest, "name": name})
        if service and name not in installed and not service.command:
            hint = suggest(name, installed) or "give the command that starts it, or install it"
            message = f"service {name!r} is not installed and has no command"
            draft.mistakes.append(document.mistake((name,), message, hint))


def _entries(draft: Draft, file: str) -> list[tuple[Document, str]]:
    document = draft.open(file)
    if document is None:
        return []
    if not isinstance(document.value, dict):
        message = f"found {show(document.value)}, expected a mapping of names"
        draft.mistakes.append(document.mistake((), message, "write 'name: {…}' for each"))
        return []
    return [(document, name) for name in document.value]


def _strangers(draft: Draft) -> None:
    """Note YAML files that nothing reads: most are misnamed."""
    for path in sorted(draft.folder.glob("*.y*ml")):
        if path.name not in FILES:
            close = near(path.stem, [file.removesuffix(".yaml") for file in FILES], limit=1)
            known = f"known files: {', '.join(FILES)} and {AGREEMENTS}/*.yaml"
            hint = f"did you mean '{close[0]}.yaml'?" if close else known
            draft.mistakes.append(Mistake(path.name, "a file that is no part of a marketplace", hint))
    for path in sorted((draft.folder / AGREEMENTS).glob("*")):
        if path.suffix != ".yaml":
            message = "a file that is no agreement"
            draft.mistakes.append(Mistake(f"{AGREEMENTS}/{path.name}", message, "name it <party>.yaml"))
