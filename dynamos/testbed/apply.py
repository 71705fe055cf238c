"""Apply: walk plans on a ground, and bring testbeds up, mend them and take them down. Safe to interrupt anywhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dynamos.kit.errors import Broken, DynamosError
from dynamos.testbed.actions import Action, Change, Make, Remove
from dynamos.testbed.grounds import Ground
from dynamos.testbed.plans import plan
from dynamos.testbed.wanted import NOTHING, Wanted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """An action that begins now, the how many-eth of how many."""

    number: int
    total: int
    action: Action


Told = Callable[[Step], None]


def apply(ground: Ground, actions: Sequence[Action], told: Told = lambda _: None) -> None:
    """Carry the actions out, one after the other. Raises what stopped one, with the action as its place; what was done
    before stays, and the next plan goes on from there."""
    for number, action in enumerate(actions, 1):
        told(Step(number, len(actions), action))
        try:
            _carry_out(ground, action)
        except DynamosError as error:
            error.where = error.where or str(action.key)
            error.facts.setdefault("action", str(action))
            raise
        logger.debug("testbed.action", extra={"action": str(action)})


def up(ground: Ground, wanted: Wanted, told: Told = lambda _: None) -> tuple[Action, ...]:
    """Make what there is into what is wanted, and give the actions that it took: none where nothing differed.

    It is also what mends a testbed. Raises Broken where something still differs then.
    """
    actions = plan(wanted, ground.look())
    apply(ground, actions, told)
    if actions and (left := plan(wanted, ground.look())):
        raise Broken(
            "the testbed is not what is wanted, though every action was carried out", left=list(map(str, left))
        )
    return actions


reconcile = up


def down(ground: Ground, told: Told = lambda _: None) -> tuple[Action, ...]:
    """Remove everything, and give the actions that it took: none where nothing was there."""
    return up(ground, NOTHING, told)


def _carry_out(ground: Ground, action: Action) -> None:
    match action:
        case Make():
            ground.make(action.item)
        case Change():
            ground.change(action.before, action.after)
        case Remove():
            ground.remove(action.item)
