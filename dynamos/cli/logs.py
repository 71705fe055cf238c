"""Logs of units, printed as people read them, to the end or as they grow."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from dynamos.deploy.states import explained, readable, tail

_LOOK_SECONDS = 0.2


def print_log(path: Path, *, lines: int, follow: bool, raw: bool) -> None:
    """Print the last lines of a log; with `follow` also what is written from now on, until interrupted."""
    with explained(path):
        size = path.stat().st_size
        for line in tail(path, lines=lines, raw=raw) if lines else ():
            print(line)
        sys.stdout.flush()
        if follow:
            for line in _growing(path, size):
                print(line if raw else readable(line), flush=True)


def _growing(path: Path, size: int) -> Iterator[str]:
    """Give each line once it is complete."""
    rest = ""
    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(size)
        while True:
            *complete, rest = (rest + file.read()).split("\n")
            yield from complete
            if not complete:
                time.sleep(_LOOK_SECONDS)
