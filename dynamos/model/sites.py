"""Sites: places with nodes, and the parties that work there."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, WithJsonSchema, field_validator

from dynamos.model.values import Name, Value

MOST_NODES = 16
"""Nodes of one site, so that every node has a range of its own for its containers."""


def host_name(name: str) -> str:
    """Give the name that a machine or container has for a site's, node's or party's: small letters, digits, hyphens."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())


class Node(Value):
    """A machine at a site. Only the driver `ssh` needs to be told where it is: `address` (a name, or an address of the
    network), `port`, `user`, and the file of the `identity` (private key) to log in with; else ssh's own settings say
    it."""

    name: Name = ""
    address: str = ""
    port: int = Field(default=22, ge=1, le=65535)
    user: str = ""
    identity: str = ""

    @field_validator("address", "user")
    @classmethod
    def _plain(cls, text: str) -> str:
        if text.startswith("-") or any(c.isspace() or not c.isprintable() for c in text):
            raise ValueError("it has no blanks and does not begin with '-'")
        return text


def _schema(inner: dict[str, Any]) -> dict[str, Any]:
    return {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": MOST_NODES},
            {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_NODES},
            {"type": "object", "additionalProperties": inner, "minProperties": 1, "maxProperties": MOST_NODES},
        ]
    }


class Site(Value):
    """A place with nodes, and the parties that work there. In a profile its name is its key.

    `nodes` is how many (named `<site>-1`, …), a list of names, or what is said of each by name. The first is the site's
    gateway. Parties are spread over the nodes in turn.
    """

    name: Name = ""
    parties: tuple[Name, ...] = ()
    nodes: Annotated[
        dict[Name, Node], WithJsonSchema(_schema(Node.model_json_schema(by_alias=True)), mode="validation")
    ] = Field(default_factory=dict, validate_default=True)

    @field_validator("nodes", mode="before")
    @classmethod
    def _named(cls, value: Any, info: ValidationInfo) -> Any:
        """Give every node its name, also where only their number or their names are said."""
        site = info.data.get("name", "")
        if not site:
            return value
        if value == {} or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_NODES):
            value = [f"{site}-{number}" for number in range(1, (value or 1) + 1)]
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            value = {name: {} for name in value}
        if not isinstance(value, dict) or not 1 <= len(value) <= MOST_NODES:
            raise ValueError(f"expected a number from 1 to {MOST_NODES}, or so many names in a list or mapping")
        return {name: {**node, "name": name} if isinstance(node, dict) else node for name, node in value.items()}

    def node_of(self, party: str) -> Node:
        """Give the node that a party of the site works on."""
        nodes = tuple(self.nodes.values())
        return nodes[self.parties.index(party) % len(nodes)]

    @property
    def gateway(self) -> Node:
        """The node that stands for the site: its services of the control plane are here."""
        return next(iter(self.nodes.values()))
