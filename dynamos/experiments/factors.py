"""Factors: what an experiment varies, the levels of each, and where a factor has a meaning at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Literal, TypeAlias

from dynamos.kit.errors import Mistake
from dynamos.kit.words import suggest

Level: TypeAlias = str | int | float | bool
Cell: TypeAlias = Mapping[str, Level]
"""One combination of levels; a factor that has no meaning in it is absent."""
Change: TypeAlias = Literal["testbed", "marketplace", "request"]
"""What has to be made anew where a level changes, from the dearest to the cheapest."""
Condition: TypeAlias = Mapping[str, Level | tuple[Level, ...]] | Callable[[Cell], bool]

CHANGES: tuple[Change, ...] = ("testbed", "marketplace", "request")


@dataclass(frozen=True)
class Factor:
    """One thing that is varied.

    `levels` are all of them, or, by the levels of another factor named in `within`, the levels that go with each
    (nested). Where `when` does not hold for the factors before it, it is absent (conditional). `quick` are the levels
    of a quick run. `changes` says what is made anew for another level, so that the dearest is changed least often.
    """

    name: str
    levels: Sequence[Level] | Mapping[Level, Sequence[Level]]
    quick: Sequence[Level] = field(default=(), kw_only=True)
    changes: Change = field(default="request", kw_only=True)
    within: str = field(default="", kw_only=True)
    when: Condition = field(default_factory=dict, kw_only=True)
    unit: str = field(default="", kw_only=True)
    title: str = field(default="", kw_only=True)

    @property
    def label(self) -> str:
        """What an axis says."""
        named = self.title or self.name.replace("_", " ")
        return f"{named} ({self.unit})" if self.unit else named

    @property
    def all(self) -> tuple[Level, ...]:
        """Every level that it can have, in the order in which they are declared."""
        if isinstance(self.levels, Mapping):
            return tuple(dict.fromkeys(level for some in self.levels.values() for level in some))
        return tuple(self.levels)

    @property
    def open(self) -> bool:
        """Tell whether its levels are numbers, so that another number is a level too."""
        return all(isinstance(level, int | float) and not isinstance(level, bool) for level in self.all)

    def levels_in(self, cell: Cell) -> tuple[Level, ...]:
        """Give its levels beside the levels of the factors before it; none where it has no meaning there."""
        if not _holds(self.when, cell):
            return ()
        if isinstance(self.levels, Mapping):
            outer = cell.get(self.within)
            return tuple(self.levels.get(outer, ())) if outer is not None else ()
        return tuple(self.levels)

    def parse(self, text: str) -> Level:
        """Read a level as somebody wrote it. Raises ValueError that names the levels there are."""
        for level in self.all:
            if text == written(level):
                return level
        if self.open:
            try:
                return int(text) if all(isinstance(level, int) for level in self.all) else float(text)
            except ValueError:
                raise ValueError(f"{text!r} is not a number, as the levels of {self.name!r} are") from None
        hint = suggest(text, [written(level) for level in self.all])
        known = ", ".join(written(level) for level in self.all)
        raise ValueError(f"{self.name!r} has no level {text!r}; {hint or f'it has {known}'}")

    def mistakes(self, where: str, before: Iterable[str]) -> list[Mistake]:
        """Tell what is wrong with how it is declared, after the factors named in `before`."""
        known = list(before)
        found: list[tuple[str, str]] = []
        if not self.name.isidentifier() or iskeyword(self.name):
            found.append((f"{self.name!r} is not a name of a factor", "letters, digits and _, no word of Python's"))
        if not self.all:
            found.append((f"the factor {self.name!r} has no level", "give it one at least"))
        if isinstance(self.levels, Mapping) and self.within not in known:
            found.append((f"the levels of {self.name!r} go with those of {self.within!r}, which is no factor before it",
                          suggest(self.within, known)))  # fmt: skip
        if isinstance(self.when, Mapping):
            found += [
                (f"{self.name!r} depends on {name!r}, which is no factor before it", suggest(name, known))
                for name in self.when if name not in known
            ]  # fmt: skip
        found += [
            (f"{level!r} in quick is no level of {self.name!r}", "") for level in self.quick if level not in self.all
        ]
        if self.changes not in CHANGES:
            found.append((f"{self.name!r} changes {self.changes!r}", f"one of {', '.join(CHANGES)}"))
        return [Mistake(where, message, hint) for message, hint in found]


def doubling(first: int, last: int) -> tuple[int, ...]:
    """Give first, its double, and so on up to `last`, which is in it whether or not it is reached."""
    levels = []
    level = first
    while level < last:
        levels.append(level)
        level *= 2
    return (*levels, last)


def written(level: Level) -> str:
    """Give a level as people write it."""
    if isinstance(level, bool):
        return "yes" if level else "no"
    return str(level)


def _holds(when: Condition, cell: Cell) -> bool:
    if callable(when):
        return bool(when(cell))
    return all(cell.get(name) in (wanted if isinstance(wanted, tuple) else (wanted,)) for name, wanted in when.items())
