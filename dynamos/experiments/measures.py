"""Measures: what a trial tells, each with a unit. A number without a unit is a mistake, never a figure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from dynamos.kit.errors import BadInput, Mistake, Mistakes
from dynamos.kit.words import suggest
from dynamos.model.units import Quantity

Reading: TypeAlias = float | int | bool | str | None
"""What one trial read of one measure; None where there was nothing to read."""

UNITS: Final[dict[str, str]] = {
    "s": "time",
    "ms": "time",
    "us": "time",
    "B": "size",
    "MiB": "size",
    "bit/s": "rate",
    "Mbit/s": "rate",
    "Gbit/s": "rate",
    "B/s": "rate",
    "rows/s": "rate",
    "1/s": "rate",
    "s/Gbit": "cost",
    "J": "energy",
    "count": "number",
    "rows": "number",
    "share": "number",
    "%": "number",
    "ratio": "number",
    "yes/no": "truth",
    "word": "word",
}
"""The known units, and what each is a unit of."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a trial reads: its name, its unit, and which way is better (nothing where neither is)."""

    name: str
    unit: str
    title: str = ""
    better: Literal["less", "more", ""] = ""
    main: bool = field(default=False, kw_only=True)
    """The report and comparisons begin with it."""

    @property
    def kind(self) -> str:
        return UNITS[self.unit]

    @property
    def numeric(self) -> bool:
        """Tell whether statistics can be made of it."""
        return self.kind not in ("word", "truth")

    @property
    def timed(self) -> bool:
        """Tell whether what else the machine does can be seen in it."""
        return UNITS.get(self.unit) in ("time", "rate", "cost", "energy")

    @property
    def label(self) -> str:
        """What an axis says."""
        named = self.title or self.name.replace("_", " ")
        return named if self.kind in ("word", "truth") else f"{named} ({self.unit})"

    def mistakes(self, where: str) -> list[Mistake]:
        """Tell what is wrong with how it is declared."""
        if not self.name.isidentifier():
            return [Mistake(where, f"{self.name!r} is not a name of a measure", "letters, digits and _")]
        if not self.unit:
            return [Mistake(where, f"the measure {self.name!r} has no unit", f"one of {', '.join(UNITS)}")]
        if self.better not in ("less", "more", ""):
            return [Mistake(where, f"the measure {self.name!r} is better={self.better!r}", "less, more or nothing")]
        if self.unit not in UNITS:
            hint = suggest(self.unit, UNITS) or f"one of {', '.join(UNITS)}"
            return [Mistake(where, f"the measure {self.name!r} has an unknown unit {self.unit!r}", hint)]
        return []

    def read(self, value: Any) -> Reading:
        """Give the reading that a trial's value is. A duration, size or rate is given in this measure's unit.

        Raises BadInput where it is none of this measure's kind, or not a finite number.
        """
        if value is None:
            return None
        if self.kind == "word":
            return str(value)
        if self.kind == "truth":
            if isinstance(value, bool):
                return value
            raise BadInput(f"{self.name!r} is yes or no, not {value!r}", where=self.name)
        if hasattr(value, "item"):
            value = value.item()  # a number of an array library
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInput(f"{self.name!r} is a number of {self.unit}, not {value!r}", where=self.name)
        if not math.isfinite(value):
            raise BadInput(f"{self.name!r} is {value!r}", where=self.name, hint="give None where nothing was measured")
        return self._in_unit(value)

    def _in_unit(self, value: float) -> float | int:
        if not isinstance(value, Quantity):
            return value
        factors = type(value).units | {f"{name}/s": factor for name, factor in _SPOKEN.items()}
        if self.kind not in (_KINDS.get(type(value).base), ""):
            raise BadInput(f"{self.name!r} is in {self.unit}, {value} is not", where=self.name)
        return float(value) / factors[self.unit]


_SPOKEN = {"bit": 1.0, "Mbit": 1e6, "Gbit": 1e9}
_KINDS = {"s": "time", "B": "size", "bit": "rate"}


def readings(measures: Iterable[Measure], told: Mapping[str, Any]) -> dict[str, Reading]:
    """Give what a trial told as readings, in the order of the measures.

    Raises Mistakes that name every measure that was not declared, or whose value is none of its kind.
    """
    known = {measure.name: measure for measure in measures}
    mistakes: list[Mistake] = []
    found: dict[str, Reading] = {}
    for name, value in told.items():
        if name not in known:
            hint = suggest(name, known) or f'declare it with its unit: Measure("{name}", "s")'
            mistakes.append(Mistake(name, f"the measure {name!r} is not declared, so it has no unit", hint))
            continue
        try:
            found[name] = known[name].read(value)
        except BadInput as error:
            mistakes.append(Mistake(name, error.message, error.hint))
    if mistakes:
        raise Mistakes(mistakes, subject="what the trial measured")
    return {name: found.get(name) for name in known}
