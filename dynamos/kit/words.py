"""Help for people who mistype names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, known: Iterable[str], *, limit: int = 3) -> list[str]:
    """Give the known names that look like `name`, best first, in any letter case."""
    by_lower = {word.lower(): word for word in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=limit, cutoff=0.6)
    return [by_lower[word] for word in found]


def suggest(name: str, known: Iterable[str]) -> str:
    """Give a hint such as «did you mean 'UVA'?», or an empty text where nothing is near."""
    found = near(name, known)
    return f"did you mean {' or '.join(repr(word) for word in found)}?" if found else ""
