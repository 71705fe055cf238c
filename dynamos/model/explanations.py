"""Explanations: what pydantic found wrong, in words for the person who wrote the file."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from dynamos.kit.words import suggest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SHOWN = 60
_LISTED = 12
_EXPECTED = {
    "string": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "tuple": "a list",
    "list": "a list", "set": "a list", "iterable": "a list", "dict": "a mapping", "mapping": "a mapping",
    "model": "a mapping", "datetime": "a date and time like 2027-12-31T23:59:59Z", "date": "a date like 2027-12-31",
}  # fmt: skip


def explain(error: Mapping[str, Any], model: type[BaseModel]) -> tuple[str, str]:
    """Give message and hint for one of pydantic's errors in a value of `model`."""
    loc, kind, found = error["loc"], str(error["type"]), error["input"]
    name = str(loc[-1]) if loc else ""
    if kind == "missing" and isinstance(loc[-1], int):
        return f"item {loc[-1] + 1} of the list is missing", ""
    if kind == "missing":
        return f"member {name!r} is missing", ""
    if kind == "extra_forbidden":
        known = members(model, loc[:-1])
        return f"unknown member {name!r}", suggest(name, known) or _known(known)
    if kind == "literal_error":
        expected = str(error["ctx"]["expected"])
        choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
        return f"found {show(found)}, expected {expected}", suggest(found, choices) if isinstance(found, str) else ""
    if kind in ("value_error", "assertion_error"):
        reason = str(error["ctx"]["error"])
        return reason if show(found) in reason or isinstance(found, dict) else f"found {show(found)}: {reason}", ""
    return f"found {show(found)}, expected {_expected(kind, error)}", _advice(kind, found)


def show(value: Any) -> str:
    """Give a value as it would be written, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def members(model: Any, path: Sequence[str | int]) -> list[str]:
    """Give the members that may stand at `path` in a value of `model`, as files name them."""
    found = [annotation for annotation in _walk(model, list(path)) if _is_model(annotation)]
    return [field.alias or name for kind in found for name, field in kind.model_fields.items()]


def _walk(annotation: Any, path: list[str | int]) -> Iterator[Any]:
    """Give every type that `annotation` may have at `path`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _walk(arguments[0], path)
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _walk(argument, path)
    elif not path:
        yield annotation
    elif _is_model(annotation):
        for name, field in annotation.model_fields.items():
            if path[0] in (name, field.alias):
                yield from _walk(field.annotation, path[1:])
    elif origin is dict:
        yield from _walk(arguments[1], path[1:])
    elif origin in (list, tuple, set, frozenset):
        yield from _walk(arguments[0], path[1:])


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _known(names: Sequence[str]) -> str:
    return f"known members: {', '.join(names)}" if 0 < len(names) <= _LISTED else ""


def _expected(kind: str, error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    bounds = {"greater_than_equal": ("at least", "ge"), "less_than_equal": ("at most", "le"),
              "greater_than": ("more than", "gt"), "less_than": ("less than", "lt")}  # fmt: skip
    if kind in bounds:
        words, member = bounds[kind]
        return f"{words} {context[member]}"
    if kind == "too_short":
        return f"at least {context['min_length']} item{'s' if context['min_length'] != 1 else ''}"
    known = _EXPECTED.get(kind.split("_", maxsplit=1)[0])
    return known or str(error["msg"]).removeprefix("Input should be ")


def _advice(kind: str, found: Any) -> str:
    if kind in ("tuple_type", "list_type") and isinstance(found, str):
        return f"write [{found}]"[:_SHOWN]
    if kind == "string_type" and isinstance(found, int | float):
        return f'put it in quotes: "{show(found)}"'
    if found is None:
        return "give it a value, or remove the member"
    return ""
