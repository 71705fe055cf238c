"""Adaptation decisions as they are written down: what was known, what was possible, why this, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field

from dynamos.adaptation.situations import Experience, Judgement, Prediction, Situation
from dynamos.kit.digests import digest
from dynamos.model.values import Value

MEMORY_DIGITS = 12


class Started(Value):
    """A planner begins, with what it knows from before. `number` counts what it was told since the log's beginning of
    this life; `life` is new for every start."""

    kind: Literal["started"] = "started"
    life: str
    at: float
    number: int
    planner: str
    version: str
    options: dict[str, Any] = Field(default_factory=dict)
    memory: dict[str, Any] = Field(default_factory=dict)

    @property
    def memory_digest(self) -> str:
        """The digest of what the planner knows at the beginning."""
        facts = {"planner": self.planner, "version": self.version, "options": self.options, "memory": self.memory}
        return digest(facts)[:MEMORY_DIGITS]


class Decision(Value):
    """One adaptation decision. It was made when the planner had been told `seen` things, and is the `number`th itself.

    `refused` tells why what the planner said was not taken (it hung, raised, or picked what is not permitted), and
    weights decided. `memory` is the digest of what the planner had learned. `expected` is what was predicted of the
    option. `effect` is added by who reads the log.
    """

    kind: Literal["decision"] = "decision"
    life: str
    at: float
    number: int
    seen: int
    job: str
    user: str
    planner: str
    version: str
    memory: str
    revision: str
    situation: Situation
    judgement: Judgement
    refused: str = ""
    again: bool = False
    compression: dict[str, str] = Field(default_factory=dict)
    expected: Prediction | None = None
    took_ms: float = 0.0
    effect: Effect | None = None


class Effect(Value):
    """What came of a job. `experience` is what the planner learned from, where there was something to learn."""

    kind: Literal["effect"] = "effect"
    life: str
    at: float
    number: int
    job: str
    state: str
    experience: Experience | None = None
    error: str = ""


Decision.model_rebuild()
Record = Started | Decision | Effect
KINDS: dict[str, type[Started | Decision | Effect]] = {"started": Started, "decision": Decision, "effect": Effect}


def read(record: Mapping[str, Any]) -> Record:
    """Give a record as it is in the log. Raises KeyError or ValidationError for something else."""
    return KINDS[record["kind"]].model_validate(record)


def joined(records: Iterable[Record]) -> list[Decision]:
    """Give the decisions in order, each with what came of it. Of a job that was planned again, the last has it."""
    found: list[Decision] = []
    last: dict[str, int] = {}
    for record in records:
        if isinstance(record, Decision):
            last[record.job] = len(found)
            found.append(record)
        elif isinstance(record, Effect) and record.job in last:
            place = last[record.job]
            found[place] = found[place].model_copy(update={"effect": record})
    return found


def chained(memory: str, record: Value) -> str:
    """Give the digest of what is known after this is learned too: what was learned in the same order has the same."""
    return digest([memory, record.as_json()])[:MEMORY_DIGITS]
