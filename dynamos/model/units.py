"""Durations, sizes and rates that read as people write them: "70ms", "64MiB", "1gbit"."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_FORM = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Zµ]*)\s*")
_LARGEST = 1e18


def _plain(number: float) -> str:
    """Give a number as people write it, and `parse` reads it: without an exponent."""
    text = f"{number:.15g}"
    return f"{number:.24f}".rstrip("0").rstrip(".") if "e" in text else text


class Quantity(float):
    """A number with a unit. Equal to its number in the base unit; written in the largest unit that is exact."""

    units: ClassVar[dict[str, float]]
    base: ClassVar[str]
    example: ClassVar[str]

    @classmethod
    def parse(cls, text: str | float) -> Self:
        """Read "70ms" or a plain number in the base unit. Raises ValueError that names the known units."""
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise ValueError(f"expected a {cls.__name__.lower()} like {cls.example!r}")  # noqa: TRY004  pydantic's word
        if isinstance(text, int | float):
            if not 0 <= text <= _LARGEST:
                raise ValueError(f"{text!r} is not a number of {cls.base} from 0 to {_LARGEST:g}")
            return cls(text)
        found = _FORM.fullmatch(text)
        factor = cls.units.get(found[2] or cls.base) if found else None
        if found is None or factor is None:
            known = ", ".join(cls.units)
            raise ValueError(f"{text!r} is not a {cls.__name__.lower()} like {cls.example!r} (units: {known})")
        number = float(f"{float(found[1]) * factor:.12g}")  # 0.2ms and 200us are the same number
        if number > _LARGEST:
            raise ValueError(f"{text!r} is more than {_LARGEST:g}{cls.base}")
        return cls(number)

    def __str__(self) -> str:
        for unit, factor in sorted(self.units.items(), key=lambda item: -item[1]):
            number = float(self) / factor
            if number >= 1 and abs(number - round(number, 3)) < 1e-9:  # noqa: PLR2004
                return f"{_plain(round(number, 3))}{unit}"
        return f"{_plain(float(self))}{self.base}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            cls.parse,
            core_schema.is_instance_schema(cls),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}], "examples": [cls.example]}


class Duration(Quantity):
    """A length of time; its number is in seconds."""

    units: ClassVar = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    base: ClassVar = "s"
    example: ClassVar = "70ms"


class Size(Quantity):
    """A number of bytes."""

    units: ClassVar = {
        "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
    }  # fmt: skip
    base: ClassVar = "B"
    example: ClassVar = "64MiB"


class Rate(Quantity):
    """A number of bits per second."""

    units: ClassVar = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
    base: ClassVar = "bit"
    example: ClassVar = "1gbit"
