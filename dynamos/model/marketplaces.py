"""The marketplace: what belongs together."""

from __future__ import annotations

from pydantic import Field

from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet, Source
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Name, Value


class Party(Value):
    """An organisation: a data provider where it has data, a compute provider where agreements name it as one.

    `data` maps data set -> table -> where it lies. `admins` are the users who may change the party's agreement.
    """

    name: Name
    description: str = ""
    data: dict[Name, dict[str, Source]] = Field(default_factory=dict)
    admins: tuple[str, ...] = ()


class Marketplace(Value):
    """Parties, agreements, archetypes, request types, services and data sets, each by name."""

    name: Name
    description: str = ""
    parties: dict[Name, Party] = Field(default_factory=dict)
    users: dict[str, str] = Field(default_factory=dict)
    agreements: dict[Name, Agreement] = Field(default_factory=dict)
    archetypes: dict[Name, Archetype] = Field(default_factory=dict)
    request_types: dict[Name, RequestType] = Field(default_factory=dict)
    services: dict[Name, Service] = Field(default_factory=dict)
    data_sets: dict[Name, DataSet] = Field(default_factory=dict)
