"""What a pod is told of its part: the assignment as couriers understand it. Pure."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dynamos.jobs.pods.shapes import Shape, slot_names
from dynamos.jobs.runners import Assignment
from dynamos.jobs.specs import environment, incoming, job_of, outgoing
from dynamos.kit.errors import BadInput
from dynamos.model.plans import Step

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USUAL = {"HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC"}  # noqa: S108  in a container


def work_of(assignment: Assignment, shape: Shape, *, deadline: float, data: tuple[Path, str] | None) -> dict[str, Any]:
    """Give what the courier of a pod of `shape` is told. `deadline` is in seconds from now; `data` is the folder here
    that pods have as well, and where they have it. Raises BadInput for data that is not in it."""
    part = assignment.part
    steps = dict(zip(slot_names(shape), part.steps, strict=True))
    return {
        "steps": {slot: _order(assignment, step, deadline, data) for slot, step in steps.items()},
        "inner": [edge.name for edge in part.inner],
        "incoming": [edge.name for edge in part.incoming],
        "outgoing": [edge.name for edge in part.outgoing],
    }


def _order(assignment: Assignment, step: Step, deadline: float, data: tuple[Path, str] | None) -> dict[str, Any]:
    service = assignment.services[step.service]
    variables = environment(json.dumps(job_of(assignment, step)), {}, {}, 0, data=_data(assignment, step, data))
    usual = _USUAL if service.command else {**_USUAL, "PATH": _PATH}
    return {
        "service": step.service,
        "argv": list(service.command),
        "env": {**usual, **variables},
        "inputs": [edge.name for edge in incoming(assignment, step)],
        "outputs": [edge.name for edge in outgoing(assignment, step)],
        "cpu": float(service.limits.cpu),
        "scratch": int(service.limits.scratch),
        "deadline": deadline,
    }


def _data(assignment: Assignment, step: Step, volume: tuple[Path, str] | None) -> str:
    """Give where the step finds its data in its container; "" for a step that reads none."""
    wanted = assignment.data.get(step.id)
    if wanted is None:
        return ""
    place = os.path.realpath(wanted)
    if volume is None or not Path(place).is_relative_to(os.path.realpath(volume[0])):
        raise BadInput(
            f"{wanted} is not on the volume that pods are given",
            where=f"{step.party}/{step.id}",
            code="no-volume",
            hint="name the volume with the party's data in the agent's pods.claim or pods.configMap",
        )
    inside = os.path.relpath(place, os.path.realpath(volume[0]))
    return volume[1] if inside == "." else f"{volume[1]}/{inside}"
