"""The base of every value that crosses a boundary: frozen, strict about unknown members, camelCase in JSON and YAML."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from dynamos.kit.digests import digest

_NAME_LIMIT = 63


class Value(BaseModel):
    """A frozen value. In Python its members are snake_case; in files and messages camelCase. Both are accepted."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, ser_json_bytes="base64"
    )

    def as_json(self) -> dict[str, Any]:
        """Give JSON-ready members under their names in files and messages, absent ones left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def digest(self) -> str:
        """Give the SHA-256 of the value's canonical JSON, in hexadecimal."""
        return digest(self.as_json())


def _name(text: str) -> str:
    if not text or len(text) > _NAME_LIMIT or not all(c.isalnum() or c in "-_." for c in text) or text[0] in "-.":
        raise ValueError("a name has 1 to 63 letters, digits, '-', '_' or '.', and begins with a letter or digit")
    return text


Name = Annotated[str, AfterValidator(_name)]
"""A name that is safe as a file name, a NATS subject token and a DNS label in lower case (dots replaced)."""
