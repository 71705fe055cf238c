"""Lives: several orchestrators may be there at once, and after a restart it is another one.

Each sees the jobs that it took to their end, and holds them to the agreements. What is asked of another one's job is
passed on; a job whose orchestrator is gone is lost (see `heirs`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from dynamos.kit.errors import DynamosError, NotFound
from dynamos.knowledge.buses import Bus, Handler, Nobody, Unheard
from dynamos.middleware.instances import fresh
from dynamos.middleware.messages import CancelJob, Report, Submitted
from dynamos.middleware.orchestrator.jobbooks import JobBook
from dynamos.model.jobs import PartReport

log = logging.getLogger(__name__)
THERE_SECONDS = 1.0
CANCEL_SECONDS = 5.0
REPORT_SECONDS = 4.0
Cancel = Callable[[CancelJob], Awaitable[Submitted]]
Take = Callable[[PartReport], None]


class Life:
    """One life of an orchestrator, under a name that no other has."""

    def __init__(self, bus: Bus) -> None:
        self.name = fresh()
        self._bus = bus

    async def begin(self, cancel: Cancel, take: Take) -> None:
        """Let others know that this one is there, and take from them what is about its jobs."""

        async def there(_: str, message: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001  being there is the answer
            return {}

        async def end(_: str, message: dict[str, Any]) -> dict[str, Any]:
            return (await cancel(CancelJob.model_validate(message))).as_json()

        async def report(_: str, message: dict[str, Any]) -> dict[str, Any]:
            take(Report.model_validate(message).report)
            return {}

        await self._bus.listen(_subject(self.name, "there"), there)
        await self._bus.listen(_subject(self.name, "report"), report)
        await self._bus.listen(_subject(self.name, "cancel"), end)

    async def there(self, name: str | None) -> bool:
        """Tell whether another life is there. One that hangs is: its jobs are its own as long as it may come back."""
        if name in (None, self.name):
            return False
        try:
            await self._bus.request(_subject(str(name), "there"), {}, within=THERE_SECONDS)
        except Nobody:
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

    def reporting(self, take: Take, book: JobBook) -> Handler:
        """Give what takes reports of parts, and passes on those that another orchestrator waits for."""

        async def reported(_: str, message: dict[str, Any]) -> dict[str, Any]:
            told = Report.model_validate(message)
            if told.orchestrator in ("", self.name):
                take(told.report)
                return {}
            try:
                return await self._bus.request(_subject(told.orchestrator, "report"), message, within=REPORT_SECONDS)
            except Unheard:
                record = await book.read(told.report.job)
                if record is not None and not record.state.final:
                    raise  # it may come back, or its jobs are about to be told lost
                return {}

        return reported


def _subject(name: str, what: str) -> str:
    return f"orchestrator.life.{name}.{what}"
