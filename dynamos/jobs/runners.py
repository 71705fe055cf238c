"""The contract of a runner: how one job part runs at one party (design §5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dynamos.kit.errors import DynamosError
from dynamos.model.jobs import Usage
from dynamos.model.plans import Part
from dynamos.model.services import Service


@dataclass(frozen=True, slots=True)
class Assignment:
    """Everything a runner needs to run one part, once.

    `options` are the options of each step, by step id: JSON-ready. `data` is the folder that each step may read, by
    step
    id; steps without one see no data of the party. `deadline` is in seconds from now. `trace` is a W3C trace context.
    """

    part: Part
    services: Mapping[str, Service]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: Mapping[str, Path] = field(default_factory=dict)
    deadline: float = 60.0
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a part ended: the usage of every step that started, and the first error if it failed."""

    usages: tuple[Usage, ...] = ()
    error: DynamosError | None = None


class RunningPart(Protocol):
    """A part at work."""

    async def wait(self) -> Outcome:
        """Wait until every step has ended. A step that fails ends the others; failures are in the outcome, not
        raised."""
        ...

    async def kill(self, error: DynamosError) -> None:
        """End every step now, whatever it does; `wait` then gives `error`. Does nothing to a part that has ended."""
        ...


class Runner(Protocol):
    """Runs parts. `isolation` names what holds between a service and the machine, e.g. ("user", "network",
    "seccomp")."""

    @property
    def name(self) -> str: ...

    @property
    def isolation(self) -> tuple[str, ...]: ...

    async def start(self, assignment: Assignment, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> RunningPart:
        """Start every step of the part, joined by pipes.

        `inputs` and `outputs` map the names of the part's incoming and outgoing edges to file descriptors that carry
        one Arrow IPC stream each. The runner takes them over and closes its copies, also when it fails.
        """
        ...

    async def close(self) -> None:
        """End everything that still runs, and the runner's own processes."""
        ...
