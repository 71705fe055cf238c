"""Happenings: what comes over a trial at its moments: faults of networks, and amendments of agreements."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dynamos.experiments.amendments import Agreements, Amendment
from dynamos.experiments.runs import write_whole
from dynamos.kit.errors import BadInput, DynamosError
from dynamos.model.networks import Fault

if TYPE_CHECKING:
    from dynamos.testbed.timelines import Breakable

Event: TypeAlias = Fault | Amendment
FAULTS = "faults.json"
"""The file that keeps which faults may be there still."""
Told: TypeAlias = Callable[[dict[str, Any]], None]
"""Takes what happened: what it was, when it was planned, and when it began and was done, in seconds."""


@contextmanager
def happening(
    events: Iterable[Event], network: Callable[[], Breakable], agreements: Agreements, journals: Path, told: Told
) -> Iterator[None]:
    """Let events happen at their moments from now on. Those that have not when the body ends do not; what the others
    did is mended. One that fails is told with its error, and the next ones happen all the same."""
    faults, amendments = _sorted(events)
    stop, since = threading.Event(), time.monotonic()
    with ExitStack() as stack:
        if faults:
            from dynamos.testbed.timelines import Timeline  # noqa: PLC0415  Linux only

            timeline, breakable, journal = Timeline(faults), network(), journals / FAULTS
            write_whole(journal, json.dumps([fault.as_json() for fault in faults]).encode())
            stack.callback(mend, journal, breakable)
            _begin(stack, lambda: timeline.run(
                breakable, stop=stop, since=since, told=lambda each: told(each.as_dict())
            ))  # fmt: skip
        if amendments:
            stack.callback(agreements.restore)
            _begin(stack, lambda: _amend(agreements, amendments, since, stop, told))
        stack.callback(stop.set)
        yield


def mend(journal: Path, network: Breakable) -> None:
    """Mend what the faults that a journal keeps may have done. Whoever let them happen need not be there any more."""
    from dynamos.testbed.timelines import Timeline  # noqa: PLC0415  Linux only

    Timeline(map(Fault.model_validate, json.loads(journal.read_bytes()))).mend(network)
    journal.unlink()


def _sorted(events: Iterable[Event]) -> tuple[list[Fault], list[Amendment]]:
    faults, amendments = list[Fault](), list[Amendment]()
    for event in events:
        if isinstance(event, Fault):
            faults.append(event)
        elif isinstance(event, Amendment):
            amendments.append(event)
        else:
            raise BadInput(f"{event!r} does not happen", hint="give a Fault or an Amendment")
    return faults, sorted(amendments, key=lambda each: each.moment)


def _begin(stack: ExitStack, work: Callable[[], object]) -> None:
    """Start work in a thread that is waited for at the end."""
    thread = threading.Thread(target=work, daemon=True)
    stack.callback(thread.join)
    thread.start()


def _amend(
    agreements: Agreements, amendments: Iterable[Amendment], since: float, stop: threading.Event, told: Told
) -> None:
    for each in amendments:
        if stop.wait(max(each.moment - (time.monotonic() - since), 0.0)):
            return
        began, error = time.monotonic() - since, ""
        try:
            agreements.amend(each.party, each.edit)
        except DynamosError as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001  the user's own code
            error = f"{type(failure).__name__}: {failure}"
        happened: dict[str, Any] = {"party": each.party, "amendment": each.words, "planned": each.moment,
                                    "began": began, "done": time.monotonic() - since}  # fmt: skip
        told(happened | ({"error": error} if error else {}))
