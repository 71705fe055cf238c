"""Lives: several orchestrators may be there at once, and after a restart it is another one.

Each sees the jobs that it took to their end, and holds them to the agreements. What is asked of another one's job is
passed on; a job whose orchestrator is gone is lost.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from dynamos.kit.errors import DynamosError, NotFound
from dynamos.knowledge.buses import Bus, Unheard
from dynamos.middleware.messages import CancelJob, Submitted
from dynamos.middleware.orchestrator.jobbooks import JobBook

log = logging.getLogger(__name__)
THERE_SECONDS = 1.0
CANCEL_SECONDS = 5.0
Cancel = Callable[[CancelJob], Awaitable[Submitted]]


class Life:
    """One life of an orchestrator, under a name that no other has."""

    def __init__(self, bus: Bus) -> None:
        self.name = secrets.token_hex(6)
        self._bus = bus

    async def begin(self, cancel: Cancel) -> None:
        """Let others know that this one is there, and take from them what is about its jobs."""

        async def there(_: str, message: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001  being there is the answer
            return {}

        async def end(_: str, message: dict[str, Any]) -> dict[str, Any]:
            return (await cancel(CancelJob.model_validate(message))).as_json()

        await self._bus.listen(_subject(self.name, "there"), there)
        await self._bus.listen(_subject(self.name, "cancel"), end)

    async def there(self, name: str | None) -> bool:
        """Tell whether another life is there. One that hangs is: its jobs are its own as long as it may come back."""
        if name in (None, self.name):
            return False
        try:
            await self._bus.request(_subject(str(name), "there"), {}, within=THERE_SECONDS)
        except Unheard:
            return False
        except DynamosError as error:
            log.warning("life.silent name=%s error=%s", name, error)
        return True

    def passing_on(self, cancel: Cancel, book: JobBook) -> Cancel:
        """Give a cancel that asks the orchestrator whose job it is."""

        async def cancelled(message: CancelJob) -> Submitted:
            try:
                return await cancel(message)
            except NotFound:
                record = await book.read(message.job)
                if record is None or record.state.final or record.orchestrator in (None, self.name):
                    raise
                subject = _subject(str(record.orchestrator), "cancel")
                try:
                    answer = await self._bus.request(subject, message.as_json(), within=CANCEL_SECONDS)
                except Unheard:
                    raise NotFound(f"the orchestrator of job {message.job!r} is gone", code="not-running") from None
                return Submitted.model_validate(answer)

        return cancelled


def _subject(name: str, what: str) -> str:
    return f"orchestrator.life.{name}.{what}"
