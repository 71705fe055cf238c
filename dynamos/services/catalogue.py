"""The services that are installed: found by name, each a program that takes an environment and gives an exit code.

Importing this module imports no service, so that listing names stays cheap; `preload` imports everything at once.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from dynamos.kit.errors import BadInput, NotFound
from dynamos.kit.words import suggest
from dynamos.model.services import Service

if TYPE_CHECKING:
    from dynamos.services.kit import Program

GROUP = "dynamos.services"
"""The entry point group of services that other packages bring: their names, and the decorated functions."""

_OURS = ("sql-query", "sql-anonymize", "sql-aggregate", "sql-algorithm", "sql-graph")
_USED = ("duckdb", "pyarrow", "pyarrow.compute", "pyarrow.acero", "pyarrow.ipc", "dateutil.relativedelta")
_ONE_THREAD = {
    # Libraries that start a thread when they are imported; a process that forks must have one only.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


def names() -> tuple[str, ...]:
    """Give the names of all installed services: ours in the order of the chain, then others by name."""
    return (*_OURS, *sorted(_others().keys() - set(_OURS)))


def find(name: str) -> Callable[[Mapping[str, str]], int]:
    """Give the main of a service: environment in, exit code out. Raises NotFound with near names."""
    return _program(name).main


def manifest(name: str) -> Service:
    """Give the manifest of a service. Raises NotFound with near names."""
    return _program(name).manifest


def preload() -> None:
    """Import all that services use and keep an engine ready, so that a fork of this process starts them at once.

    Starts no thread. Leaves out what only charts need.
    """
    for variable, value in _ONE_THREAD.items():
        os.environ.setdefault(variable, value)
    for module in _USED:
        importlib.import_module(module)
    for name in names():
        _program(name)
    importlib.import_module("dynamos.services.engines").keep_spare()


@cache
def _program(name: str) -> Program:
    if name in _OURS:
        module = name.replace("-", "_")
        found: Program = getattr(importlib.import_module(f"dynamos.services.{module}"), module)
        return found
    if (entry := _others().get(name)) is None:
        raise NotFound(f"there is no service {name!r}", hint=suggest(name, names()))
    loaded: Program = entry.load()
    if not callable(getattr(loaded, "main", None)) or loaded.manifest.name != name:
        raise BadInput(
            f"{entry.value} is not the service {name!r}", hint="decorate it with dynamos.services.kit.service"
        )
    return loaded


@cache
def _others() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
