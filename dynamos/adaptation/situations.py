"""Situations: what a planner is told before it judges, what it answers, and what came of it. Values, so that each can
be written down and asked again."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dynamos.kit.digests import digest
from dynamos.model.requests import Request
from dynamos.model.values import Value
from dynamos.planning.planners import Pick, Question, picks

Kind = Literal["overload", "memory", "slow-link", "gone", "flapping", "failing", "stale"]
AVOIDED: tuple[Kind, ...] = ("overload", "memory", "gone", "flapping", "failing")
"""Symptoms of a party that speak against computing there."""
SHAPE_DIGITS = 12
MOST_OPTIONS = 64
"""How many options are compared at most: each is written down with every decision."""


class PartyReading(Value):
    """How busy a party is: parts that it told of, parts that are under way by our own account, and shares. `age` is in
    seconds; a `stale` reading is known, and not relied on."""

    parts: int = 0
    ours: int = 0
    capacity: int = 1
    cpu: float = 0.0
    memory: float = 0.0
    age: float = 0.0
    stale: bool = False

    @property
    def level(self) -> float:
        """The load as one share of places or of processor time; our own account is newer than what was told."""
        return max(max(self.parts, self.ours) / max(1, self.capacity), self.cpu)


class LinkReading(Value):
    """Bytes per second that a stream from one party to another got through, uncompressed."""

    rate: float
    age: float = 0.0
    stale: bool = False


class Symptom(Value):
    """Something that is wrong with a party, or with a way "A>B", since some time (seconds since 1970)."""

    kind: Kind
    subject: str
    since: float
    fact: str = ""


class Option(Value):
    """One pick that policy leaves: archetype and computing party of every provider."""

    name: str
    archetypes: dict[str, str]
    compute: dict[str, str]

    @property
    def places(self) -> tuple[str, ...]:
        """The parties that compute, each once."""
        return tuple(dict.fromkeys(self.compute.values()))

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways that rows go, as "A>B"."""
        return tuple(f"{party}>{place}" for party, place in self.compute.items() if place != party)

    @property
    def pattern(self) -> str:
        """The archetypes alone, wherever it is computed."""
        return "+".join(sorted(set(self.archetypes.values())))

    @property
    def pick(self) -> Pick:
        return Pick(self.archetypes, self.compute)

    @classmethod
    def of(cls, pick: Pick) -> Option:
        return cls(name=pick.name, archetypes=dict(pick.archetypes), compute=dict(pick.compute))


class Situation(Value):
    """What is known when one request is planned. The first option is what weights would pick.

    `at` is in seconds since 1970. `shape` is the same for requests that ask the same of the same parties. `parties` and
    `links` are readings, by party and by "A>B"; of who is not in there, nothing is known.
    """

    job: str
    at: float
    type: str
    shape: str
    options: tuple[Option, ...]
    parties: dict[str, PartyReading] = Field(default_factory=dict)
    links: dict[str, LinkReading] = Field(default_factory=dict)
    symptoms: tuple[Symptom, ...] = ()
    revision: str = ""

    @property
    def usual(self) -> Option:
        """The option that weights would pick."""
        return self.options[0]

    def trouble(self, option: Option) -> str:
        """Tell what speaks against an option: symptoms of those who would compute; empty where nothing does."""
        told = [s for s in self.symptoms if s.kind in AVOIDED and s.subject in option.places]
        return "; ".join(f"{symptom.kind} at {symptom.subject}: {symptom.fact}" for symptom in told)

    def level(self, option: Option) -> float | None:
        """Give the highest load of those who would compute; None where it is not known, or stale, for one of them."""
        found = [self.parties.get(place) for place in option.places]
        known = [reading.level for reading in found if reading is not None and not reading.stale]
        return max(known) if len(known) == len(found) else None

    def rate(self, way: str) -> float | None:
        """Give the bytes per second of a way, None where it is not known or the reading is stale."""
        reading = self.links.get(way)
        return reading.rate if reading is not None and not reading.stale else None


class Prediction(Value):
    """What a planner expects of an option: seconds (the middle, and where 90 of 100 should lie), bytes between parties,
    joules, and the cost that it compares."""

    seconds: float
    low: float
    high: float
    bytes: float = 0.0
    joules: float = 0.0
    cost: float
    seen: int = 0


class Judgement(Value):
    """What a planner picks and why, what it expects of each option, and why it rejects the others, by name."""

    option: Option
    why: str
    predictions: dict[str, Prediction] = Field(default_factory=dict)
    rejected: dict[str, str] = Field(default_factory=dict)
    explores: bool = False


class Experience(Value):
    """What came of one job under an option: seconds from start to end, of which `way` seconds at most were held up by
    ways, bytes (`moved` between parties), processor seconds, joules. `level` is the load that its places had."""

    job: str
    type: str
    shape: str
    option: Option
    seconds: float
    way: float = 0.0
    bytes: int = 0
    moved: int = 0
    cpu: float = 0.0
    joules: float = 0.0
    level: float | None = None


def shape_of(request: Request) -> str:
    """Give a name for what is asked, whoever asks."""
    asked = [request.type, sorted(request.providers), request.query, request.algorithm, sorted(request.options.items())]
    return digest(asked)[:SHAPE_DIGITS]


def options_of(question: Question) -> tuple[Option, ...]:
    """Give the options of a question, that of weights first."""
    return tuple(Option.of(pick) for pick in picks(question, limit=MOST_OPTIONS))
