"""`fixed`: always the same, as far as policy permits it. What experiments compare others with."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from dynamos.adaptation.planners.protocol import Unlearned, judged
from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import Judgement, Option, Situation
from dynamos.model.values import Name


class FixedOptions(LoopSettings):
    """The archetype and the computing party of all providers, and of single ones, which go before."""

    archetype: Name | None = None
    compute_provider: Name | None = None
    archetypes: dict[Name, Name] = Field(default_factory=dict)
    compute: dict[Name, Name] = Field(default_factory=dict)


class Fixed(Unlearned):
    """Picks the first option that is as the options say; what they leave open is as with weights."""

    name: ClassVar[str] = "fixed"
    version: ClassVar[str] = "1"
    Options: ClassVar[type[LoopSettings]] = FixedOptions

    def __init__(self, options: FixedOptions) -> None:
        self._options = options

    def judge(self, situation: Situation) -> Judgement:
        differs = {option.name: self._differs(option) for option in situation.options}
        found = next((option for option in situation.options if not differs[option.name]), None)
        if found is None:
            return judged(situation, situation.usual, "what is fixed is not permitted: as by weights", rejected=differs)
        return judged(situation, found, "as fixed", rejected=differs)

    def _differs(self, option: Option) -> str:
        """Tell in what an option is not as fixed; empty where it is."""
        for party, archetype in option.archetypes.items():
            wanted = self._options.archetypes.get(party, self._options.archetype)
            if wanted not in (None, archetype):
                return f"{party} is fixed to {wanted}"
        for party, place in option.compute.items():
            wanted = self._options.compute.get(party, self._options.compute_provider)
            if wanted not in (None, place):
                return f"the place of {party} is fixed to {wanted}"
        return ""
