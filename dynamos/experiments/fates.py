"""Fates: what became of a request, in a word, and what its requestor was told of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from dynamos.experiments.answers import Answer
from dynamos.kit.errors import Broken, Refused, Unavailable

ANSWERED, IN_PART, REFUSED, FAILED = "answered", "answered in part", "refused", "failed"
UNCLEAR, HUNG = "failed unclearly", "hung"
BAD: Final = (UNCLEAR, HUNG)
"""What no requestor should meet: nobody tells what became of the request."""


def within(seconds: float, ask: Callable[[], Answer]) -> Answer | None:
    """Ask, and give the answer; nothing where it has not come within so many seconds. What asks is left behind then."""
    found: list[Answer] = []
    thread = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def of(answer: Answer | None) -> str:
    """Tell what became of a request: an answer counts as whole where every provider that was named gave its rows."""
    if answer is None:
        return HUNG
    if answer.error is None:
        outcomes = [each["outcome"] for each in answer.job["providers"].values()]
        return ANSWERED if all(each == "answered" for each in outcomes) else IN_PART
    if isinstance(answer.error, Broken) or not answer.error.message:
        return UNCLEAR
    return REFUSED if isinstance(answer.error, Refused | Unavailable) else FAILED


def told(answer: Answer | None) -> str:
    """Give what the requestor was told of why something is missing; nothing where nothing is, or nobody told."""
    if answer is None:
        return ""
    if answer.error is not None:
        return str(answer.error)
    errors = [each.get("error") or {} for each in answer.job["providers"].values()]
    return "; ".join(str(error["message"]) for error in errors if error.get("message"))
