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
    """Carry the actions out, in this order; things of one kind that are to be made, at once.

    Raises what stopped one, with the action as its place; what was done before stays, and the next plan goes on from
    there.
    """
    number = 0
    for batch in _batches(actions):
        for action in batch:
            number += 1
            told(Step(number, len(actions), action))
        try:
            _carry_out(ground, batch)
        except DynamosError as error:
            error.where = error.where or str(batch[0].key)
            error.facts.setdefault("action", str(batch[0]))
            raise
        logger.debug("testbed.actions", extra={"actions": list(map(str, batch))})


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
    actions = plan(NOTHING, ground.look(closely=False))
    apply(ground, actions, told)
    return actions


def _batches(actions: Sequence[Action]) -> list[list[Action]]:
    """Put neighbours together that make things of one kind."""
    found: list[list[Action]] = []
    for action in actions:
        last = found[-1][-1] if found else None
        if isinstance(action, Make) and isinstance(last, Make) and last.key.kind == action.key.kind:
            found[-1].append(action)
        else:
            found.append([action])
    return found


def _carry_out(ground: Ground, batch: Sequence[Action]) -> None:
    match batch[0]:
        case Make():
            ground.make(*(action.item for action in batch if isinstance(action, Make)))
        case Change(before, after):
            ground.change(before, after)
        case Remove(item):
            ground.remove(item)
