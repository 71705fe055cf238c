"""Which planners there are. One that is installed from elsewhere says so with an entry point `dynamos.planners`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from dynamos.adaptation.planners.bandit import Bandit
from dynamos.adaptation.planners.cost_model import CostModel
from dynamos.adaptation.planners.fixed import Fixed
from dynamos.adaptation.planners.load_threshold import LoadThreshold
from dynamos.adaptation.planners.protocol import Learner
from dynamos.adaptation.planners.weights import ByWeights
from dynamos.adaptation.settings import LoopSettings
from dynamos.kit.errors import BadInput, Mistake, Mistakes
from dynamos.kit.words import suggest
from dynamos.model.documents import json_path
from dynamos.model.explanations import explain

BUILT_IN: tuple[type[Learner], ...] = (Fixed, ByWeights, LoadThreshold, CostModel, Bandit)
GROUP = "dynamos.planners"


@cache
def known() -> dict[str, type[Learner]]:
    """Give every planner's class by name, those that come with DYNAMOS first."""
    found = {kind.name: kind for kind in BUILT_IN}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point.load())
    return found


def check(name: str, options: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str, str]]:
    """Give every mistake in a planner's name and options: the path below the settings, message and hint."""
    if name not in known():
        hint = suggest(name, known()) or f"known: {', '.join(known())}"
        return [(("planner",), f"there is no planner {name!r}", hint)]
    model = known()[name].Options
    try:
        model.model_validate(dict(options))
    except ValidationError as invalid:
        found = [dict(error) for error in invalid.errors(include_url=False)]
        return [(("plannerOptions", *_place(error)), *explain(error, model)) for error in found]
    return []


def make(name: str, options: Mapping[str, Any]) -> tuple[Learner, LoopSettings]:
    """Give a planner that has learned nothing, and its options. Raises Mistakes."""
    if wrong := check(name, options):
        raise Mistakes([Mistake(json_path(path), message, hint) for path, message, hint in wrong], subject="settings")
    kind = known()[name]
    settings = kind.Options.model_validate(dict(options))
    build: Any = kind
    made: Learner = build(settings)
    return made, settings


def recalled(learner: Learner, memory: Mapping[str, Any]) -> None:
    """Have a planner know what it had learned. Raises BadInput where that is no such thing."""
    try:
        learner.recall(memory)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"what {learner.name} is to know cannot be read: {error}", code="bad-memory") from None


def _place(error: Mapping[str, Any]) -> tuple[str | int, ...]:
    return tuple(step for step in error["loc"] if step != "[key]")
