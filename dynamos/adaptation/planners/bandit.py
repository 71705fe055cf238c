"""`bandit`: tries options to learn which is best, within limits.

Thompson sampling (W. R. Thompson, Biometrika 25, 1933; S. Agrawal and N. Goyal, COLT 2012): a cost is drawn for every
option from what is believed of it, and the lowest is taken, so what is uncertain is tried and what is bad is left. The
limits are those of conservative bandits (Y. Wu et al., ICML 2016): nothing is tried of which more than `bound` times
the cost of the best is expected, and at most a `share` of the decisions explores.

What is drawn follows from the seed and the job's name alone: a recorded log can be replayed.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from dynamos.adaptation.planners.experiences import WIDTH, WINDOW, Experiences
from dynamos.adaptation.planners.protocol import judged
from dynamos.adaptation.planners.recents import Recent
from dynamos.adaptation.settings import LoopSettings, Weighing
from dynamos.adaptation.situations import Experience, Judgement, Option, Prediction, Situation
from dynamos.kit.digests import digest

LOOKED_BACK = 50
"""Over how many decisions the share of those that explore is reckoned."""


class BanditOptions(LoopSettings):
    """`bound` is how many times the best's expected cost an exploration may cost, `share` how many of the decisions may
    explore, `trials` how often what is unknown may be tried."""

    weighing: Weighing = Weighing()
    bound: float = Field(default=1.5, ge=1)
    share: float = Field(default=0.2, ge=0, le=1)
    trials: int = Field(default=1, ge=0)
    window: int = Field(default=WINDOW, ge=1, le=1000)
    seed: int = 0


class Bandit:
    """Draws among what may be tried; where nothing may be, takes what is best."""

    name: ClassVar[str] = "bandit"
    version: ClassVar[str] = "1"
    Options: ClassVar[type[LoopSettings]] = BanditOptions

    def __init__(self, options: BanditOptions) -> None:
        self._options = options
        self._experiences = Experiences(options, options.weighing, options.window)
        self._explored: deque[bool] = deque(maxlen=LOOKED_BACK)
        self._tried = Recent[int]()

    def judge(self, situation: Situation) -> Judgement:
        free = [option for option in situation.options if not situation.trouble(option)] or list(situation.options)
        found = {option.name: self._experiences.predict(situation, option) for option in situation.options}
        predictions = {name: prediction for name, prediction in found.items() if prediction is not None}
        known = [option for option in free if option.name in predictions]
        if not known:
            return judged(situation, free[0], "nothing was learned yet: the first without trouble")
        best = min(known, key=lambda option: predictions[option.name].cost)
        reasons = self._reasons(situation, best, predictions)
        if not self._may_explore:
            why = f"the best; {self._options.share:.0%} of the decisions have explored"
            return judged(situation, best, why, rejected=reasons, predictions=predictions)
        unknown = next((o for o in free if o.name not in predictions and self._untried(situation, o)), None)
        if unknown is not None:
            why = "nothing is known of it yet: tried"
            return judged(situation, unknown, why, rejected=reasons, predictions=predictions, explores=True)
        limit = predictions[best.name].cost * self._options.bound
        within = [option for option in known if predictions[option.name].cost <= limit]
        drawn = min(within, key=lambda option: self._draw(situation, option, predictions[option.name]))
        explores = drawn.name != best.name
        why = f"drawn; {best.name} is expected to be best" if explores else "drawn, and expected to be best"
        return judged(situation, drawn, why, rejected=reasons, predictions=predictions, explores=explores)

    def decided(self, situation: Situation, judgement: Judgement) -> None:
        self._explored.append(judgement.explores)
        if judgement.explores and judgement.option.name not in judgement.predictions:
            key = f"{situation.type}|{judgement.option.name}"
            self._tried.set(key, (self._tried.get(key) or 0) + 1)

    def learn(self, experience: Experience) -> None:
        self._experiences.add(experience)

    def remember(self) -> dict[str, Any]:
        return {
            "rows": self._experiences.remember(),
            "explored": [int(each) for each in self._explored],
            "tried": self._tried.as_dict(),
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        self._experiences.recall(memory.get("rows", ()))
        self._explored = deque((bool(each) for each in memory.get("explored", ())), maxlen=LOOKED_BACK)
        self._tried = Recent({name: int(count) for name, count in memory.get("tried", {}).items()})

    @property
    def _may_explore(self) -> bool:
        return sum(self._explored) + 1 <= self._options.share * (len(self._explored) + 1) or (
            self._options.share > 0 and not any(self._explored)
        )

    def _untried(self, situation: Situation, option: Option) -> bool:
        return (self._tried.get(f"{situation.type}|{option.name}") or 0) < self._options.trials

    def _draw(self, situation: Situation, option: Option, prediction: Prediction) -> float:
        """Draw the mean cost of an option from what is believed of it: the more was seen, the narrower."""
        seed = digest([self._options.seed, situation.job, option.name])
        spread = math.log(max(prediction.high, 1e-9) / max(prediction.low, 1e-9)) / 2 / WIDTH
        drawn = random.Random(seed).gauss(0.0, spread / math.sqrt(prediction.seen + 1))  # noqa: S311  no secret
        return prediction.cost * math.exp(drawn)

    def _reasons(self, situation: Situation, best: Option, predictions: Mapping[str, Prediction]) -> dict[str, str]:
        reasons = {}
        least = max(predictions[best.name].cost, 1e-12)
        for name, prediction in predictions.items():
            option = next(each for each in situation.options if each.name == name)
            times = prediction.cost / least
            over = f", more than {self._options.bound:g} x" if times > self._options.bound else ""
            reasons[name] = situation.trouble(option) or f"is expected to cost {times:.2f} x{over}"
        return reasons
