"""`load-threshold`: the 80 % rule that upstream designed. As by weights, but not where too much is going on.

Upstream's thesis (listing 3.1) switches the archetype where processor or memory are used by more than 80 %. Here, the
party that would compute is asked about, and hysteresis keeps it from going to and fro.
"""

from __future__ import annotations

from typing import ClassVar

from dynamos.adaptation.planners.protocol import Unlearned, judged
from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import Judgement, Situation


class LoadThreshold(Unlearned):
    """Picks the first option in the order of weights whose computing parties have no symptom.

    Where all have one, it is as by weights: to leave one full place for another helps nobody.
    """

    name: ClassVar[str] = "load-threshold"
    version: ClassVar[str] = "1"
    Options: ClassVar[type[LoopSettings]] = LoopSettings

    def __init__(self, options: LoopSettings) -> None:
        del options

    def judge(self, situation: Situation) -> Judgement:
        troubles = {option.name: situation.trouble(option) for option in situation.options}
        free = next((option for option in situation.options if not troubles[option.name]), None)
        reasons = {name: trouble or "comes later by weights" for name, trouble in troubles.items()}
        if free is None:
            return judged(situation, situation.usual, "every option has trouble: as by weights", rejected=reasons)
        if free.name == situation.usual.name:
            return judged(situation, free, "the lightest, and nothing speaks against it", rejected=reasons)
        why = f"the lightest without trouble; instead of {situation.usual.name}"
        return judged(situation, free, why, rejected=reasons)
