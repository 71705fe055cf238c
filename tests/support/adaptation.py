"""Situations, jobs and a loop over the bus in memory, for tests of adaptation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dynamos.adaptation.loops import Loop
from dynamos.adaptation.situations import Experience, Option, PartyReading, Situation, Symptom
from dynamos.knowledge.bases import PRESENCE
from dynamos.knowledge.memory import MemoryCluster
from dynamos.knowledge.presence import Presences
from dynamos.middleware.messages import Presence
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.views import background

NOW = 1_800_000_000.0
HOME = Option(name="computeToData", archetypes={"UVA": "computeToData"}, compute={"UVA": "UVA"})


def at(place: str, provider: str = "UVA") -> Option:
    """Give the option that computes a provider's data at a third party."""
    return Option(name=f"dataThroughTtp at {place}", archetypes={provider: "dataThroughTtp"}, compute={provider: place})


def situation(
    *options: Option,
    loads: dict[str, float] | None = None,
    trouble: Iterable[str] = (),
    stale: Iterable[str] = (),
    job: str = "job-1",
    shape: str = "asked",
    **members: Any,
) -> Situation:
    """Give a situation: the loads of parties, those that are overloaded, and those whose reading is stale."""
    gone = set(stale)
    parties = {
        party: PartyReading(capacity=100, parts=round(level * 100), stale=party in gone)
        for party, level in (loads or {}).items()
    }
    symptoms = tuple(Symptom(kind="overload", subject=party, since=NOW, fact="load") for party in trouble)
    return Situation(
        job=job, at=NOW, type="rows", shape=shape, options=options, parties=parties, symptoms=symptoms, **members
    )


def experience(
    option: Option, seconds: float, *, level: float = 0.0, shape: str = "asked", **members: Any
) -> Experience:
    """Give what came of a job under an option."""
    return Experience(job="before", type="rows", shape=shape, option=option, seconds=seconds, level=level, **members)


@asynccontextmanager
async def overview(cluster: MemoryCluster, parties: tuple[str, ...]) -> AsyncIterator[Overview]:
    """Give an orchestrator's view of a marketplace in memory."""
    kb = cluster.connect("orchestrator")
    async with Presences(kb.store(PRESENCE), Presence) as presences:
        view = Overview(kb, parties, presences)
        async with background(*view.works):
            yield view


@asynccontextmanager
async def loop(cluster: MemoryCluster, view: Overview, planner: str, **options: Any) -> AsyncIterator[Loop]:
    """Give a loop at work."""
    it = await Loop.begin(cluster.connect("orchestrator"), view, planner, options)
    try:
        async with background(*it.works):
            yield it
    finally:
        await it.close()


def presence(party: str, **load: Any) -> Presence:
    """Give what a party says of itself."""
    moment = "2026-01-01T00:00:00+00:00"
    return Presence.model_validate(
        {
            "party": party,
            "instance": "first",
            "address": "",
            "activeSince": moment,
            "configUpdated": moment,
            "load": load or None,
        }
    )


def folder_of(tmp_path: Path) -> Path:
    """Give a folder that services may enter."""
    tmp_path.chmod(0o755)
    return tmp_path
