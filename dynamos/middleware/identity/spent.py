"""Grants work once: what was spent is remembered until it has expired anyway, also over a restart."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime, timedelta

from dynamos.kit.clocks import Clock, SystemClock
from dynamos.kit.errors import Conflict, DynamosError, Refused, Unauthenticated
from dynamos.knowledge.stores import Store

_PREFIX = "grant"
_MARGIN = timedelta(minutes=5)
"""How much longer than its grant a memory lives, so that a clock that is set back revives nothing."""


class SpentGrants:
    """The memory of one party, shared by its agents. The store is the party's own bucket; of replays at the same time
    exactly one wins."""

    def __init__(self, store: Store, *, clock: Clock | None = None) -> None:
        self._store = store
        self._clock = clock or SystemClock()
        self._until: dict[str, datetime] = {}

    async def spend(self, grant: str, expires: datetime) -> None:
        """Use up the grant with this id. Whoever returns from here without an error may run it.

        Raises Refused (grant-spent) the second time, Unauthenticated (grant-expired) after `expires`, and the store's
        error where it cannot be remembered: what could be replayed does not run.
        """
        now = self._clock.now()
        self._forget(now)
        if now >= expires:
            raise Unauthenticated("the grant has expired", code="grant-expired")
        if grant in self._until:
            raise _spent()
        # Said before the first await, so that no other task of this process comes between.
        self._until[grant] = expires + _MARGIN
        try:
            await self._store.put(_key(grant), {"expires": expires.isoformat()}, revision=0)
        except Conflict:
            raise _spent() from None
        except DynamosError:
            # Not remembered, as far as we know; if it was after all, the store says so at the next try.
            del self._until[grant]
            raise

    async def prune(self) -> int:
        """Remove what has expired from the store and give how many: a party does so now and then."""
        now = self._clock.now()
        self._forget(now)
        old = [
            entry
            for entry in await self._store.entries(_PREFIX)
            if entry.value is not None and datetime.fromisoformat(entry.value["expires"]) + _MARGIN <= now
        ]
        for entry in old:
            with suppress(Conflict):  # another agent of the party prunes too
                await self._store.delete(entry.key, revision=entry.revision)
        return len(old)

    def _forget(self, now: datetime) -> None:
        for grant in [grant for grant, until in self._until.items() if until <= now]:
            del self._until[grant]


def _key(grant: str) -> str:
    # A digest, because an id may have characters that a store's key may not.
    return f"{_PREFIX}.{hashlib.sha256(grant.encode()).hexdigest()}"


def _spent() -> Refused:
    return Refused("the grant was used before", code="grant-spent", hint="a grant works once; ask for a new job")
