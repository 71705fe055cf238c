"""Requests: who asks for what, of whom."""

from __future__ import annotations

from pydantic import Field

from dynamos.model.units import Duration
from dynamos.model.values import Name, Value


class User(Value):
    """Who asks. `user_name` is the key in the agreements' relations."""

    id: str = ""
    user_name: str


class Request(Value):
    """A query and an algorithm over the data of some providers.

    `options` switch optional services on; a member that names an archetype in `archetype` asks for that pattern.
    `algorithm_columns` are the algorithm's parameters, e.g. {"group": "origin", "value": "dep_delay"}.
    """

    type: Name
    user: User
    providers: tuple[Name, ...] = Field(min_length=1)
    query: str
    algorithm: str = ""
    algorithm_columns: dict[str, str] = Field(default_factory=dict)
    options: dict[str, bool] = Field(default_factory=dict)
    archetype: Name | None = None
    compute_provider: Name | None = None
    deadline: Duration | None = None

    def wants(self, option: str) -> bool | None:
        """Tell whether the option is on, off, or not given, in any letter case."""
        for name, value in self.options.items():
            if name.lower() == option.lower():
                return value
        return None
