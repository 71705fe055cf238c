"""Documents: the text of a YAML or JSON file as a value that knows where each of its members stands.

Pure: text in, values out. Every mistake of a file is told at once, as `file:line:column ($.path): what was found, what
was expected (hint)`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from dynamos.kit.errors import Mistake, Mistakes
from dynamos.model import json_texts, yaml_texts
from dynamos.model.explanations import explain, show
from dynamos.model.nodes import MAX_CHARACTERS, Node, Position, Unreadable, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

M = TypeVar("M", bound=BaseModel)
Form = Literal["yaml", "json"]

_WORD = re.compile(r"[A-Za-z_@][A-Za-z0-9_@-]*")


@dataclass(frozen=True, slots=True)
class Document:
    """A file's value, and where everything in it stands."""

    file: str
    value: Any
    root: Node

    def at(self, path: Sequence[str | int] = ()) -> Any:
        """Give the plain value at `path`, None where there is none."""
        found = self.value
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                return None
        return found

    def where(self, path: Sequence[str | int] = ()) -> str:
        """Give "file:line:column ($.path)" of a member: of its name if it has one, else of its value.

        Of a member that is not there, the place of what should hold it.
        """
        node, place, known = self._find(path)
        return f"{node.file or self.file}:{place[0]}:{place[1]} ({json_path(path[:known])})"

    def file_of(self, path: Sequence[str | int]) -> str:
        """Give the file that says what is at `path`."""
        return self._find(path)[0].file or self.file

    def _find(self, path: Sequence[str | int]) -> tuple[Node, Position, int]:
        """Give what is at `path`, its place, and how many steps of the path exist."""
        node, place = self.root, self.root.position
        for known, step in enumerate(path):
            children = node.value
            if isinstance(children, dict) and isinstance(step, str) and step in children:
                place, node = node.keys[step], children[step]
            elif isinstance(children, list) and isinstance(step, int) and 0 <= step < len(children):
                node = children[step]
                place = node.position
            else:
                return node, place, known
        return node, place, len(path)

    def mistake(self, path: Sequence[str | int], message: str, hint: str = "") -> Mistake:
        """Give a mistake that is at `path`."""
        return Mistake(self.where(path), message, hint)

    def check(self, model: type[M], path: Sequence[str | int] = (), **given: Any) -> tuple[M | None, list[Mistake]]:
        """Read the value at `path` as a `model`. Gives it or None, and every mistake.

        `given` are members that the file need not repeat, such as a name that is the key already.
        """
        return self.examine(model, self.at(path), path, **given)

    def examine(
        self, model: type[M], found: Any, path: Sequence[str | int], **given: Any
    ) -> tuple[M | None, list[Mistake]]:
        """Read `found`, which was made of the value at `path`, as a `model`. Gives it or None, and every mistake."""
        if not isinstance(found, dict):
            return None, [self.mistake(path, f"found {show(found)}, expected a mapping")]
        try:
            return model.model_validate({**given, **found}), []
        except ValidationError as invalid:
            errors = invalid.errors(include_url=False)
        located: list[tuple[str, Position, Mistake]] = []
        for error in errors:
            loc = (*path, *(step for step in error["loc"] if step != "[key]"))
            node, place, _ = self._find(loc)
            located.append((node.file, place, self.mistake(loc, *explain(error, model))))
        return None, list(dict.fromkeys(mistake for *_, mistake in sorted(located, key=lambda one: one[:2])))

    def validate(self, model: type[M], path: Sequence[str | int] = (), **given: Any) -> M:
        """Read the value at `path` as a `model`. Raises Mistakes with all of them."""
        found, mistakes = self.check(model, path, **given)
        if found is None:
            raise Mistakes(mistakes, subject=self.file)
        return found


def read(text: str | bytes, file: str, form: Form | None = None) -> Document:
    """Read a text; `form` is told by the file's suffix where not given (".json", else YAML).

    Raises Mistakes where it is not UTF-8, too large, not in its language, or has members twice.
    """
    readable = _decoded(text, file)
    parse = json_texts.parse if (form or ("json" if file.endswith(".json") else "yaml")) == "json" else yaml_texts.parse
    try:
        root, slips = parse(readable)
        value = plain(root)
    except Unreadable as error:
        slips = [error.slip]
        root, value = Node(None, (1, 1)), None
    if slips:
        places = [f"{file}:{slip.position[0]}:{slip.position[1]}" for slip in slips]
        raise Mistakes(
            [Mistake(place, slip.message, slip.hint) for place, slip in zip(places, slips, strict=True)], subject=file
        )
    return Document(file, value, root)


def json_path(path: Sequence[str | int]) -> str:
    """Give the path as `$.relations['ann@x.org'].dataSets[0]`."""
    steps = []
    for step in path:
        if isinstance(step, int):
            steps.append(f"[{step}]")
        else:
            steps.append(f".{step}" if _WORD.fullmatch(step) else f"[{step!r}]")
    return "$" + "".join(steps)


def _decoded(text: str | bytes, file: str) -> str:
    """Give the text without a byte order mark, if it is one and not too large."""
    if len(text) > MAX_CHARACTERS:
        raise Mistakes(
            [Mistake(file, f"the text is longer than {MAX_CHARACTERS} characters", "split it")], subject=file
        )
    try:
        readable = text.decode() if isinstance(text, bytes) else text
        readable.encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        hint = f"{error.reason} at character {error.start}"
        raise Mistakes([Mistake(file, "the text is not UTF-8", hint)], subject=file) from None
    return readable.removeprefix("\ufeff")
