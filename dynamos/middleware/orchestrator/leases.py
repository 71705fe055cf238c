"""Leases: an orchestrator says that it is there, and as long as it does its jobs are its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import dynamos
from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import Conflict
from dynamos.knowledge.bases import PRESENCE, KnowledgeBase
from dynamos.knowledge.permissions import ORCHESTRATOR
from dynamos.knowledge.presence import Announcement, announce
from dynamos.middleware.configs import MeetingsConfig
from dynamos.middleware.instances import key_of, parsed
from dynamos.middleware.messages import Presence
from dynamos.middleware.orchestrator.lives import Life


def lease(kb: KnowledgeBase, life: Life) -> AbstractAsyncContextManager[Announcement]:
    """Hold the lease of a life during the block."""
    now = SystemClock().now().isoformat()
    said = Presence(
        party=ORCHESTRATOR, instance=life.name, address="", active_since=now, config_updated=now,
        version=dynamos.__version__,
    )  # fmt: skip
    return announce(kb.store(PRESENCE), key_of(ORCHESTRATOR, life.name), said)


def held(kb: KnowledgeBase, life: Life) -> Callable[[str | None], Awaitable[bool]]:
    """Tell of an orchestrator whether it has a lease, or answers. One that has died just now has a lease still: its
    jobs are told lost when that is out."""

    async def there(name: str | None) -> bool:
        held = name is not None and await kb.store(PRESENCE).get(key_of(ORCHESTRATOR, name)) is not None
        return held or await life.there(name)

    return there


async def check_alone(meetings: MeetingsConfig | None, kb: KnowledgeBase, life: Life) -> None:
    """Raise Conflict where another orchestrator numbers the networks of requests: two would give one number twice."""
    if meetings is None or meetings.scope != "request":
        return
    for entry in await kb.store(PRESENCE).entries(ORCHESTRATOR):
        _, other = parsed(entry.key)
        if await life.there(other):
            told = f"orchestrator {other} makes the networks of requests already"
            raise Conflict(told, hint="with overlay scope 'request' there is one orchestrator", code="not-alone")
