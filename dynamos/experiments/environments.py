"""Environments: what a run was made with: machine, kernel, versions, policy. What has changed since is told.

Nothing here names a person, a machine or a place on its disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dynamos.deploy.states import explained
from dynamos.experiments import machines, software
from dynamos.experiments.choices import Prepared
from dynamos.experiments.designs import cells
from dynamos.experiments.runs import Run, write_whole
from dynamos.kit.errors import DynamosError
from dynamos.model.profiles import Profile

ENVIRONMENT = "environment.json"

Found = Callable[[Iterable[Profile]], dict[str, Any]]


def facts(profiles: Iterable[Profile]) -> dict[str, Any]:
    """Give what may make a difference to a figure: machine, kernel, Python, packages, programs, and the source."""
    return {
        "machine": machines.machine(),
        "kernel": machines.kernel(),
        "python": software.python(),
        "packages": software.packages(),
        "programs": software.programs(profiles),
        "source": software.source(),
    }


@contextmanager
def session(
    run: Run, prepared: Prepared, *, venue: str, told: Callable[[str], None], found: Found = facts
) -> Iterator[None]:
    """Write what a run is made with when it begins, and how it was at the end. Where it is not the same as when the run
    first began, that is told and written, and the run goes on."""
    now = found(_profiles(prepared))
    environment = read(run) or {
        "form": 1,
        "experiment": run.plan.experiment,
        "plan": run.plan.digest,
        "seed": run.plan.seed,
        "policy": [],
        **now,
        "sessions": [],
    }
    changed = changes({name: environment.get(name) for name in now}, now)
    for change in changed:
        was, now_is = ("absent" if each is None else each for each in (change["was"], change["is"]))
        told(f"changed since the run began: {change['what']} was {was}, is {now_is}")
    here: dict[str, Any] = {"venue": venue, "began": _moment(), "load_before": machines.load(), "changed": changed}
    environment["sessions"].append(here)
    _write(run, environment)
    try:
        yield
    finally:
        here |= {"ended": _moment(), "load_after": machines.load()}
        environment["policy"] = revisions(run)
        with suppress(DynamosError):  # whatever ended the run is the news
            _write(run, environment)


def read(run: Run) -> dict[str, Any] | None:
    """Give what was written of a run's environment, None where there is nothing that can be read as such."""
    try:
        told = json.loads((run.folder / ENVIRONMENT).read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and isinstance(told.get("sessions"), list) else None


def changes(was: Any, now: Any, name: str = "") -> list[dict[str, Any]]:
    """Give what differs between two environments, each with its name, what it was and what it is."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        names = dict.fromkeys((*was, *now))
        return [
            change for each in names for change in changes(was.get(each), now.get(each), f"{name}.{each}".lstrip("."))
        ]
    return [] if was == now else [{"what": name, "was": was, "is": now}]


def revisions(run: Run) -> list[str]:
    """Give the revisions of the policy that decided on the run's requests, in the order in which they were met."""
    with suppress(DynamosError):
        found = (request.revision for record in run.records() for request in record.requests)
        return list(dict.fromkeys(revision for revision in found if revision))
    return []


def _profiles(prepared: Prepared) -> list[Profile]:
    if prepared.experiment.needs == "nothing":
        return []
    dear = [factor for factor in prepared.factors if factor.changes == "testbed"]
    return [prepared.profile(cell) for cell in cells(dear)]


def _write(run: Run, environment: Mapping[str, Any]) -> None:
    path: Path = run.folder / ENVIRONMENT
    with explained(path):
        write_whole(path, json.dumps(environment, indent=1, ensure_ascii=False).encode())


def _moment() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
