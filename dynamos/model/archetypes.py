"""Archetypes: patterns of data exchange, as data."""

from __future__ import annotations

from typing import Literal

from dynamos.model.values import Name, Value

AT_PROVIDER = "dataProvider"
AT_OTHER = "other"


class Archetype(Value):
    """Where the algorithm runs and who gets the result; of two that are permitted, the lighter one wins.

    `compute_provider` is "dataProvider" (the algorithm goes to the data) or "other" (the data go to a compute
    provider that the agreements allow). The upstream launch file has the same four members.
    """

    name: Name
    compute_provider: Literal["dataProvider", "other"] = "dataProvider"
    result_recipient: Literal["requestor"] = "requestor"
    weight: int = 100
    description: str = ""

    @property
    def moves_data(self) -> bool:
        """Whether rows leave the data provider before the algorithm runs."""
        return self.compute_provider == AT_OTHER
