"""What the zygote is told of one step, and what it tells back: plain values that travel as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from dynamos.jobs.runners import Assignment
from dynamos.model.plans import Edge, Step
from dynamos.model.services import Limits

PROGRAMS = "dynamos.services.catalogue"
"""The module that finds installed Python services and imports what they use."""


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One step. `memory`, `scratch` in bytes, `cpu` in seconds, `deadline` on the machine's monotonic clock.

    `inputs` and `outputs` name the descriptors that travel with it, inputs first. `data` is the folder that the step
    may read, "" for none; `folder` is where a command given as an absolute path really lies. Without a `service`
    nothing is run: a rehearsal of the confinement.
    """

    service: str = ""
    command: tuple[str, ...] = ()
    folder: str = ""
    job: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    data: str = ""
    memory: int = 1 << 30
    cpu: float = 600.0
    processes: int = 64
    scratch: int = 256 << 20
    deadline: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `as_json` gave."""
        lists = {name: tuple(value[name]) for name in ("command", "inputs", "outputs")}
        return cls(**{**value, **lists})


@dataclass(frozen=True, slots=True)
class StepReport:
    """How a step ended, as its keeper saw it.

    `status` is what wait(2) says, None where nobody could tell. `why` is "" where the step ended by itself, else
    "killed", "deadline", "cpu-limit", "out-of-memory", "start-failed" or "lost". `running` and `ended` are on the
    monotonic clock, `cpu` is in seconds, `peak` in bytes. `log` is the end of what it printed, `error` what it wrote
    as its error.
    """

    status: int | None = None
    why: str = ""
    running: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    isolation: tuple[str, ...] = ()
    log: str = ""
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give JSON-ready members."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `as_json` gave."""
        return cls(**{**value, "isolation": tuple(value["isolation"])})


@dataclass(frozen=True, slots=True)
class Settings:
    """How a zygote works. `programs` is the module that has `find(name)` and `preload()`.

    `mode` is "sandbox" or "process"; `required` forbids the second to stand in for the first. `folders` are shown
    read-only to every service, besides the interpreter and the system's programs. `spare` is how many confined
    processes wait for work.
    """

    party: str
    mode: str = "sandbox"
    required: bool = False
    programs: str = PROGRAMS
    folders: tuple[str, ...] = ()
    spare: int = 3

    def as_json(self) -> str:
        """Give the settings as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `as_json` gave."""
        value = json.loads(text)
        return cls(**{**value, "folders": tuple(value["folders"])})


def spec_of(assignment: Assignment, step: Step, *, deadline: float) -> StepSpec:
    """Give what the zygote has to know of `step`; `deadline` is on the monotonic clock."""
    service = assignment.services[step.service]
    limits: Limits = service.limits
    data = assignment.data.get(step.id)
    program = service.command[0] if service.command else ""
    return StepSpec(
        service=step.service,
        command=service.command,
        folder=str(Path(program).parent.resolve()) if program.startswith("/") else "",
        job=json.dumps(job_of(assignment, step)),
        inputs=tuple(edge.name for edge in incoming(assignment, step)),
        outputs=tuple(edge.name for edge in outgoing(assignment, step)),
        data=os.path.realpath(data) if data else "",
        memory=int(limits.memory),
        cpu=float(limits.cpu),
        processes=limits.processes,
        scratch=int(limits.scratch),
        deadline=deadline,
    )


def job_of(assignment: Assignment, step: Step) -> dict[str, Any]:
    """Give the content of DYNAMOS_JOB (design §5.1). The deadline is in seconds from the start."""
    return {
        "job": assignment.part.job,
        "party": step.party,
        "service": step.service,
        "step": step.id,
        "options": dict(assignment.options.get(step.id, {})),
        "deadline": assignment.deadline,
        "provider": step.provider,
        "trace": dict(assignment.trace),
    }


def incoming(assignment: Assignment, step: Step) -> tuple[Edge, ...]:
    """Give the streams that the step reads."""
    return tuple(e for e in assignment.part.edges if (e.target_party, e.target) == (step.party, step.id))


def outgoing(assignment: Assignment, step: Step) -> tuple[Edge, ...]:
    """Give the streams that the step writes."""
    return tuple(e for e in assignment.part.edges if (e.source_party, e.source) == (step.party, step.id))


def environment(
    job: str, inputs: Mapping[str, int], outputs: Mapping[str, int], error: int, *, data: str = ""
) -> dict[str, str]:
    """Give the variables of the service contract (design §5.1). `data` is where the step sees its party's data."""
    found = {
        "DYNAMOS_JOB": job,
        "DYNAMOS_INPUTS": ",".join(f"{name}={fd}" for name, fd in inputs.items()),
        "DYNAMOS_OUTPUTS": ",".join(f"{name}={fd}" for name, fd in outputs.items()),
        "DYNAMOS_ERROR": str(error),
    }
    return {**found, "DYNAMOS_DATA": data} if data else found
