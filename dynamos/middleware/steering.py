"""What a strategy from outside sees of a marketplace, and what it may set: monitor, options, execute."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from dynamos.model.values import Name, Value

EVERY = ""
"""In a pin: every request type, or whichever party the planner picks among those that the archetype leaves."""


class Pin(Value):
    """Requests of a type have a provider take part under one archetype, at one computing party, where its agreement
    permits that to who asks. An empty `request_type` is every one, an empty `compute_provider` is for the planner to
    pick."""

    request_type: str = Field(default=EVERY, max_length=63)
    provider: Name
    archetype: Name
    compute_provider: str = Field(default=EVERY, max_length=63)

    @property
    def name(self) -> str:
        """The pin in words."""
        at = f" at {self.compute_provider}" if self.compute_provider else ""
        return f"{self.provider}: {self.archetype}{at}"


class Steering(Value):
    """What was set from outside. An empty `planner` is the profile's own, with its own options. `revision` counts."""

    planner: str = Field(default="", max_length=63)
    planner_options: dict[str, Any] = Field(default_factory=dict)
    pins: tuple[Pin, ...] = Field(default=(), max_length=1000)
    revision: int = Field(default=0, ge=0)


class Steer(Value):
    """`orchestrator.steer`, API -> orchestrator: have this from the next request on. Answer: Steering.

    What is None stays as it is. With `revision`, only if that is still the last one.
    """

    planner: str | None = Field(default=None, max_length=63)
    planner_options: dict[str, Any] | None = None
    pins: tuple[Pin, ...] | None = Field(default=None, max_length=1000)
    revision: int | None = Field(default=None, ge=0)
    voucher: str = ""


class Watch(Value):
    """`orchestrator.monitor` and `orchestrator.options`, API -> orchestrator: tell it. Answers: Monitored, Options."""

    voucher: str = ""


class PartySeen(Value):
    """A party now: whether an agent of it is there, and how many, whether the last one is about to be restarted, the
    revision of its agreement, and what its agents say of their load."""

    online: bool
    leaving: bool = False
    instances: int = 0
    agreement: int = 0
    load: dict[str, Any] = Field(default_factory=dict)


class JobSeen(Value):
    """A job that runs or ended lately, the newest first: no query and nobody's name."""

    job: str
    type: Name
    state: str
    providers: tuple[Name, ...]
    archetypes: dict[Name, Name] = Field(default_factory=dict)
    compute: dict[Name, Name] = Field(default_factory=dict)
    submitted: datetime
    timings: dict[str, float] = Field(default_factory=dict)
    """How long each stage took, in milliseconds."""


class Monitored(Value):
    """What is monitored, at a moment. `running` and `waiting` count jobs; `links` are readings by "A>B"; `revision` is
    that of all agreements."""

    time: datetime
    revision: str
    running: int
    waiting: int
    parties: dict[Name, PartySeen]
    links: dict[str, Any]
    symptoms: tuple[dict[str, Any], ...]
    jobs: tuple[JobSeen, ...]
    steering: Steering


class Options(Value):
    """What can be set, under the names that it is set by: the planners, the JSON Schema of each one's options, and
    every pin that some agreement leaves somebody now."""

    planner: tuple[str, ...]
    planner_options: dict[str, dict[str, Any]]
    pins: tuple[Pin, ...]
