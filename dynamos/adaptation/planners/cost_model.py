"""`cost-model`: learns what each archetype and place costs, and picks what it expects to be cheapest.

What is learned and how is told in `experiences`. It changes its mind only where another option is cheaper by a margin:
two options that cost the same would otherwise take turns with every reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from dynamos.adaptation.planners.experiences import WINDOW, Experiences
from dynamos.adaptation.planners.protocol import judged
from dynamos.adaptation.planners.recents import Recent
from dynamos.adaptation.settings import LoopSettings, Weighing
from dynamos.adaptation.situations import Experience, Judgement, Option, Prediction, Situation


class CostModelOptions(LoopSettings):
    """`weighing` says what counts. `by` is `expected`, or `upper` to compare what 95 of 100 jobs stay below. `margin`
    is the share by which another option must be cheaper to be changed to. `trials` is how often an option is tried
    that is not known well: one of whose archetypes nothing is known at all, or that may be the best as far as its few
    jobs tell; 0 leaves what is unknown alone."""

    weighing: Weighing = Weighing()
    by: Literal["expected", "upper"] = "expected"
    margin: float = Field(default=0.15, ge=0, lt=1)
    trials: int = Field(default=3, ge=0)
    window: int = Field(default=WINDOW, ge=1, le=1000)


class CostModel:
    """Predicts, compares, and stays with what it has picked last for the same type and parties while that is good."""

    name: ClassVar[str] = "cost-model"
    version: ClassVar[str] = "1"
    Options: ClassVar[type[LoopSettings]] = CostModelOptions

    def __init__(self, options: CostModelOptions) -> None:
        self._options = options
        self._experiences = Experiences(options, options.weighing, options.window)
        self._last = Recent[str]()
        self._tried = Recent[int]()

    def judge(self, situation: Situation) -> Judgement:
        predictions = {
            option.name: prediction
            for option in situation.options
            if (prediction := self._experiences.predict(situation, option)) is not None
        }
        if (unknown := self._unknown(situation, predictions)) is not None:
            return judged(
                situation, unknown, "nothing is known of it yet: tried", predictions=predictions, explores=True,
                rejected=dict.fromkeys(predictions, "known already"),
            )  # fmt: skip
        known = [option for option in situation.options if option.name in predictions]
        if not known:
            return judged(situation, situation.usual, "nothing was learned yet: as by weights")
        free = [option for option in known if not situation.trouble(option)] or known
        costs = {option.name: self._cost(predictions[option.name]) for option in known}
        best = min(free, key=lambda option: costs[option.name])
        if (doubtful := self._doubtful(situation, free, costs[best.name], predictions)) is not None:
            why = f"has run {predictions[doubtful.name].seen} times, and may be cheaper than {best.name}: tried"
            return judged(situation, doubtful, why, predictions=predictions, explores=True)
        last = next((option for option in free if option.name == self._last.get(group(situation))), None)
        kept = last if last is not None and costs[best.name] > costs[last.name] * (1 - self._options.margin) else best
        reasons = {
            option.name: situation.trouble(option) or f"costs {costs[option.name] / max(costs[kept.name], 1e-12):.2f} x"
            for option in known
        }
        why = "costs least" if kept is best else f"less than {self._options.margin:.0%} dearer than the cheapest: stays"
        return judged(situation, kept, why, rejected=reasons, predictions=predictions)

    def decided(self, situation: Situation, judgement: Judgement) -> None:
        if judgement.explores:
            for tried in (judgement.option.pattern, judgement.option.name):
                key = f"{situation.type}|{tried}"
                self._tried.set(key, (self._tried.get(key) or 0) + 1)
        else:
            self._last.set(group(situation), judgement.option.name)

    def learn(self, experience: Experience) -> None:
        self._experiences.add(experience)

    def remember(self) -> dict[str, Any]:
        return {"rows": self._experiences.remember(), "last": self._last.as_dict(), "tried": self._tried.as_dict()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self._experiences.recall(memory.get("rows", ()))
        self._last = Recent(memory.get("last", {}))
        self._tried = Recent({name: int(count) for name, count in memory.get("tried", {}).items()})

    def _cost(self, prediction: Prediction) -> float:
        if self._options.by == "expected":
            return prediction.cost
        return self._experiences.cost(prediction.high, prediction.bytes, prediction.joules)

    def _doubtful(
        self, situation: Situation, free: list[Option], least: float, predictions: Mapping[str, Prediction]
    ) -> Option | None:
        """Give the first option with few jobs whose cost may be lower than the least that is expected."""
        for option in free:
            told, tried = predictions[option.name], self._tried.get(f"{situation.type}|{option.name}") or 0
            lowest = self._experiences.cost(told.low, told.bytes, told.joules)
            if max(told.seen, tried) < self._options.trials and self._cost(told) > least and lowest < least:
                return option
        return None

    def _unknown(self, situation: Situation, predictions: Mapping[str, Prediction]) -> Option | None:
        """Give the first option of unknown archetypes that is to be tried, and has no trouble."""
        for option in situation.options:
            tried = self._tried.get(f"{situation.type}|{option.pattern}") or 0
            if option.name not in predictions and tried < self._options.trials and not situation.trouble(option):
                return option
        return None


def group(situation: Situation) -> str:
    """Name the requests among which a planner stays with what it has picked: same type, same providers."""
    return "|".join((situation.type, *sorted(situation.usual.archetypes)))
