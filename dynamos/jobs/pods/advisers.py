"""How many warm pods of each shape are worth keeping, from what was asked lately: pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from dynamos.jobs.pods.shapes import Shape

REFILL_SECONDS = 5.0
"""About what it takes until a pod that was taken is replaced: who comes within it finds one less."""
KEEP_SECONDS = 300.0
"""For how long something that was asked once is expected to be asked again."""
MOST_SHAPES = 8
_MOST_ASKED = 4096


@dataclass(slots=True)
class Adviser:
    """Remembers when pods of which shape were asked for. `most` is the most that may wait of one shape."""

    most: int
    clock: Callable[[], float]
    _asked: dict[Shape, deque[float]] = field(default_factory=dict)

    def asked(self, shape: Shape) -> None:
        """Note that a job of this shape has come."""
        self._asked.setdefault(shape, deque(maxlen=_MOST_ASKED)).append(self.clock())

    def advise(self) -> dict[Shape, int]:
        """Give how many pods should wait, by shape: as many as lately came within the time that a refill takes.

        A shape that nobody has asked for long gets 0 once, and is forgotten. Only the shapes asked last get any.
        """
        now = self.clock()
        advice = {}
        newest = sorted(self._asked, key=lambda shape: self._asked[shape][-1], reverse=True)
        for place, shape in enumerate(newest):
            times = self._asked[shape]
            while times and now - times[0] > KEEP_SECONDS:
                times.popleft()
            advice[shape] = min(self.most, _together(times)) if place < MOST_SHAPES else 0
            if not times:
                del self._asked[shape]
        return advice


def _together(times: deque[float]) -> int:
    """Give the most that came within REFILL_SECONDS of each other."""
    most, window = 0, deque[float]()
    for time in times:
        window.append(time)
        while time - window[0] > REFILL_SECONDS:
            window.popleft()
        most = max(most, len(window))
    return most
