"""`weights`: upstream's rule. The lightest archetype that is permitted, at the party that serves most providers."""

from __future__ import annotations

from typing import ClassVar

from dynamos.adaptation.planners.protocol import Unlearned, judged
from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import Judgement, Situation


class ByWeights(Unlearned):
    """Looks at nothing but the archetypes' weights and the agreements."""

    name: ClassVar[str] = "weights"
    version: ClassVar[str] = "1"
    Options: ClassVar[type[LoopSettings]] = LoopSettings

    def __init__(self, options: LoopSettings) -> None:
        del options

    def judge(self, situation: Situation) -> Judgement:
        reasons = {option.name: "heavier, or later in the agreements" for option in situation.options}
        return judged(situation, situation.usual, "the lightest that is permitted", rejected=reasons)
