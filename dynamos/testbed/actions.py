"""Actions: steps from what there is to what is wanted, as values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dynamos.model.networks import Direction
from dynamos.testbed.items import Container, Item, Key, Link, Node, Overlay, Router, Routes, World


@dataclass(frozen=True, slots=True)
class Make:
    """Make an item that is not there."""

    item: Item

    @property
    def key(self) -> Key:
        return self.item.key

    def __str__(self) -> str:
        return f"+ {self.key}{_after_colon(describe(self.item))}"


@dataclass(frozen=True, slots=True)
class Change:
    """Change an item while it is in use."""

    before: Item
    after: Item

    @property
    def key(self) -> Key:
        return self.after.key

    def __str__(self) -> str:
        return f"~ {self.key}{_after_colon('; '.join(_differences(self.before, self.after)))}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove an item, and what is on it. `why` tells it where the item is wanted and will be made again."""

    item: Item
    why: str = ""

    @property
    def key(self) -> Key:
        return self.item.key

    def __str__(self) -> str:
        return f"- {self.key}{_after_colon(self.why)}"


Action = Make | Change | Remove


def describe(item: Item) -> str:
    """Give what an item is, in one line."""
    text = ""
    match item:
        case World():
            text = f"testbed {item.testbed}"
        case Router():
            text = item.address
        case Link():
            ways = dict.fromkeys((_way(item.forward), _way(item.backward)))
            text = f"{' / '.join(ways)}, mtu {item.mtu}" + (f", {item.state}" if item.state != "up" else "")
        case Routes():
            text = f"to {len(item.hops)} networks"
        case Node():
            text = f"at {item.site}, {item.address}"
        case Container():
            text = f"on {item.node}"
        case Overlay():
            names = ", ".join(seat.container for seat in item.seats)
            text = f"{item.driver}, {item.subnet}, mtu {item.mtu}, joins {names}"
    return text


def _way(direction: Direction) -> str:
    words = [str(direction.delay)]
    if direction.jitter:
        words.append(f"± {direction.jitter}")
    if direction.rate is not None:
        words.append(str(direction.rate))
    if direction.loss:
        words.append(f"loses {direction.loss:.3g}")
    if direction.reorder:
        words.append(f"reorders {direction.reorder:.3g}")
    return " ".join(words)


def _differences(before: Item, after: Item) -> Iterator[str]:
    for name in type(after).model_fields:
        was, becomes = getattr(before, name), getattr(after, name)
        if was == becomes:
            continue
        if isinstance(was, Direction) and isinstance(becomes, Direction):
            changed = [each for each in Direction.model_fields if getattr(was, each) != getattr(becomes, each)]
            parts = [f"{each} {_shown(getattr(was, each))} → {_shown(getattr(becomes, each))}" for each in changed]
            yield f"{name} {', '.join(parts)}"
        elif name == "seats":
            yield from _members(was, becomes)
        elif isinstance(was, tuple):
            yield f"{name} change"
        else:
            yield f"{name} {_shown(was)} → {_shown(becomes)}"


def _members(was: tuple[object, ...], becomes: tuple[object, ...]) -> Iterator[str]:
    for one, many, these, others in (("leaves", "leave", was, becomes), ("joins", "join", becomes, was)):
        names = [str(getattr(seat, "container", "")) for seat in these if seat not in others]
        if names:
            yield f"{', '.join(names)} {one if len(names) == 1 else many}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""
