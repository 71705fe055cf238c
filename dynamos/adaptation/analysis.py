"""Analysis: readings become symptoms, with hysteresis: what comes and goes is not followed at every turn. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dynamos.adaptation.failures import Score
from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import Kind, Symptom


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a symptom is raised and cleared. Where `below` is less than `above`, high values are the trouble."""

    above: float
    below: float
    raise_after: int = 1
    clear_after: int = 1
    hold: float = 0.0


class Hysteresis:
    """Whether values are beyond a bound, as told by several readings in a row.

    Raised when `raise_after` readings in a row are at `above` or higher; cleared when `clear_after` in a row are at
    `below` or lower, and `hold` seconds have passed since it was raised. It is raised at most once in `hold` seconds.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._run = 0
        self.raised = False
        self.since = 0.0

    def take(self, value: float, at: float) -> bool:
        """Take a reading; tell whether this one changed it."""
        bounds = self._bounds
        beyond = value <= bounds.below if self.raised else value >= bounds.above
        self._run = self._run + 1 if beyond else 0
        if not self.raised and self._run >= bounds.raise_after:
            self.raised, self.since, self._run = True, at, 0
            return True
        if self.raised and self._run >= bounds.clear_after and at - self.since >= bounds.hold:
            self.raised, self._run = False, 0
            return True
        return False


@dataclass(slots=True)
class _Watched:
    """A symptom of one subject, and when it was raised lately."""

    state: Hysteresis
    raised: deque[float] = field(default_factory=deque)
    fact: str = ""


class Analysis:
    """The symptoms of parties and ways. Times are seconds since 1970, handed in."""

    def __init__(self, settings: LoopSettings) -> None:
        self._settings = settings
        self._watched: dict[str, dict[Kind, _Watched]] = {}
        self._gone: dict[str, float] = {}
        self._left: dict[str, deque[float]] = {}
        self._held: dict[str, float] = {}
        self._scores: dict[str, Score] = {}
        self._failing: dict[str, float] = {}

    def take_load(self, party: str, level: float, memory: float, at: float) -> None:
        """Take a party's reading; it is there then."""
        self._gone.pop(party, None)
        s = self._settings
        low = Bounds(s.overload_above, s.overload_below, s.raise_after, s.clear_after, float(s.hold))
        self._take("overload", party, low, (level, at, f"load {level:.0%}, {s.overload_above:.0%} is the bound"))
        low = Bounds(s.memory_above, s.memory_below, s.raise_after, s.clear_after, float(s.hold))
        self._take("memory", party, low, (memory, at, f"memory {memory:.0%} taken"))

    def take_rate(self, way: str, rate: float, at: float) -> None:
        """Take the bytes per second of a way; low ones are the trouble."""
        s = self._settings
        bounds = Bounds(-float(s.slow_link) / 8, -float(s.fair_link) / 8, s.raise_after, s.clear_after, float(s.hold))
        self._take("slow-link", way, bounds, (-rate, at, f"{rate * 8 / 1e6:.1f} Mbit/s"))

    def lose(self, party: str, at: float) -> None:
        """Take note that a party has gone. One that goes often is flapping."""
        if party not in self._gone:
            self._gone[party] = at
            self._flap(party, self._left.setdefault(party, deque()), at)

    def regain(self, party: str) -> None:
        """Take note that a party is there."""
        self._gone.pop(party, None)

    def take_failure(self, party: str, what: str, at: float) -> None:
        """Take note that a party failed at a job that another might have done."""
        score = self._scores.setdefault(party, Score(max(1e-3, float(self._settings.forgive))))
        if score.fail(at, what) >= self._settings.failing_above:
            self._failing.setdefault(party, at)

    def take_success(self, party: str, at: float) -> None:
        """Take note that a party did what it was asked to."""
        if (score := self._scores.get(party)) is not None:
            score.succeed(at)

    def drop(self, kind: Kind, subject: str) -> None:
        """Forget a symptom whose reading is too old to say anything: it is found out again."""
        self._watched.get(subject, {}).pop(kind, None)

    def has(self, kind: Kind, subject: str) -> bool:
        """Tell whether a subject has a symptom."""
        watched = self._watched.get(subject, {}).get(kind)
        return watched is not None and watched.state.raised

    def symptoms(self, at: float, subjects: Iterable[str] | None = None) -> tuple[Symptom, ...]:
        """Give every symptom that there is now, or those of these subjects."""
        asked = {*self._watched, *self._gone, *self._held, *self._failing} if subjects is None else set(subjects)
        return tuple(symptom for subject in sorted(asked) for symptom in self._of(subject, at))

    def _of(self, subject: str, at: float) -> Iterator[Symptom]:
        for kind, watched in self._watched.get(subject, {}).items():
            if watched.state.raised:
                yield Symptom(kind=kind, subject=subject, since=watched.state.since, fact=watched.fact)
        if (since := self._gone.get(subject)) is not None:
            yield Symptom(kind="gone", subject=subject, since=since, fact="its agent does not say that it is there")
        if (score := self._fails(subject, at)) is not None:
            fact = f"failed lately: {score.last}; score {score.now(at):.1f}"
            yield Symptom(kind="failing", subject=subject, since=self._failing[subject], fact=fact)
        if at < (until := self._held.get(subject, 0.0)):
            fact = f"comes and goes; held off for {until - at:.0f} s"
            yield Symptom(kind="flapping", subject=subject, since=until - self._window, fact=fact)

    def _fails(self, party: str, at: float) -> Score | None:
        """Give the score of a party that is failing; one that has been forgiven is let go."""
        if party not in self._failing:
            return None
        score = self._scores[party]
        if score.now(at) > self._settings.failing_below:
            return score
        del self._failing[party], self._scores[party]
        return None

    @property
    def _window(self) -> float:
        return float(self._settings.flap_window)

    def _take(self, kind: Kind, subject: str, bounds: Bounds, reading: tuple[float, float, str]) -> None:
        value, at, fact = reading
        kinds = self._watched.setdefault(subject, {})
        watched = kinds.get(kind)
        if watched is None:
            watched = kinds[kind] = _Watched(Hysteresis(bounds))
        if watched.state.take(value, at) and watched.state.raised:
            self._flap(subject, watched.raised, at)
        if value >= bounds.above or not watched.fact:
            watched.fact = fact

    def _flap(self, subject: str, moments: deque[float], at: float) -> None:
        """Hold a subject off whose symptom was raised often within the window."""
        moments.append(at)
        while moments and at - moments[0] > self._window:
            moments.popleft()
        if len(moments) >= self._settings.flaps:
            self._held[subject] = at + self._window
