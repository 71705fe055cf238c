"""Silences: an agent that has not renewed its presence is asked whether it is there, before its parts count as lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dynamos.kit.errors import DynamosError
from dynamos.knowledge.buses import Bus
from dynamos.knowledge.presence import Presences
from dynamos.middleware.instances import parsed
from dynamos.middleware.messages import EndParts, Presence
from dynamos.middleware.orchestrator.executions import subject_of

log = logging.getLogger(__name__)
ANSWER_SECONDS = 3.0
AGAIN_SECONDS = 1.0


class Silences:
    """Tells `lose` the party and the instance of each agent that is gone.

    One whose process has ended listens no more, which the bus knows at once; one that hangs, or whose machine is away,
    does not answer in time. One that is only busy answers, and is asked again until it renews its presence.
    """

    def __init__(self, bus: Bus, presences: Presences[Presence], lose: Callable[[str, str], object]) -> None:
        self._bus = bus
        self._presences = presences
        self._lose = lose

    async def follow(self) -> None:
        """Watch, until cancelled."""
        async with self._presences.changes() as changes, asyncio.TaskGroup() as asking:
            async for item in changes:
                if item.value is None and parsed(item.name)[1]:
                    asking.create_task(self._ask(item.name))

    async def _ask(self, name: str) -> None:
        party, instance = parsed(name)
        while name not in self._presences.online():
            if not await self._answers(party, instance):
                self._lose(party, instance)
                return
            log.warning("agent.late party=%s instance=%s", party, instance)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _answers(self, party: str, instance: str) -> bool:
        """Ask an agent to end nothing: whoever takes that is there."""
        try:
            await self._bus.request(
                subject_of(party, instance, "ends"), EndParts(ends=()).as_json(), within=ANSWER_SECONDS
            )
        except DynamosError:
            return False
        return True
