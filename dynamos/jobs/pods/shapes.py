"""Shapes of pods: what a pod must be like before it is known which job it will run. Pods of one shape are alike."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from dynamos.jobs.pods.settings import PodsConfig
from dynamos.jobs.runners import Assignment

INTERPRETER_BYTES = 192 << 20
"""What Python with everything that services import may have, besides what the service itself may."""
COURIER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Slot:
    """One step's container. `memory` and `scratch` in bytes. `python`: it waits for the name of a service of ours."""

    image: str
    python: bool = True
    data: bool = False
    memory: int = 1 << 30
    scratch: int = 256 << 20

    @property
    def limit(self) -> int:
        """Give the bytes that the whole container may have."""
        return self.memory + (INTERPRETER_BYTES if self.python else COURIER_BYTES // 4)


@dataclass(frozen=True, slots=True)
class Shape:
    """A pod's containers, in the order of the steps."""

    slots: tuple[Slot, ...]

    @property
    def key(self) -> str:
        """Give a short name for the shape, for labels and records."""
        text = json.dumps([asdict(slot) for slot in self.slots], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def slot_names(shape: Shape) -> tuple[str, ...]:
    """Give the names of the slots: "1", "2"."""
    return tuple(str(number) for number in range(1, len(shape.slots) + 1))


def shape_of(assignment: Assignment, config: PodsConfig) -> Shape:
    """Give the shape of the pod that can run the part."""
    slots = []
    for step in assignment.part.steps:
        service = assignment.services[step.service]
        slots.append(
            Slot(
                image=service.image or config.image,
                python=not service.command,
                data=step.id in assignment.data,
                memory=int(service.limits.memory),
                scratch=int(service.limits.scratch),
            )
        )
    return Shape(tuple(slots))
