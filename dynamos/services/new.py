"""The start of a service of one's own: a folder with a program that runs, its test, and its entry in a marketplace."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from dynamos.kit.errors import BadInput, Conflict
from dynamos.kit.words import suggest
from dynamos.model.services import Label

LANGUAGES = ("python", "bash", "c", "go")
"""Languages that there are templates for. Any other language keeps the same contract (docs: write a service)."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME = 40
_BUILD = {
    "bash": "chmod +x $name",
    "c": "cc -O2 -Wall -Wextra -o $name $name.c",
    "go": "go build -o $name .",
    "python": "pip install --editable .",
}


def create(folder: Path, name: str, language: str = "python", *, label: Label = "computeProvider") -> tuple[Path, ...]:
    """Make `folder` with the files of a new service, and give them.

    The program runs at once, and its test passes. Raises BadInput for a name that is none or a language without
    templates, and Conflict where the folder exists.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise BadInput(f"{name!r} cannot be a service's name", hint="lower-case words joined by '-', such as add-noise")
    if language not in LANGUAGES:
        hint = (
            suggest(language, LANGUAGES) or f"there are {', '.join(LANGUAGES)}; begin from bash for any other language"
        )
        raise BadInput(f"there is no template for {language!r}", hint=hint)
    if folder.exists():
        raise Conflict("there is something already", where=str(folder), hint="choose another name or folder")
    words = {"name": name, "module": name.replace("-", "_"), "label": label}
    words["build"] = Template(_BUILD[language]).substitute(words)
    folder.mkdir(parents=True)
    return tuple(_fill(template, folder, words) for template in _templates(language))


def _templates(language: str) -> list[Traversable]:
    folder = files("dynamos.services") / "templates" / language
    return sorted((file for file in folder.iterdir() if file.is_file()), key=lambda file: file.name)


def _fill(template: Traversable, folder: Path, words: dict[str, str]) -> Path:
    place = template.name.removesuffix(".tmpl").replace("MODULE", words["module"]).replace("NAME", words["name"])
    file = folder / place
    text = Template(template.read_text(encoding="utf-8")).substitute(words)
    file.write_text(text, encoding="utf-8")
    if text.startswith("#!"):
        file.chmod(0o755)
    return file
