"""Findings: a matrix of a cluster without what nothing can be told of, and what that is. Pure.

Silence means that a policy holds only where somebody would have answered. A leak is never left out.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dynamos.testbed.proofs.clusters import OF_THE_CLUSTER, Occasion, Target
from dynamos.testbed.proofs.matrices import Cell, Matrix

Way = tuple[str, str]

UNREACHED = "nobody reaches it, not even a pod without policies"
GONE = "its pod went meanwhile"
SPARE = "agents have another address of it"
SHIFTING = "a job opened or shut this way meanwhile"


@dataclass(frozen=True, slots=True)
class Untold:
    """How many silent tries at a target tell nothing, and why."""

    target: Target
    tries: int
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        told = {name: getattr(self.target, name) for name in ("name", "address", "protocol", "port")}
        return {**told, "tries": self.tries, "why": self.why}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found: the tries that tell something, and the targets at which others told nothing."""

    matrix: Matrix
    untold: tuple[Untold, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        return {**self.matrix.as_dict(), "untold": [each.as_dict() for each in self.untold]}

    def check(self) -> None:
        """Raise Broken that names what is not as policy says; do nothing where all is."""
        self.matrix.check()


def finding(
    occasion: Occasion, matrix: Matrix, *, gone: Collection[str] = (), shifting: Collection[Way] = ()
) -> Finding:
    """Give what a matrix tells. `gone` are targets whose pod went while it was tried, `shifting` the ways between
    parties that were not the same before and after."""
    parties = {spot.name: spot.party for spot in occasion.spots if spot.kind == "agent"}
    targets = {target.name: target for target in occasion.targets}
    known = _Known.of(occasion, matrix, gone)
    kept: list[Cell] = []
    left: dict[tuple[str, str], int] = {}
    for cell in matrix.cells:
        target = targets[cell.target]
        between = target.kind == "agent" and (parties.get(cell.source, ""), target.party) in shifting
        if why := SHIFTING if between else known.doubt(cell, target):
            left[cell.target, why] = left.get((cell.target, why), 0) + 1
        else:
            kept.append(cell)
    untold = tuple(Untold(targets[name], tries, why) for (name, why), tries in left.items())
    return Finding(Matrix(tuple(kept)), untold)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of targets: which were reached by an outsider, and who reached an API server."""

    reached: frozenset[str]
    served: frozenset[str]
    gone: frozenset[str]

    @classmethod
    def of(cls, occasion: Occasion, matrix: Matrix, gone: Collection[str]) -> _Known:
        outsiders = {spot.name for spot in occasion.spots if spot.kind == "outsider"}
        servers = {target.name for target in occasion.targets if target.kind == "api-server"}
        seen = [cell for cell in matrix.cells if cell.observed]
        return cls(
            reached=frozenset(cell.target for cell in seen if cell.source in outsiders),
            served=frozenset(cell.source for cell in seen if cell.target in servers and cell.expected),
            gone=frozenset(gone),
        )

    def doubt(self, cell: Cell, target: Target) -> str:
        """Tell why a try tells nothing; give an empty text where it does."""
        if cell.observed:
            return ""
        if cell.target in self.gone:
            return GONE
        if target.kind in OF_THE_CLUSTER and cell.target not in self.reached:
            return UNREACHED
        return SPARE if target.kind == "api-server" and cell.expected and cell.source in self.served else ""
