"""Nodes: the values of a text, each with the place where it stands. What the readers of YAML and JSON give."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Position = tuple[int, int]
"""Line and column, both from 1 on."""

MAX_CHARACTERS = 8 * 2**20
MAX_DEPTH = 64
MAX_VALUES = 250_000
MAX_DIGITS = 40


@dataclass(slots=True)
class Node:
    """One value: a scalar, a list of nodes or a dict of nodes; and where it and its keys stand.

    Readers fill it in while they read; afterwards it is only looked at. An alias is the very node of its anchor.
    `file` is where it and its own key stand, if that is another file than its document's.
    """

    value: Any
    position: Position
    keys: dict[str, Position] = field(default_factory=dict)
    file: str = ""


@dataclass(frozen=True, slots=True)
class Slip:
    """Something wrong in a text, at a place."""

    position: Position
    message: str
    hint: str = ""


class Unreadable(Exception):
    """The text is not in its language; reading ended here."""

    def __init__(self, position: Position, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.slip = Slip(position, message, hint)


def plain(root: Node) -> Any:
    """Give the node as plain dicts, lists and scalars.

    Raises Unreadable where aliases make it endless, deeper than MAX_DEPTH or larger than MAX_VALUES.
    """
    count = 0

    def unfold(node: Node, depth: int) -> Any:
        nonlocal count
        count += 1
        if count > MAX_VALUES:
            raise Unreadable(node.position, f"the text unfolds to more than {MAX_VALUES} values", "use fewer aliases")
        if depth > MAX_DEPTH:
            raise Unreadable(node.position, f"values are nested deeper than {MAX_DEPTH}", "flatten them")
        if isinstance(node.value, dict):
            return {name: unfold(child, depth + 1) for name, child in node.value.items()}
        if isinstance(node.value, list):
            return [unfold(child, depth + 1) for child in node.value]
        return node.value

    return unfold(root, 0)


def whole(digits: str, position: Position, base: int = 10) -> int:
    """Read a whole number. Raises Unreadable where it is absurdly long."""
    if len(digits) > MAX_DIGITS:
        raise Unreadable(position, f"a number with {len(digits)} digits", f"write at most {MAX_DIGITS} digits")
    return int(digits, base)


def real(text: str, position: Position) -> float:
    """Read a number with a fraction. Raises Unreadable where it is too large to keep."""
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Unreadable(position, "a number too large to keep", "write a smaller one")
    return number


def sound(text: str, position: Position) -> str:
    """Give the text if it can be written to a file again. Raises Unreadable where escapes made it half a character."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Unreadable(position, "a character that cannot be kept (NUL or half of a pair)", "remove it")
    return text
