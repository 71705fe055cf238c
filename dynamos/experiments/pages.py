"""Pages: one HTML file that needs nothing beside it, from a template and what it tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from dynamos.deploy.states import explained
from dynamos.experiments import wordings
from dynamos.experiments.runs import write_whole


def write(path: Path, template: str, **told: Any) -> Path:
    """Write a page. Texts are escaped; only SVG of our own and Markdown without HTML are not. Raises Full."""
    with explained(path):
        write_whole(path, _templates().get_template(template).render(**told).encode())
    return path


def markdown(text: str) -> Markup:
    """Give Markdown as HTML; HTML within it stays text, and pictures are left out."""
    return Markup(_reader().render(_unindented(text)))  # noqa: S704  made of escaped text


def line(text: str) -> Markup:
    """Give one line of Markdown as HTML, without a paragraph around it."""
    return Markup(_reader().renderInline(text))  # noqa: S704  made of escaped text


def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("dynamos.experiments"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters |= {
        "figure": wordings.figure,
        "interval": wordings.interval,
        "chance": wordings.chance,
        "size": wordings.size,
        "counts": wordings.counts,
        "level": wordings.level,
        "plain": wordings.without_places,
        "markdown": markdown,
        "line": line,
    }
    return found


def _unindented(text: str) -> str:
    """Take away what all lines but the first are indented by, as in a script's text."""
    lines = text.strip("\n").splitlines()
    deep = min((len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()), default=0)
    return "\n".join([*(line.strip() for line in lines[:1]), *(line[deep:] for line in lines[1:])])
