"""What the orchestrator knows of the marketplace, kept current by watches: agreements, catalogues, who is there."""

from __future__ import annotations

from dynamos.kit.digests import digest
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.knowledge.presence import Presences
from dynamos.middleware.messages import Presence
from dynamos.middleware.views import Mirror, SharedView, Work, agreements_of, catalogue_of
from dynamos.model.agreements import Agreement
from dynamos.model.datasets import DataSet
from dynamos.planning.landscapes import Landscape

REVISION_LENGTH = 12


class Overview:
    """The marketplace now. `works` are the endless tasks that keep it current."""

    def __init__(self, kb: KnowledgeBase, parties: tuple[str, ...], presences: Presences[Presence]) -> None:
        self.parties = parties
        self.shared = SharedView(kb)
        self._presences = presences
        self._agreements = {party: Mirror(agreements_of(kb, party)) for party in parties}
        self._catalogues = {party: Mirror(catalogue_of(kb, party)) for party in parties}
        self.works: list[Work] = [
            *self.shared.works,
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

    def online(self) -> dict[str, Presence]:
        """Give who is there."""
        return self._presences.online()

    def landscape(self) -> Landscape:
        """Give what planning needs to know."""
        return Landscape(
            archetypes=dict(self.shared.archetypes),
            request_types=dict(self.shared.request_types),
            services=dict(self.shared.services),
            online=frozenset(self._presences.online()),
        )
