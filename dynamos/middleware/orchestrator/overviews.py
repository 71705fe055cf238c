"""What the orchestrator knows of the marketplace, kept current by watches: agreements, catalogues, who is there."""

from __future__ import annotations

from functools import partial

from dynamos.kit.digests import digest
from dynamos.knowledge.bases import SHARED, KnowledgeBase, bucket_of
from dynamos.knowledge.presence import Presences
from dynamos.knowledge.stores import Entry
from dynamos.middleware.messages import Presence
from dynamos.middleware.views import SharedView, Shelf, follow
from dynamos.model.agreements import Agreement
from dynamos.model.datasets import DataSet
from dynamos.planning.landscapes import Landscape

REVISION_LENGTH = 12


class PartyView:
    """One party's bucket as the orchestrator may read it."""

    def __init__(self) -> None:
        self.agreement: Agreement | None = None
        self.revision = 0
        self._catalogue = Shelf("catalogue", DataSet)

    @property
    def data_sets(self) -> dict[str, DataSet]:
        return self._catalogue.values

    def apply(self, entry: Entry) -> None:
        """Take over one entry of the party's bucket."""
        if entry.key == "agreement":
            self.agreement = Agreement.model_validate(entry.value) if entry.value is not None else None
            self.revision = entry.revision
        elif entry.key.startswith("catalogue."):
            self._catalogue.apply(entry)


class Overview:
    """The marketplace now. `works` are the endless tasks that keep it current."""

    def __init__(self, kb: KnowledgeBase, parties: tuple[str, ...], presences: Presences[Presence]) -> None:
        self.shared = SharedView()
        self.parties = {party: PartyView() for party in parties}
        self.presences = presences
        self.works = [
            partial(follow, kb.store(SHARED), "", self.shared.apply),
            *(partial(follow, kb.store(bucket_of(party)), "", view.apply) for party, view in self.parties.items()),
        ]

    @property
    def agreements(self) -> dict[str, Agreement]:
        return {party: view.agreement for party, view in self.parties.items() if view.agreement is not None}

    @property
    def catalogue(self) -> dict[str, dict[str, DataSet]]:
        return {party: view.data_sets for party, view in self.parties.items()}

    @property
    def revision(self) -> str:
        """A name for the state of all agreements: it changes whenever one of them does."""
        return digest({party: view.revision for party, view in self.parties.items()})[:REVISION_LENGTH]

    def online(self) -> dict[str, Presence]:
        """Give who is there."""
        return self.presences.online()

    def landscape(self) -> Landscape:
        """Give what planning needs to know."""
        return Landscape(
            archetypes=dict(self.shared.archetypes),
            request_types=dict(self.shared.request_types),
            services=dict(self.shared.services),
            online=frozenset(self.presences.online()),
        )
