"""The time line of a testbed as one of its programs: it begins when everything else is ready, and lasts to the end."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from dynamos.deploy import unit
from dynamos.deploy.processes import Program
from dynamos.deploy.states import StateFolder
from dynamos.kit.errors import Unavailable
from dynamos.model.networks import Fault
from dynamos.testbed.chronicles import Chronicle
from dynamos.testbed.wans import Wan
from dynamos.testbed.worlds import World

TIMELINE = "timeline"
_ENDS = {signal.SIGTERM, signal.SIGINT}


def program(folder: StateFolder, faults: tuple[Fault, ...], after: Iterable[str]) -> Program:
    """Give the program that lets the faults happen once those that it comes after are ready."""
    main = partial(_run, folder, faults)
    return Program(TIMELINE, TIMELINE, main, folder.root / f"{TIMELINE}.log", tuple(after))


class Asked:
    """Waits until this process is asked to end. The signals wait meanwhile: nothing is cut short."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)

    def wait(self, timeout: float) -> bool:
        return signal.sigtimedwait(_ENDS, timeout) is not None

    def wait_forever(self) -> None:
        signal.sigwait(_ENDS)


def _run(folder: StateFolder, faults: tuple[Fault, ...], tell: int) -> int:
    def work() -> None:
        asked = Asked()
        unit.say(tell, {"address": ""})
        Chronicle(folder.root).keep(faults, _wan(folder.world), stop=asked)
        asked.wait_forever()

    return unit.once(TIMELINE, work, tell)


def _wan(folder: Path) -> Wan:
    world = World.find(folder)
    wan = Wan.find(world) if world else None
    if wan is None:
        raise Unavailable("the networks of this testbed are not there", where=str(folder))
    return wan
