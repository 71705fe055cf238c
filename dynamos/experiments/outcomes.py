"""Outcomes: the trials of a run as a claim and a report look at them: filtered, grouped, and in pairs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dynamos.experiments.designs import shown
from dynamos.experiments.factors import Cell, Level
from dynamos.experiments.measures import Reading
from dynamos.experiments.records import Record, Status


@dataclass(frozen=True)
class Outcomes:
    """Trials that are no warm-up, whatever became of them."""

    records: tuple[Record, ...]

    @classmethod
    def of(cls, records: Iterable[Record]) -> Outcomes:
        return cls(tuple(record for record in records if not record.warmup))

    def __len__(self) -> int:
        return len(self.records)

    def __bool__(self) -> bool:
        return bool(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @property
    def done(self) -> Outcomes:
        """Those that came to their end."""
        return self._those(record for record in self if record.status is Status.DONE)

    @property
    def failed(self) -> Outcomes:
        return self._those(record for record in self if record.status is Status.FAILED)

    @property
    def skipped(self) -> Outcomes:
        return self._those(record for record in self if record.status is Status.SKIPPED)

    def where(self, **levels: Level | tuple[Level, ...] | None) -> Outcomes:
        """Those of cells with these levels; of several levels, any. None is a factor that is absent."""

        def fits(cell: Cell) -> bool:
            return all(
                cell.get(name) in (level if isinstance(level, tuple) else (level,)) for name, level in levels.items()
            )

        return self._those(record for record in self if fits(record.cell))

    def values(self, measure: str) -> list[float]:
        """The readings of a measure of those that are done, as numbers (yes is 1), in the order of the trials."""
        found = (record.measures.get(measure) for record in self.done)
        return [float(value) for value in found if value is not None and not isinstance(value, str)]

    def readings(self, measure: str) -> list[Reading]:
        """The readings of a measure of those that are done, as they were read."""
        return [record.measures.get(measure) for record in self.done]

    def median(self, measure: str) -> float | None:
        """The median of a measure, None where nobody read it."""
        values = self.values(measure)
        return statistics.median(values) if values else None

    def all(self, measure: str) -> bool | None:
        """Tell whether a yes/no measure is yes wherever it was read; None where it was read nowhere."""
        values = self.values(measure)
        return all(values) if values else None

    def not_all(self, measure: str) -> list[str]:
        """The cells where a yes/no measure is no."""
        bad = [record for record in self.done if record.measures.get(measure) is False]
        return list(dict.fromkeys(shown(record.cell) for record in bad))

    def levels(self, factor: str) -> list[Level]:
        """The levels of a factor that occur, in the order in which they first do; numbers ascending."""
        found = list(dict.fromkeys(record.cell[factor] for record in self if factor in record.cell))
        if all(isinstance(level, int | float) for level in found):
            return sorted(found, key=float)
        return found

    def by(self, *factors: str) -> list[tuple[dict[str, Level | None], Outcomes]]:
        """Group by the levels of these factors."""
        groups: dict[tuple[Level | None, ...], list[Record]] = {}
        for record in self:
            groups.setdefault(tuple(record.cell.get(name) for name in factors), []).append(record)
        return [(dict(zip(factors, key, strict=True)), Outcomes(tuple(some))) for key, some in groups.items()]

    def pairs(self, other: Outcomes, measure: str, *, but: Sequence[str] = ()) -> list[tuple[float, float]]:
        """Readings of these and those of the other side by side, where repetition and cell are the same but for the
        factors named in `but`."""
        mine, theirs = (side._keyed(measure, but) for side in (self, other))  # noqa: SLF001  our own
        return [(value, theirs[key]) for key, value in mine.items() if key in theirs]

    def _keyed(self, measure: str, but: Sequence[str]) -> dict[tuple[object, ...], float]:
        found: dict[tuple[object, ...], float] = {}
        for record in self.done:
            value = record.measures.get(measure)
            if value is not None and not isinstance(value, str):
                rest = tuple(sorted((k, v) for k, v in record.cell.items() if k not in but))
                found[record.repetition, rest] = float(value)
        return found

    @staticmethod
    def _those(records: Iterable[Record]) -> Outcomes:
        return Outcomes(tuple(records))
