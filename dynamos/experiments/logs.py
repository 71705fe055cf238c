"""Logs: what the units of a testbed wrote, kept with the run before the testbed goes."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from dynamos.deploy.states import StateFolder
from dynamos.experiments.runs import write_whole
from dynamos.kit.errors import DynamosError

log = logging.getLogger(__name__)

LONGEST = 256 * 1024
"""So many bytes of each log are kept: its end."""
MOST = 200
"""So many logs are kept: the newest. Where each request has its own network there may be many."""

STATE = b"STATE"
"""Stands for the path of the testbed's state, which is of no use to others."""

_DAEMONS = ("wan/*/logs/*.log", "nodes/*/logs/*.log", "nodes/*/containers/*/logs/*.log")
_BETWEEN = ("nodes", "containers", "box", "logs")


def keep(folder: Path, state: StateFolder, name: str) -> Path | None:
    """Copy the ends of a testbed's logs into a folder of their own, NAME-NUMBER, and give it.

    Nothing is made where there is no testbed, or it wrote nothing. That there is no room is no reason to stop: it is
    logged, and the logs are not kept.
    """
    found = _logs(state)
    if not found:
        return None
    kept = [int(path.name.removeprefix(f"{name}-")) for path in folder.glob(f"{name}-[0-9]*")]
    place = folder / f"{name}-{max(kept, default=0) + 1}"
    try:
        place.mkdir(parents=True)
        for own, path in found:
            write_whole(place / own, _end(path).replace(os.fsencode(state.root), STATE))
    except (OSError, DynamosError) as error:
        log.warning("logs.lost testbed=%s error=%s", name, error)
    return place


def _logs(state: StateFolder) -> list[tuple[str, Path]]:
    """Give the logs of a testbed with the name that each is kept under: its own, its units', and those of daemons."""
    found = [(path.name, path) for path in (*state.root.glob("*.log"), *state.world.glob("*.log"))]
    found += [(f"{path.parent.name}.jsonl", path) for path in state.root.glob("units/*/log.jsonl")]
    found += [
        ("-".join(part for part in path.relative_to(state.world).parts if part not in _BETWEEN), path)
        for pattern in _DAEMONS for path in state.world.glob(pattern)
    ]  # fmt: skip
    aged = []
    for name, path in found:
        with suppress(OSError):  # it has gone since
            if (told := path.stat()).st_size:
                aged.append((told.st_mtime_ns, name, path))
    return sorted((name, path) for _, name, path in sorted(aged, reverse=True)[:MOST])


def _end(path: Path) -> bytes:
    """Give the last whole lines of a log, no more than are kept."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            file.seek(max(0, size - LONGEST))
            text = file.read(LONGEST)
    except OSError:
        return b""
    return text.partition(b"\n")[2] if size > LONGEST else text
