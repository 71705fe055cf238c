"""How long a client wants to wait, and what happens when it goes away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from dynamos.kit.errors import BadInput, Cancelled
from dynamos.model.units import Duration

T = TypeVar("T")
_YES = {"true", "yes", ""}
_NO = {"false", "0", "no"}


def wanted(text: str | None, prefer: str, longest: float) -> float | None:
    """Give the seconds of `?wait=` (true, or a duration) or of `Prefer: wait`; None where nobody wants to wait."""
    if text is not None:
        return _seconds(text.strip(), longest)
    for preference in prefer.split(","):
        name, _, value = preference.strip().partition("=")
        if name.lower() == "wait":
            return _seconds(value.strip().strip('"'), longest)
    return None


def _seconds(text: str, longest: float) -> float | None:
    if text.lower() in _YES:
        return longest
    if text.lower() in _NO:
        return None
    try:
        return min(float(Duration.parse(text)), longest)
    except ValueError as error:
        raise BadInput(str(error), where="wait", hint="wait=true, or a time such as wait=30s") from None


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, and cancel it when the client goes away. Call once the body has been read."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            return task.result()
        raise Cancelled("the client went away")
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
