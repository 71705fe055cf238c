"""Marketplaces from folders: YAML files of ours, or upstream's six launch files; every mistake at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dynamos.deploy import launch_files, marketplace_files
from dynamos.deploy.cross_checks import cross_check
from dynamos.deploy.drafts import Draft
from dynamos.kit.errors import Mistake, Mistakes, NotFound
from dynamos.kit.words import suggest
from dynamos.model.marketplaces import Marketplace
from dynamos.planning import chains

Where = Callable[[str, str, str], str]
"""Gives the place that says where a table lies, by party, data set and table."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A marketplace as its folder describes it; `warnings` are what seems odd and does no harm.

    `generator` names the program that makes the data, empty where the data are there already: in `data/<party>/`.
    """

    folder: Path
    marketplace: Marketplace
    generator: str
    warnings: tuple[Mistake, ...]
    draft: Draft

    def where(self, party: str, data_set: str, table: str) -> str:
        """Give the place that says where a table lies."""
        return self.draft.where("parties", party, "data", data_set, table)


def read(folder: Path) -> Reading:
    """Read a marketplace's folder, its data aside. Raises Mistakes with every mistake of every file."""
    if not folder.is_dir():
        raise NotFound(f"there is no folder {str(folder)!r}", hint="give the folder of a marketplace")
    launch = any((folder / file).exists() for file in launch_files.FILES)
    draft = Draft(folder, lenient=launch)
    (launch_files if launch else marketplace_files).read_folder(draft)
    cross_check(draft)
    _check_chains(draft)
    return Reading(folder, draft.finish(), draft.generator, tuple(dict.fromkeys(draft.warnings)), draft)


def load(folder: Path) -> Marketplace:
    """Read a marketplace's folder and see that its data can be read, where they are not generated.

    Raises Mistakes with every mistake of every file.
    """
    reading = read(folder)
    if not reading.generator:
        folders = {party: folder / "data" / party for party in reading.marketplace.parties}
        mistakes = missing_data(reading.marketplace, folders, reading.where)
        if mistakes:
            raise Mistakes(mistakes, subject=f"marketplace {folder.name}")
    return reading.marketplace


def missing_data(marketplace: Marketplace, folders: Mapping[str, Path], where: Where) -> list[Mistake]:
    """Give a mistake for every table whose file is absent or cannot be read in its party's folder."""
    mistakes = []
    for party in marketplace.parties.values():
        for data_set, tables in party.data.items():
            for table, source in tables.items():
                if problem := _problem(folders[party.name], source.path):
                    mistakes.append(Mistake(where(party.name, data_set, table), *problem))
    return mistakes


def _problem(folder: Path, path: str) -> tuple[str, str] | None:
    """Say what is wrong with a data file, and what to do; None where nothing is."""
    try:
        if not folder.is_dir():
            return f"the party's data folder {str(folder)!r} is missing", "make it, or say where it is in dataFolders"
        exact = folder / path
        files = [exact] if exact.exists() else sorted(folder.glob(path))
        if not files:
            names = [str(one.relative_to(folder)) for one in sorted(folder.iterdir())]
            return f"data file {path!r} is missing in {str(folder)!r}", suggest(path, names)
        return next((problem for file in files if (problem := _file_problem(folder, file, path))), None)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"data file {path!r} cannot be read: {reason.lower()}", "look at its path and its permissions"
    return None


def _file_problem(folder: Path, file: Path, path: str) -> tuple[str, str] | None:
    """Say what is wrong with one file that is there. Raises OSError where it cannot be read."""
    if not file.resolve().is_relative_to(folder.resolve()):
        return f"data file {path!r} is a link out of the party's data folder", "copy the file into the folder"
    if not file.is_file() and not file.is_dir():  # opening a pipe would wait for ever
        return f"data file {path!r} is not a file", "put a file there"
    with file.open("rb") as data:
        return None if data.read(1) else (f"data file {path!r} is empty", "write at least its header")


def _check_chains(draft: Draft) -> None:
    """Note request types whose services make no chain under some archetype."""
    if draft.mistakes:
        return
    for name, service in draft.services.items():
        outputs = tuple(output for output in service.allowed_outputs if output in draft.services)
        archetypes = tuple(archetype for archetype in service.invalid_archetypes if archetype in draft.archetypes)
        # What a manifest allows beyond this marketplace's services concerns nobody here; what a file says was checked.
        draft.services[name] = service.model_copy(update={"allowed_outputs": outputs, "invalid_archetypes": archetypes})
    for mistake in chains.mistakes(draft.services, draft.request_types, draft.archetypes):
        draft.mistakes.append(Mistake(_place(draft, mistake.where), mistake.message, mistake.hint))


def _place(draft: Draft, where: str) -> str:
    """Give the place in a file of what planning calls "requestTypes.<name>.<member>" or "services.<name>…"."""
    word, _, rest = where.partition(".")
    kind = {"requestTypes": "request_types", "services": "services"}.get(word, word)
    for name in draft.names(kind) if kind in ("request_types", "services") else ():
        if rest == name or rest.startswith(f"{name}."):
            member = rest[len(name) + 1 :]
            return draft.where(kind, name, *([member] if member else []))
    return where
