"""The job that makes the buckets and logs of a marketplace: `python -m dynamos.deploy.kubernetes.knowledge CONFIG`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from dynamos.deploy import unit
from dynamos.deploy.units import AUTHORITY, CERTIFICATE, KEY
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import BadInput, TimedOut, Unavailable
from dynamos.knowledge.provisioning import provision

WITHIN = 120.0
"""Seconds until the servers of a new bus must have found each other."""
_PAUSE = 0.5


def make(path: Path) -> None:
    """Make what the file says, as soon as the bus can. Raises BadInput, Unavailable, and what `provision` raises."""
    try:
        told = json.loads(path.read_bytes())
        bus, parties, replicas = str(told["bus"]), tuple(told["parties"]), int(told["replicas"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"this tells of no bus: {error!r}", where=str(path)) from None
    folder = path.parent
    credentials = Credentials(folder / CERTIFICATE, folder / KEY, folder / AUTHORITY)
    end = time.monotonic() + WITHIN
    while True:
        try:
            asyncio.run(provision(bus, credentials, parties, within=10.0, replicas=replicas))
        except (Unavailable, TimedOut):  # a bus of several servers that has no leader yet
            if time.monotonic() >= end:
                raise
            time.sleep(_PAUSE)
        else:
            return


def main() -> None:
    """Make the buckets and logs, and tell on standard error what went wrong."""
    raise SystemExit(unit.once("knowledge", lambda: make(Path(sys.argv[1])), sys.stderr.fileno()))


if __name__ == "__main__":
    main()
