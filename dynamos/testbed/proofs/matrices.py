"""Matrices: what came of tries to reach each other, beside what policy says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from dynamos.kit.errors import Broken

Verdict = Literal["ok", "leak", "blocked"]

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """One try: what policy says, and what happened. `protocol` is tcp, udp, icmp or `forged` (a packet of an outsider
    who pretends to be in the overlay); `evidence` is how it got through."""

    phase: str
    source: str
    target: str
    address: str
    protocol: str
    port: int
    expected: bool
    observed: bool
    why: str
    evidence: str = ""

    def __str__(self) -> str:
        how = self.protocol if self.protocol == "icmp" else f"{self.protocol} {self.port}"
        seen = f", {self.evidence}" if self.evidence else ""
        return (
            f"{self.phase}: {self.verdict}: {self.source} to {self.target} at {self.address}, {how}: {self.why}{seen}"
        )

    @property
    def verdict(self) -> Verdict:
        """A leak got through though it must not; what is blocked did not, though it may."""
        if self.expected == self.observed:
            return "ok"
        return "leak" if self.observed else "blocked"

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        return {name: getattr(self, name) for name in self.__slots__} | {"verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class Matrix:
    """All tries of a proof, in the order of their phases."""

    cells: tuple[Cell, ...]

    @property
    def leaks(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.verdict == "leak")

    @property
    def blocked(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.verdict == "blocked")

    @property
    def holds(self) -> bool:
        """Whether everything is as policy says, and something was tried."""
        return bool(self.cells) and not self.leaks and not self.blocked

    @property
    def phases(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.phase for cell in self.cells))

    def __add__(self, other: Matrix) -> Matrix:
        return Matrix(self.cells + other.cells)

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        counts = {"tries": len(self.cells), "leaks": len(self.leaks), "blocked": len(self.blocked)}
        return {"holds": self.holds, **counts, "cells": [cell.as_dict() for cell in self.cells]}

    def check(self) -> None:
        """Raise Broken that names what is not as policy says; do nothing where all is."""
        if self.holds:
            return
        wrong = [*self.leaks, *self.blocked]
        what = f"{len(self.leaks)} leaks and {len(self.blocked)} blocked ways in {len(self.cells)} tries"
        log = [str(cell) for cell in wrong[:_SHOWN]]
        if len(wrong) > _SHOWN:
            log.append(f"and {len(wrong) - _SHOWN} more")
        raise Broken(what if wrong else "nothing was tried", code="not-isolated", log=log)
