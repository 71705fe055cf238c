"""Agreements: what a party allows whom."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field, field_validator

from dynamos.model.values import Name, Value


class Relation(Value):
    """What one user may do at one party. Upstream's five members, and what upstream left out below them.

    `tables` maps a table to the columns that may be used; None permits every table of the permitted data sets.
    `algorithms` limits what may be computed; None permits any. `duties` are services that the party forces into the
    chain of this user. After `valid_until` the relation permits nothing.
    """

    id: str = Field(default="", alias="ID")
    request_types: tuple[Name, ...] = ()
    data_sets: tuple[Name, ...] = ()
    allowed_archetypes: tuple[Name, ...] = ()
    allowed_compute_providers: tuple[Name, ...] = ()
    tables: dict[str, tuple[str, ...]] | None = None
    algorithms: tuple[str, ...] | None = None
    duties: tuple[Name, ...] = ()
    valid_until: datetime | None = None

    @field_validator("valid_until")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        """Read a time without a zone as UTC, so that it can be compared with the clock."""
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class Agreement(Value):
    """Everything that one party allows. `duties` maps a request type to services that the party forces for
    everybody."""

    name: Name
    relations: dict[str, Relation] = Field(default_factory=dict)
    compute_providers: tuple[Name, ...] = ()
    archetypes: tuple[Name, ...] = ()
    duties: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)
