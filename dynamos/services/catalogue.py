"""The services that are installed: found by name, each a program that takes an environment and gives an exit code.

Importing this module imports no service, so that listing names stays cheap; `preload` imports everything at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING

from dynamos.kit.errors import BadInput, NotFound
from dynamos.kit.words import suggest
from dynamos.model.services import Service

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from dynamos.services.kit import Program

GROUP = "dynamos.services"
"""The entry point group of services that other packages bring: their names, and the decorated functions."""

_OURS = ("sql-query", "sql-anonymize", "sql-aggregate", "sql-algorithm", "sql-graph")
_WITH_NUMPY = ("sql-graph",)
_USED = ("duckdb", "pyarrow", "pyarrow.compute", "pyarrow.acero", "pyarrow.ipc", "dateutil.relativedelta")
_ENGINES = "dynamos.services.engines"
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


def preload(*, forks: bool = True) -> None:
    """Import all that services use and keep an engine ready: for this process, or with `forks` for those that are
    forked from it, so that they start services at once.

    Starts no thread. Leaves out what only charts need.
    """
    for variable, value in _ONE_THREAD.items():
        os.environ.setdefault(variable, value)
    for module in _USED:
        importlib.import_module(module)
    for name in names():
        _program(name)
    importlib.import_module(_ENGINES).keep_spare(forks=forks)


def prepare(name: str) -> Callable[[], None]:
    """Import what one service uses, in a process that runs no other. Raises NotFound with near names.

    Gives what is worth doing after that while nobody asks for the service: keeping an engine ready, if it has one.
    """
    if name in _OURS and name not in _WITH_NUMPY:
        # Where PyArrow finds numpy it takes it along: a third of all that these services import, and of no use to them.
        sys.modules.setdefault("numpy", None)  # type: ignore[arg-type]
    _program(name)
    return partial(sys.modules[_ENGINES].keep_spare, forks=False) if _ENGINES in sys.modules else _nothing


def _nothing() -> None:
    pass


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
    from importlib.metadata import entry_points  # noqa: PLC0415  one of ours is found without

    return {entry.name: entry for entry in entry_points(group=GROUP)}
