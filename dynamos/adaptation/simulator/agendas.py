"""The agenda: what happens next in a simulation, and when."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Call = Callable[[float, Any], None]


class Agenda:
    """A loop over events in the order of their moments; of two at one moment, the one that was written first.

    Each event is a call with its moment (s) and one argument.
    """

    __slots__ = ("_events", "_number", "done", "now")

    def __init__(self) -> None:
        self._events: list[tuple[float, int, Call, Any]] = []
        self._number = 0
        self.now = 0.0
        self.done = 0

    def __len__(self) -> int:
        return len(self._events)

    def put(self, at: float, call: Call, what: Any = None) -> None:
        """Have `call` be called at a moment, which is not before now."""
        self._number += 1
        heappush(self._events, (at, self._number, call, what))

    def run(self) -> None:
        """Call what is due until nothing is left."""
        events = self._events
        while events:
            at, _, call, what = heappop(events)
            self.now = at
            self.done += 1
            call(at, what)
