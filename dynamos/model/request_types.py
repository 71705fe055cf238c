"""Request types: which services a kind of request needs, and which are optional."""

from __future__ import annotations

from pydantic import Field

from dynamos.model.values import Name, Value


class RequestType(Value):
    """Services that every request of this type runs, and services that an option of the request switches on."""

    name: Name
    required_services: tuple[Name, ...] = ()
    optional_services: dict[Name, str] = Field(default_factory=dict)
    description: str = ""
