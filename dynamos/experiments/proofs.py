"""Proofs: what a testbed's networks really are, measured before trials run on them, and who reaches whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynamos.deploy.states import WORLD
from dynamos.experiments.runs import write_whole
from dynamos.kit.errors import DynamosError
from dynamos.model.profiles import Profile


def keep(folder: Path, profile: Profile, name: str, place: Mapping[str, Any]) -> None:
    """Measure the links of a testbed and try its isolation, once for each profile, and write what was found.

    A testbed without networks of its own has nothing to prove, and that is written too.
    """
    path = folder / f"{name}.json"
    if path.exists():
        return
    if profile.driver != "namespaces" or not (place.get("world") or place.get("state")):
        found: dict[str, Any] = {"testbed": profile.name, "networks": "none of its own"}
    else:
        world = Path(place["world"]) if place.get("world") else Path(place["state"]) / WORLD
        found = {"testbed": profile.name, **_proved(profile, world)}
    write_whole(path, json.dumps(found, indent=1, ensure_ascii=False).encode())


def _proved(profile: Profile, world: Path) -> dict[str, Any]:
    from dynamos.testbed.efforts import QUICK  # noqa: PLC0415  Linux only
    from dynamos.testbed.proofs.subjects import Subject, measured, prove_isolation  # noqa: PLC0415

    subject = Subject.find(profile, world)
    found: dict[str, Any] = {}
    for kind, prove in (
        ("links", lambda: measured(subject, effort=QUICK)),
        ("isolation", lambda: prove_isolation(subject)),
    ):
        try:
            found[kind] = prove().as_dict()
        except DynamosError as error:  # a proof that cannot be had is told as such
            found[kind] = {"error": error.as_dict()}
    return found
