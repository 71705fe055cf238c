"""Time lines: faults that happen to a network at their moments, with a record of when they really did."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.kit.errors import DynamosError
from dynamos.model.networks import Change, Fault

logger = logging.getLogger(__name__)


class Breakable(Protocol):
    """What faults happen to. A WAN is."""

    def set(self, name: str, way: Literal["forward", "backward", "both"], to: Change) -> object: ...

    def cut(self, name: str) -> object: ...

    def silence(self, name: str) -> object: ...

    def heal(self, name: str) -> object: ...

    def power(self, site: str, *, on: bool) -> None: ...


class Stop(Protocol):
    """Waits, and may be told to stop waiting. A `threading.Event` does."""

    def wait(self, timeout: float) -> bool:
        """Wait that long, and tell whether it is to stop."""
        ...


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that happened: seconds after the beginning when it began and when it was done, and what went wrong with
    it, if something did."""

    fault: Fault
    began: float
    done: float
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        fault = self.fault.as_json()
        return {"fault": fault, "planned": float(self.fault.at), "began": self.began, "done": self.done} | (
            {"error": self.error} if self.error else {}
        )


class Timeline:
    """Faults in the order of their moments."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: float(fault.at)))

    def run(
        self,
        network: Breakable,
        clock: Clock | None = None,
        *,
        stop: Stop | None = None,
        told: Callable[[Happened], None] = lambda _: None,
        since: float | None = None,
        skip: int = 0,
    ) -> tuple[Happened, ...]:
        """Let every fault happen at its moment, and give what happened.

        Moments count from now, or from what the clock's monotonic was at `since`; the first `skip` faults are past. A
        fault that fails is recorded, and the next ones happen all the same. Ends early when `stop` says so; what has
        happened stays as it is, see `mend`.
        """
        clock, stop = clock or SystemClock(), stop or threading.Event()
        start = clock.monotonic() if since is None else since
        found: list[Happened] = []
        for fault in self.faults[skip:]:
            left = float(fault.at) - (clock.monotonic() - start)
            if left > 0 and stop.wait(left):
                break
            found.append(self._happen(network, fault, clock, start))
            told(found[-1])
        return tuple(found)

    def mend(self, network: Breakable) -> None:
        """Heal every link and give power to every site that a fault of this time line may have touched."""
        for link in dict.fromkeys(fault.link for fault in self.faults if fault.link):
            network.heal(link)
        for site in dict.fromkeys(fault.site for fault in self.faults if fault.site):
            network.power(site, on=True)

    def _happen(self, network: Breakable, fault: Fault, clock: Clock, start: float) -> Happened:
        began, error = clock.monotonic() - start, ""
        try:
            apply(network, fault)
        except DynamosError as failure:
            error = str(failure)
        logger.info("fault", extra={"fault": fault.as_json(), "began": began, "error": error})
        return Happened(fault, began, clock.monotonic() - start, error)


def apply(network: Breakable, fault: Fault) -> None:
    """Let a fault happen now."""
    name = fault.link or fault.site or ""
    match fault.action:
        case "change":
            network.set(name, "both", fault.change or Change())
        case "cut":
            network.cut(name)
        case "silence":
            network.silence(name)
        case "heal":
            network.heal(name)
        case "power-off" | "power-on":
            network.power(name, on=fault.action == "power-on")
