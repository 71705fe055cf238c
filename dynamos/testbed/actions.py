"""Actions: steps from what there is to what is wanted, as values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
_MANY = 8


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
        words.append(f"loses {_percent(direction.loss)}")
    if direction.reorder:
        words.append(f"reorders {_percent(direction.reorder)}")
    return " ".join(words)


def _differences(before: Item, after: Item) -> Iterator[str]:
    for name in type(after).model_fields:
        was, becomes = getattr(before, name), getattr(after, name)
        if was == becomes:
            continue
        if isinstance(was, Direction) and isinstance(becomes, Direction):
            yield f"{name} {', '.join(_turns(was, becomes))}"
        elif isinstance(before, Overlay) and name == "seats":
            yield from _members(was, becomes)
        elif isinstance(before, Node) and name == "names":
            yield from _learned(was, becomes)
        elif isinstance(before, Routes) and name == "hops":
            yield f"to {len(becomes)} networks" + (
                f" instead of {len(was)}" if len(was) != len(becomes) else ", new ways"
            )
        else:
            yield f"{name} {was} → {becomes}"


def _learned(was: Mapping[str, str], becomes: Mapping[str, str]) -> Iterator[str]:
    """Give which names a node learns, also anew, and which it forgets."""
    told = (
        ("learns", [name for name in becomes if was.get(name) != becomes[name]]),
        ("forgets", [name for name in was if name not in becomes]),
    )
    for word, names in told:
        if names:
            yield f"{word} {', '.join(names) if len(names) <= _MANY else f'{len(names)} names'}"


def _turns(was: Direction, becomes: Direction) -> Iterator[str]:
    """Give what of a direction changes."""
    for name in Direction.model_fields:
        old, new = getattr(was, name), getattr(becomes, name)
        if old != new:
            shown = [
                _percent(x) if name in ("loss", "reorder") else "none" if x is None else str(x) for x in (old, new)
            ]
            yield f"{name} {' → '.join(shown)}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g}%"


def _members(was: tuple[object, ...], becomes: tuple[object, ...]) -> Iterator[str]:
    for one, many, these, others in (("leaves", "leave", was, becomes), ("joins", "join", becomes, was)):
        names = [str(getattr(seat, "container", "")) for seat in these if seat not in others]
        if names:
            yield f"{', '.join(names)} {one if len(names) == 1 else many}"


def _after_colon(text: str) -> str:
    return f": {text}" if text else ""
