"""Landscapes: what planning knows of the marketplace, as it is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dynamos.model.archetypes import Archetype
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service


@dataclass(frozen=True, slots=True)
class Landscape:
    """Definitions by name, and the parties whose agents are there."""

    archetypes: Mapping[str, Archetype]
    request_types: Mapping[str, RequestType]
    services: Mapping[str, Service]
    online: frozenset[str]
