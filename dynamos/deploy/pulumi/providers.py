"""Providers: what the engine calls to check, make, read, compare, change and remove one thing of a testbed.

They are pickled into the state by the names of their classes, so they hold nothing.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)

from dynamos.deploy.pulumi.checks import check
from dynamos.deploy.pulumi.works import Works
from dynamos.kit.errors import Broken, DynamosError, Mistake
from dynamos.testbed.items import CLASSES, Item, Kind

FOLDER, ITEM, ON, BROKEN = "folder", "item", "on", "broken"
"""Inputs: the testbed's state folder; what is wanted; the ids of what it stands on. Output: what is wrong with it."""

Properties = dict[str, Any]


class Quiet(ResourceProvider):
    """A provider whose refusals are told by the engine alone, without a trace of this program."""

    serialize_as_secret_always = False  # nothing of a provider is a secret: it holds nothing

    def configure(self, req: ConfigureRequest) -> None:  # noqa: ARG002  the engine's name for it
        logging.getLogger("grpc._server").addFilter(_is_defect)


class ItemProvider(Quiet):
    """Makes an item of a testbed in namespaces. `kind` is that of `testbed.items`."""

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind

    def check(self, _olds: Properties, news: Properties) -> CheckResult:
        """Tell, before anything is made, what keeps the item from being made."""
        return CheckResult(news, _failures(check(self._item(news), Path(news[FOLDER]))))

    def create(self, props: Properties) -> CreateResult:
        """Make the item, or take over what an interrupted run has made of it."""
        item = self._item(props)
        self._works(props).put(item)
        return CreateResult(f"{item.key.kind}/{item.name}#{secrets.token_hex(4)}", _outputs(props, item))

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Look at the item; without its world nothing is there."""
        seen = self._works(props).see(self._item(props).key)
        return ReadResult(id_, _outputs(props, seen.item, seen.broken)) if seen else ReadResult("", {})

    def diff(self, _id: str, olds: Properties, news: Properties) -> DiffResult:
        """Tell what differs: in place where the library can change it while it is used, else it is made again, with
        what stands on it."""
        after, before = self._item(news), self._old_item(olds)
        replaces = [FOLDER] if olds.get(FOLDER) != news[FOLDER] else []
        replaces += [BROKEN] if olds.get(BROKEN) else []
        replaces += [ITEM] if before is None or not before.can_become(after) else []
        stands_elsewhere = olds.get(ON) != news.get(ON)
        replaces += [ON] if stands_elsewhere and after.kind != "overlay" else []  # members join an overlay again
        changes = bool(replaces) or stands_elsewhere or before != after
        return DiffResult(changes=changes, replaces=replaces, delete_before_replace=True)

    def update(self, _id: str, _olds: Properties, news: Properties) -> UpdateResult:
        """Change the item while it is used."""
        item = self._item(news)
        self._works(news).put(item)
        return UpdateResult(_outputs(news, item))

    def delete(self, _id: str, props: Properties) -> None:
        """Remove the item; of a world, everything in it."""
        self._works(props).drop(self._item(props))

    def _item(self, props: Mapping[str, Any]) -> Item:
        return CLASSES[self.kind].model_validate(props[ITEM])

    def _old_item(self, props: Mapping[str, Any]) -> Item | None:
        """Give the item of a state that another version may have written; None where it means nothing to us."""
        try:
            return self._item(props)
        except (ValueError, KeyError):
            return None

    def _works(self, props: Mapping[str, Any]) -> Works:
        return Works(Path(props[FOLDER]))


class GroundProvider(ItemProvider):
    """Makes the world that everything else is in, and keeps a stack to the driver that it was made with."""

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        """Refuse another driver: what the first one made would be left to nobody."""
        if failure := another_driver(olds, news):
            return CheckResult(news, [failure])
        return super().check(olds, news)


class MachinesProvider(Quiet):
    """Stands for the machines of a testbed that exist: it makes nothing, and keeps the stack to its driver."""

    def check(self, olds: Properties, news: Properties) -> CheckResult:
        failure = another_driver(olds, news)
        return CheckResult(news, [failure] if failure else [])

    def create(self, props: Properties) -> CreateResult:
        return CreateResult(f"machines/{props['testbed']}", dict(props))

    def read(self, id_: str, props: Properties) -> ReadResult:
        return ReadResult(id_, dict(props))

    def diff(self, _id: str, olds: Properties, news: Properties) -> DiffResult:
        changed = [name for name in ("testbed", FOLDER) if olds.get(name) != news.get(name)]
        return DiffResult(changes=bool(changed), replaces=changed, delete_before_replace=True)

    def delete(self, _id: str, _props: Properties) -> None:
        """Leave the machines as they are."""


def another_driver(olds: Mapping[str, Any], news: Mapping[str, Any]) -> CheckFailure | None:
    """Give why a stack that was made with one driver cannot go on with another; None where it can."""
    was, becomes = olds.get("driver"), news.get("driver")
    if not was or was == becomes:
        return None
    hint = f"run `pulumi destroy` with the driver {was!r} first, or use another stack"
    return CheckFailure("driver", f"this stack was made with the driver {was!r}, not {becomes!r} ({hint})")


def _failures(mistakes: list[Mistake]) -> list[CheckFailure]:
    """Say mistakes as the engine shows them."""
    return [CheckFailure(each.where, each.message + (f" ({each.hint})" if each.hint else "")) for each in mistakes]


def _outputs(props: Mapping[str, Any], item: Item, broken: str = "") -> Properties:
    kept = {name: value for name, value in props.items() if name != "__provider"}
    return {**kept, ITEM: item.as_json(), BROKEN: broken}


def _is_defect(record: logging.LogRecord) -> bool:
    """Keep the traces of our own refusals from the engine's output: it shows their words already."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, DynamosError) or isinstance(error, Broken)
