"""Chronicles: what of a testbed's time line has happened and when, in a file that outlives the testbed's processes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.model.networks import Fault
from dynamos.testbed.timelines import Breakable, Happened, Stop, Timeline

FILE = "timeline.json"


class Chronicle:
    """The chronicle in the folder of a testbed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def clear(self) -> None:
        """Forget what is written: another life of the testbed begins."""
        self._path.unlink(missing_ok=True)

    def read(self) -> dict[str, Any] | None:
        """Give what is written, None where no time line has begun.

        `began` is the moment that everything counts from, and `faults` has every fault of the time line in order:
        `fault`, `planned` and, once it has happened, `began` and `done`, all in seconds, and `error` where it failed.
        """
        try:
            told: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return told

    def keep(self, faults: Iterable[Fault], network: Breakable, *, stop: Stop, clock: Clock | None = None) -> None:
        """Let the faults happen to the network, each at its moment from now, and write down when they really did.

        Goes on where an earlier process ended, from the same beginning; what was due meanwhile happens at once.
        """
        clock = clock or SystemClock()
        timeline = Timeline(faults)
        told = self.read() or self._begin(timeline, clock)
        done = sum("began" in each for each in told["faults"])

        def tell(happened: Happened) -> None:
            told["faults"][done + len(found)] = happened.as_dict()
            found.append(happened)
            self._write(told)

        found: list[Happened] = []
        timeline.run(network, clock, stop=stop, told=tell, since=told["monotonic"], skip=done)

    def _begin(self, timeline: Timeline, clock: Clock) -> dict[str, Any]:
        faults = [{"fault": each.as_json(), "planned": float(each.at)} for each in timeline.faults]
        told = {"began": clock.now().isoformat(), "monotonic": clock.monotonic(), "faults": faults}
        self._write(told)
        return told

    def _write(self, told: dict[str, Any]) -> None:
        near = self._path.with_suffix(".new")
        near.write_text(json.dumps(told), encoding="utf-8")
        os.replace(near, self._path)  # noqa: PTH105  as a rename, and it says what it does
