"""Journals: what was begun and what was finished, one small file for each item, so that an interruption is noticed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dynamos.kit.digests import digest
from dynamos.testbed.items import CLASSES, Item, Key

_BEGUN, _DONE = "begun", "done"


class Journal:
    """The items of a testbed on disk. Nobody sees half of an entry; several threads may write about different items."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, item: Item) -> None:
        """Note that work on an item begins: until `done`, it is told as broken."""
        self._write(item, _BEGUN)

    def done(self, item: Item) -> None:
        """Note that an item is as this says."""
        self._write(item, _DONE)

    def forget(self, key: Key) -> None:
        """Note that there is nothing of an item any more."""
        self._path(key).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def read(self) -> tuple[dict[Key, Item], dict[Key, str]]:
        """Give all items by key, and why some are broken."""
        items: dict[Key, Item] = {}
        broken: dict[Key, str] = {}
        for item, state in self._entries():
            items[item.key] = item
            if state != _DONE:
                broken[item.key] = "work on it was interrupted"
        return items, broken

    def _entries(self) -> Iterator[tuple[Item, str]]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                told: dict[str, Any] = json.loads(path.read_bytes())
                yield CLASSES[told["kind"]].model_validate(told["item"]), told["state"]
            except (OSError, ValueError, KeyError, ValidationError):
                path.unlink(missing_ok=True)  # of another version: what it told of is found by looking, or was lost

    def _write(self, item: Item, state: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(item.key)
        near = path.with_suffix(".new")
        near.write_text(json.dumps({"kind": item.kind, "item": item.as_json(), "state": state}), encoding="utf-8")
        os.replace(near, path)  # noqa: PTH105  as a rename, and it says what it does

    def _path(self, key: Key) -> Path:
        return self._folder / f"{key.kind}-{digest([key.name])[:16]}.json"
