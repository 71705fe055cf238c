"""Values between the engine and a cluster: structs as plain values, what differs of them, and what is there of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format, struct_pb2

_SECRET, _VALUE = "4dabf18193072939515e22adb298388d", "value"
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_OWN = ("__provider", "__defaults", "__initialApiVersion", "__fieldManager", "__inputs")


def plain(told: struct_pb2.Struct) -> Any:
    """Give a struct as plain values: secrets bare, whole numbers as such."""
    return _bare(json_format.MessageToDict(told))


def struct(value: dict[str, Any]) -> struct_pb2.Struct:
    found = struct_pb2.Struct()
    found.update(value)
    return found


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        if _SECRET in value:
            return _bare(value.get(_VALUE))
        return {key: _bare(each) for key, each in value.items() if key not in _OWN}
    if isinstance(value, list):
        return [_bare(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def changed(old: Any, new: Any, path: str = "") -> list[str]:
    """Give the paths of what differs, down to the members of mappings."""
    return list(_changed(old, new, path))


def _changed(old: Any, new: Any, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _changed(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path


def projected(wanted: Any, there: Any) -> Any:
    """Give what is there of what was wanted: whatever a cluster has added is left out."""
    if isinstance(wanted, dict) and isinstance(there, dict):
        kept = {key: value for key, value in wanted.items() if key in there or _nothing(value)}
        return {key: projected(value, there.get(key, value)) for key, value in kept.items()}
    if isinstance(wanted, list) and isinstance(there, list) and len(wanted) == len(there):
        return [projected(one, other) for one, other in zip(wanted, there, strict=True)]
    return wanted if _same(wanted, there) else there


def _nothing(value: Any) -> bool:
    return value in ({}, [], "", None, False)


def _same(one: Any, other: Any) -> bool:
    return one == other or (_quantity(one) is not None and _quantity(one) == _quantity(other))


def _quantity(value: Any) -> float | None:
    text = str(value)
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    try:
        return float(text.removesuffix(unit)) * _UNITS.get(unit, 1)
    except ValueError:
        return None
