"""The reference of the command line, made from the command itself: `python -m dynamos.cli.pages docs/reference/cli.md`.

It replaces what stands between the two marks in the page; a test compares the page with the command.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from dynamos.cli.main import build

BEGIN, END = "<!-- verbs: made by dynamos.cli.pages -->", "<!-- end of verbs -->"
_EVERYWHERE = ("help",)


def commands() -> Iterator[tuple[str, Any]]:
    """Give every verb, as one types it, with its command."""
    root: Any = typer.main.get_command(build())
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {verb}", each) for verb, each in inner.items())


def page() -> str:
    """Give the section on verbs: what each does, its arguments and its options."""
    return "\n".join(f"### dynamos {words}\n\n{_section(words, command)}" for words, command in commands())


def _section(words: str, command: Any) -> str:
    shown = [each for each in command.params if each.name not in _EVERYWHERE]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    usage = " ".join(["dynamos", words, *(_argument(each) for each in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [" ".join(command.help.split()), "", f"    {usage}", ""]
    if shown:
        lines += ["| | |", "| --- | --- |"]
        lines += [f"| `{_argument(each)}` | {each.help} |" for each in arguments]
        lines += [f"| `{_names(each)}` | {each.help}{_more(each)} |" for each in options]
        lines.append("")
    return "\n".join(lines)


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).strip("[]").upper()
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    value = "" if option.is_flag else f" {option.name.upper()}"
    return ", ".join(sorted(option.opts, key=len)) + value


def _more(option: Any) -> str:
    """Give what else there is to say: choices, default, environment variable."""
    said = []
    default = option.default
    if isinstance(default, Enum):
        said.append("one of " + ", ".join(f"`{each.value}`" for each in type(default)))
        default = default.value
    if default not in (None, "", False, ()) and not callable(default):
        said.append(f"default `{default}`")
    if option.envvar:
        said.append(f"or `{option.envvar}`")
    return f" ({'; '.join(said)})" if said else ""


def renew(path: Path) -> None:
    """Write the section into the page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{page()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
