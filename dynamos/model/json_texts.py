"""JSON as nodes: RFC 8259, strictly."""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder
from typing import Any

from dynamos.model.nodes import MAX_DEPTH, Node, Position, Slip, Unreadable, real, sound, whole

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_DECODER = JSONDecoder()
_WORD = re.compile(r"[A-Za-z_'+]+")
_WORDS: dict[str, Any] = {"null": None, "true": True, "false": False}


def parse(text: str) -> tuple[Node, list[Slip]]:
    """Read one JSON value. Gives it and the slips that reading could go on after.

    Raises Unreadable where the text is not JSON.
    """
    reader = _Reader(text)
    root = reader.value(0)
    if reader.peek():
        raise reader.error("something after the end of the value", "keep one value in a file")
    return root, reader.slips


class _Reader:
    """A cursor over the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.slips: list[Slip] = []
        self._line_at = (1, 0)

    def place(self) -> Position:
        """Give line and column of the cursor, counting on from the last time."""
        line, start = self._line_at
        newlines = self.text.count("\n", start, self.at)
        if newlines:
            line, start = line + newlines, self.text.rfind("\n", 0, self.at) + 1
            self._line_at = (line, start)
        return line, self.at - start + 1

    def error(self, message: str, hint: str = "") -> Unreadable:
        return Unreadable(self.place(), f"not JSON: {message}", hint)

    def peek(self) -> str:
        """Skip spaces and give the next character, an empty text at the end."""
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.text[self.at : self.at + 1]

    def value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise Unreadable(self.place(), f"values are nested deeper than {MAX_DEPTH}", "flatten them")
        match self.peek():
            case "{":
                return self._object(depth)
            case "[":
                return self._array(depth)
            case '"':
                place = self.place()
                return Node(self._string(), place)
            case "":
                raise self.error("the text ends where a value should be")
            case _:
                return self._scalar()

    def _object(self, depth: int) -> Node:
        node = Node({}, self.place())
        self.at += 1
        if self.peek() == "}":
            self.at += 1
            return node
        while True:
            if self.peek() != '"':
                raise self.error("a member's name in double quotes should be here", "a comma before } is one too many")
            place = self.place()
            name = self._string()
            if name in node.keys:
                first = node.keys[name]
                self.slips.append(Slip(place, f"member {name!r} is here twice", f"the first one is in line {first[0]}"))
            if self.peek() != ":":
                raise self.error(f"a colon should follow the name {name[:40]!r}")
            self.at += 1
            node.value[name] = self.value(depth + 1)
            node.keys[name] = place
            if self._ends("}"):
                return node

    def _array(self, depth: int) -> Node:
        node = Node([], self.place())
        self.at += 1
        if self.peek() == "]":
            self.at += 1
            return node
        while True:
            node.value.append(self.value(depth + 1))
            if self._ends("]"):
                return node

    def _ends(self, close: str) -> bool:
        """Step over a comma or the closing character; tell whether it was that."""
        found = self.peek()
        if found not in (",", close) or not found:
            raise self.error(f"a comma or {close} should be here")
        self.at += 1
        return found == close

    def _string(self) -> str:
        place = self.place()
        try:
            text, self.at = _DECODER.raw_decode(self.text, self.at)
        except JSONDecodeError as error:
            self.at = error.pos
            raise self.error(error.msg[:1].lower() + error.msg[1:]) from None
        return sound(text, place)

    def _scalar(self) -> Node:
        place = self.place()
        number = _NUMBER.match(self.text, self.at)
        if number:
            self.at = number.end()
            digits, fraction, exponent = number.groups()
            if fraction or exponent:
                return Node(real(number[0], place), place)
            return Node(whole(digits, place), place)
        word = _WORD.match(self.text, self.at)
        if word and word[0] in _WORDS:
            self.at = word.end()
            return Node(_WORDS[word[0]], place)
        raise self.error(
            f"{(word[0] if word else self.text[self.at])[:40]!r} is not a value", "texts stand in double quotes"
        )
