"""What a planner is: it judges a situation, is told what was done, and learns from what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import Experience, Judgement, Option, Prediction, Situation


class Learner(Protocol):
    """One planner. It is made with its options: `Class(Class.Options(...))`.

    Whatever it answers depends on its options and on what it was told by `decided`, `learn` and `recall`, and on
    nothing else: not on time, chance or order of sets. So a recorded log can be replayed. It is only ever called by one
    thread at a time. To add one: a file with such a class, and a line in `registry`.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    Options: ClassVar[type[LoopSettings]]

    def judge(self, situation: Situation) -> Judgement:
        """Pick an option of the situation. Changes nothing."""
        ...

    def decided(self, situation: Situation, judgement: Judgement) -> None:
        """Take note that a request is run under this judgement."""
        ...

    def learn(self, experience: Experience) -> None:
        """Learn from a job that has succeeded."""
        ...

    def remember(self) -> dict[str, Any]:
        """Give all that was learned, JSON-ready."""
        ...

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Know what `remember` gave, and nothing else. Raises ValueError, KeyError or TypeError where it is no such
        thing."""
        ...


class Unlearned:
    """The part of a planner that learns nothing."""

    def decided(self, situation: Situation, judgement: Judgement) -> None: ...

    def learn(self, experience: Experience) -> None: ...

    def remember(self) -> dict[str, Any]:
        return {}

    def recall(self, memory: Mapping[str, Any]) -> None: ...


def judged(
    situation: Situation,
    option: Option,
    why: str,
    *,
    rejected: Mapping[str, str] | None = None,
    predictions: Mapping[str, Prediction] | None = None,
    explores: bool = False,
) -> Judgement:
    """Give a judgement in which every other option is rejected, for the reason given or as the second choice."""
    given = rejected or {}
    others = {each.name: given.get(each.name, "not needed") for each in situation.options if each.name != option.name}
    return Judgement(option=option, why=why, predictions=dict(predictions or {}), rejected=others, explores=explores)
