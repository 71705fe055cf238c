#!/usr/bin/env python3
"""Write the README of every role from its argument spec: `playbooks/readmes.py`."""

from __future__ import annotations

from pathlib import Path

import yaml

ROLES = Path(__file__).resolve().parent / "roles"


def readme(role: Path) -> str:
    """Give the text of a role's README."""
    spec = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"]
    lines = [f"# {role.name}", "", f"{spec['short_description']}.", "", *spec["description"], ""]
    lines += ["| variable | type | default | what it is |", "| --- | --- | --- | --- |"]
    for name, option in spec["options"].items():
        default = "required" if option.get("required") else _default(option)
        lines.append(f"| `{name}` | {_kind(option)} | {default} | {option['description']} |")
    return "\n".join([*lines, "", "Made from `meta/argument_specs.yml` by `playbooks/readmes.py`.", ""])


def _kind(option: dict[str, object]) -> str:
    return f"{option['type']} of {option['elements']}" if "elements" in option else str(option["type"])


def _default(option: dict[str, object]) -> str:
    default = option.get("default")
    return "see `defaults/main.yml`" if default is None else f"`{default}`" if default != "" else "empty"


def roles() -> list[Path]:
    """Give the folders of the roles."""
    return sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml"))


if __name__ == "__main__":
    for each in roles():
        (each / "README.md").write_text(readme(each), encoding="utf-8")
