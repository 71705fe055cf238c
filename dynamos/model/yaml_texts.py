"""YAML as nodes: the 1.2 core schema (`no` is a text, dates are texts), no tags, no merge keys, aliases bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from dynamos.model.nodes import MAX_DEPTH, Node, Position, Slip, Unreadable, real, sound, whole

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_WHOLE = re.compile(r"[-+]?[0-9]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_STR_TAGS = (None, "!", "tag:yaml.org,2002:str")
_HINTS = {
    "mapping values are not allowed": "put quotes around a text that has ': ' in it, or look at the indentation",
    "did not find expected key": "look at the indentation of this line and the one before it",
    "did not find expected ',' or ']'": "close the list with ]",
    "did not find expected ',' or '}'": "close the mapping with }",
    "unexpected end of stream": "close the quotes",
    "could not find expected ':'": "write 'name: value'",
}


def parse(text: str) -> tuple[Node, list[Slip]]:
    """Read one YAML document. Gives its root and the slips that reading could go on after.

    Raises Unreadable where the text is not YAML.
    """
    composer = _Composer()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            composer.take(event)
    except yaml.MarkedYAMLError as error:
        raise _unreadable(text, error) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise Unreadable(place, "a character that YAML does not allow", "remove it, or escape it in quotes") from None
    return composer.root or Node(None, (1, 1)), composer.slips


@dataclass(slots=True)
class _Open:
    """A collection under construction; `key` waits for its value."""

    node: Node
    key: str | None = None


@dataclass(slots=True)
class _Composer:
    """Builds nodes from parser events, without recursion."""

    root: Node | None = None
    slips: list[Slip] = field(default_factory=list)
    _stack: list[_Open] = field(default_factory=list)
    _anchors: dict[str, Node] = field(default_factory=dict)

    def take(self, event: Any) -> None:
        place: Position = (event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, place)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event, place)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._stack.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise Unreadable(place, f"alias *{event.anchor} has no anchor", f"write &{event.anchor} first")
            self._put(self._anchors[event.anchor], place)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise Unreadable(place, "a second document begins here", "keep one document in a file; remove '---'")

    def _scalar(self, event: Any, place: Position) -> None:
        top = self._stack[-1] if self._stack else None
        if top and isinstance(top.node.value, dict) and top.key is None:
            self._key(top, sound(event.value, place), place)
            return
        self._tag(event, place)
        text = sound(event.value, place)
        node = Node(_resolve(text, place) if event.implicit[0] else text, place)
        self._keep(event, node)
        self._put(node, place)

    def _key(self, top: _Open, name: str, place: Position) -> None:
        if name in top.node.keys:
            first = top.node.keys[name]
            self.slips.append(Slip(place, f"member {name!r} is here twice", f"the first one is in line {first[0]}"))
        elif name == "<<":
            self.slips.append(Slip(place, "merge keys are not understood", "write the members out"))
        top.key = name
        top.node.keys[name] = place

    def _open(self, event: Any, place: Position) -> None:
        if self._stack and isinstance(self._stack[-1].node.value, dict) and self._stack[-1].key is None:
            raise Unreadable(place, "a list or mapping cannot be the name of a member", "write a text")
        if len(self._stack) >= MAX_DEPTH:
            raise Unreadable(place, f"values are nested deeper than {MAX_DEPTH}", "flatten them")
        self._tag(event, place)
        node = Node({} if isinstance(event, yaml.MappingStartEvent) else [], place)
        self._keep(event, node)
        self._put(node, place)
        self._stack.append(_Open(node))

    def _put(self, node: Node, place: Position) -> None:
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        if isinstance(top.node.value, list):
            top.node.value.append(node)
        elif top.key is None:
            raise Unreadable(place, "an alias cannot be the name of a member", "write a text")
        else:
            top.node.value[top.key] = node
            top.key = None

    def _keep(self, event: Any, node: Node) -> None:
        if event.anchor:
            self._anchors[event.anchor] = node

    def _tag(self, event: Any, place: Position) -> None:
        if event.tag not in _STR_TAGS:
            self.slips.append(Slip(place, f"tag {event.tag} is not understood", "write plain values without tags"))


def _resolve(text: str, place: Position) -> Any:
    """Give the value of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return whole(text, place)
    if _HEX.fullmatch(text):
        return whole(text[2:], place, 16)
    return real(text, place) if _REAL.fullmatch(text) else text


def _unreadable(text: str, error: yaml.MarkedYAMLError) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = str(error.problem or error.context or "not YAML")
    lines = text.splitlines()
    line = lines[place[0] - 1] if place[0] <= len(lines) else ""
    if "\t" in line[: place[1]] and not line[: place[1]].strip():
        return Unreadable(place, "a tab where YAML wants spaces", "indent with spaces")
    hint = next((hint for start, hint in _HINTS.items() if start in problem), "")
    context = f" {error.context}" if error.context and "did not" in problem else ""
    return Unreadable(place, f"not YAML: {problem}{context}", hint)
