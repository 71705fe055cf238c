"""What the orchestrator knows of the marketplace, kept current by watches: agreements, catalogues, who is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from dynamos.kit.clocks import SystemClock
from dynamos.kit.digests import digest
from dynamos.kit.errors import Unavailable
from dynamos.kit.waits import until
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.knowledge.presence import Presences
from dynamos.middleware import instances
from dynamos.middleware.amendments import Amendments
from dynamos.middleware.messages import Presence
from dynamos.middleware.orchestrator.placements import choose
from dynamos.middleware.views import Mirror, SharedView, Work, agreements_of, catalogue_of
from dynamos.model.agreements import Agreement
from dynamos.model.datasets import DataSet
from dynamos.planning.landscapes import Landscape

REVISION_LENGTH = 12
RETURN_SECONDS = 60.0
"""How long an agent that said that it comes back may be away until it counts as gone."""


class Overview:
    """The marketplace now. `works` are the endless tasks that keep it current.

    With `awaits`, every party counts at first as one that comes back: who was restarted knows nobody's whereabouts.
    """

    def __init__(
        self, kb: KnowledgeBase, parties: tuple[str, ...], presences: Presences[Presence], *, awaits: bool = False
    ) -> None:
        self.parties = parties
        self._parties = frozenset(parties)
        self.shared = SharedView(kb, lambda _: self._note(*parties))
        self._presences = presences
        self._leaving: dict[str, float] = dict.fromkeys(parties, time.monotonic()) if awaits else {}
        self._changed = asyncio.Event()
        self._silent: set[str] = set()
        self._agents: dict[str, dict[str, Presence]] = {}
        for key, value in presences.online().items():
            self._heard(key, value)
        presences.on_heard(self._heard)
        self.amendments = Amendments(lambda: self.agreements, SystemClock())
        """The parties whose answers may have changed: their agreements did, or what the marketplace shares."""
        self.edition = 0
        """Counts the changes of everything that a decision rests on."""
        self._agreements = {party: Mirror(agreements_of(kb, party), self._note) for party in parties}
        self._catalogues = {party: Mirror(catalogue_of(kb, party), lambda _: self._note()) for party in parties}
        self.works: list[Work] = [
            *self.shared.works,
            self._follow,
            *(mirror.follow for mirror in self._agreements.values()),
            *(mirror.follow for mirror in self._catalogues.values()),
        ]

    @property
    def agreements(self) -> dict[str, Agreement]:
        """Every party's agreement. Only the one under the party's own name counts."""
        return {party: mirror.values[party] for party, mirror in self._agreements.items() if party in mirror.values}

    @property
    def catalogue(self) -> dict[str, dict[str, DataSet]]:
        """Every party's data sets, by name."""
        return {party: mirror.values for party, mirror in self._catalogues.items()}

    @property
    def revisions(self) -> dict[str, int]:
        """The revision of every party's agreement, 0 where there is none."""
        return {party: mirror.revisions.get(party, 0) for party, mirror in self._agreements.items()}

    @property
    def revision(self) -> str:
        """A name for the state of all agreements: it changes whenever one of them does."""
        return digest(self.revisions)[:REVISION_LENGTH]

    def online(self) -> dict[str, tuple[Presence, ...]]:
        """Give the agents of every party that is there."""
        self._presences.sweep()
        return {party: self._there(party) for party in sorted(self._agents)}

    def choose(self, party: str, ours: Mapping[str, int], *, without: str = "") -> Presence | None:
        """Give the agent of a party that new work goes to, or None where none takes any. `ours` counts parts that we
        know of, by instance; `without` is an instance that is not wanted."""
        self._presences.sweep()
        there = [each for each in self._there(party) if each.instance != without]
        return choose(there, ours, silent=self._silent)

    def doubt(self, instance: str) -> None:
        """Take note that an agent did not hear what it was told: others are chosen until it says that it is there."""
        self._silent.add(instance)

    def on_heard(self, call: Callable[[str, Presence | None], None]) -> None:
        """Call with what a party says, all its agents together, whenever one is heard; with None for a party that
        goes."""

        def heard(key: str, _: Presence | None) -> None:
            party, _instance = instances.parsed(key)
            there = self._there(party)  # of this party alone: there is a renewal a second for each that there is
            if party in self._parties:
                call(party, instances.together(there) if there else None)

        self._presences.on_heard(heard)

    def _heard(self, key: str, value: Presence | None) -> None:
        """Take note of an agent that says that it is there, or has gone."""
        party, instance = instances.parsed(key)
        self._silent.discard(instance)
        if party not in self._parties or not instance:
            return
        if value is not None:
            self._agents.setdefault(party, {})[instance] = instances.named(key, value)
        elif there := self._agents.get(party):
            there.pop(instance, None)
            if not there:
                del self._agents[party]

    def _there(self, party: str) -> tuple[Presence, ...]:
        """Give the agents of a party as last looked at, each by its name."""
        there = self._agents.get(party, {})
        return tuple(there[name] for name in sorted(there))

    def returning(self) -> frozenset[str]:
        """Give the parties whose last agent has said that it leaves and comes back, and is not back yet."""
        now = time.monotonic()
        said = (party for party, since in self._leaving.items() if now - since < RETURN_SECONDS)
        return frozenset(said) | {party for party, there in self.online().items() if not instances.staying(there)}

    async def present(self, parties: Iterable[str], *, within: float) -> None:
        """Wait until none of these is on its way back. Raises Unavailable (offline) after `within` seconds."""
        needed, end = frozenset(parties), time.monotonic() + within
        while missing := sorted(needed & self.returning()):
            self._changed.clear()
            now = time.monotonic()
            left = min(end, *(self._leaving.get(party, now) + RETURN_SECONDS for party in missing)) - now
            try:
                async with asyncio.timeout(max(left, 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                names = " and ".join(missing)
                what = f"{names} did not come back from a restart in time"
                raise Unavailable(what, where=", ".join(missing), hint="ask again later", code="offline") from None

    async def reach(self, party: str, revision: int, *, within: float) -> None:
        """Wait until the party's agreement is known here as of a revision. Raises TimedOut."""

        async def reached() -> bool:
            return self.revisions.get(party, revision) >= revision

        await until(f"revision {revision} of {party}'s agreement", reached, within=within, every=0.005)

    async def reach_shared(self, kind: str, name: str, revision: int, *, within: float) -> None:
        """Wait until a value of the marketplace is known here as of a revision (0: that there is none).

        Raises TimedOut.
        """

        async def reached() -> bool:
            known = self.shared.revision(kind, name)
            return known >= revision if revision else known == 0

        await until(f"revision {revision} of {kind} {name}", reached, within=within, every=0.005)

    def _note(self, *parties: str) -> None:
        self.edition += 1
        self.amendments.tell(*parties)

    async def _follow(self) -> None:
        """Take note of parties whose last agent leaves to come back, and of those that are back."""
        async with self._presences.changes() as changes:
            async for item in changes:
                party, _ = instances.parsed(item.name)
                if party not in self._parties:
                    continue
                there = self._there(party)
                if instances.staying(there):
                    self._leaving.pop(party, None)
                elif item.value is not None and item.value.leaving:
                    self._leaving[party] = time.monotonic()
                elif there:
                    self._leaving.setdefault(party, time.monotonic())
                self._changed.set()

    def landscape(self) -> Landscape:
        """Give what planning needs to know. Who comes back soon counts as there: the job waits for it."""
        return Landscape(
            archetypes=dict(self.shared.archetypes),
            request_types=dict(self.shared.request_types),
            services=dict(self.shared.services),
            online=frozenset(self.online()) | self.returning(),
        )
