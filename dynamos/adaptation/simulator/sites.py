"""Sites: the parties of a simulation while it runs, and what the orchestrator knows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from dynamos.adaptation.simulator.queues import Access, Server
from dynamos.adaptation.simulator.scenes import ARCHETYPES, Change, Scene, Terms
from dynamos.knowledge.layouts import HEARTBEAT
from dynamos.planning.landscapes import Landscape
from dynamos.planning.planners import Choice

_GOLDEN = 0.6180339887498949


class Sites:
    """Parties by number, with their queues, their ways, and how many parts each has: waiting or under way.

    The orchestrator knows of a party's load what its last heartbeat said: heartbeats of different parties are spread
    over the second.
    """

    def __init__(self, scene: Scene) -> None:
        self.names = tuple(scene.parties)
        self.number = {name: number for number, name in enumerate(self.names)}
        parties = scene.parties.values()
        self.servers = [Server(party.capacity, party.speed) for party in parties]
        self.ways = [Access(party.rate, party.delay) for party in parties]
        self.parts = [0] * len(self.names)
        self.life = [0] * len(self.names)
        self.online = [True] * len(self.names)
        self.landscape = scene.landscape
        self._terms: list[Terms | None] = [party.terms for party in parties]
        self._told = [0] * len(self.names)
        self._noted = [0.0] * len(self.names)
        self._choices: dict[tuple[int, bool], tuple[Choice, ...]] = {}

    def begin(self, party: int, at: float, change: int) -> None:
        """Take note that a party has one part more, or less."""
        beat = self._beat(party, at)
        if beat > self._noted[party]:
            self._told[party], self._noted[party] = self.parts[party], beat
        self.parts[party] += change

    def known(self, party: str, at: float) -> tuple[int, int, float]:
        """Give what a party's last heartbeat told: its parts, how many it can work on at once; and how many seconds ago
        that was."""
        number = self.number[party]
        beat = self._beat(number, at)
        parts = self.parts[number] if beat > self._noted[number] else self._told[number]
        return parts, self.servers[number].places, at - beat

    def choices(self, party: int, *, moving: bool) -> tuple[Choice, ...]:
        """Give what policy leaves a provider with who is there now, the lightest first; with `moving`, only what brings
        its rows elsewhere."""
        known = self._choices.get((party, moving))
        if known is None:
            known = self._choices[party, moving] = self._work_out(party, moving=moving)
        return known

    def apply(self, change: Change) -> None:
        """Have something happen to a party. What it works on when it leaves is lost."""
        party = self.number[change.party]
        if change.speed is not None:
            self.servers[party].speed = change.speed
        if change.rate is not None:
            self.ways[party].rate = change.rate
        if change.terms is not None:
            self._terms[party] = change.terms
        if change.online is not None and change.online != self.online[party]:
            self.online[party] = change.online
            self.life[party] += 1
            there = frozenset(name for name, on in zip(self.names, self.online, strict=True) if on)
            known = self.landscape
            self.landscape = Landscape(known.archetypes, known.request_types, known.services, there)
        self._choices.clear()

    def utilisations(self, until: float) -> Mapping[str, float]:
        """Give the share of each party's time that it worked."""
        return {name: server.utilisation(until) for name, server in zip(self.names, self.servers, strict=True)}

    def _beat(self, party: int, at: float) -> float:
        phase = party * _GOLDEN % 1.0 * HEARTBEAT
        return max(0.0, (at - phase) // HEARTBEAT * HEARTBEAT + phase)

    def _work_out(self, party: int, *, moving: bool) -> tuple[Choice, ...]:
        terms, name = self._terms[party], self.names[party]
        if terms is None or not self.online[party]:
            return ()
        found = []
        for archetype in sorted((ARCHETYPES[each] for each in terms.archetypes), key=lambda each: each.weight):
            if moving and not archetype.moves_data:
                continue
            computers = terms.computers if archetype.moves_data else (name,)
            present = tuple(each for each in computers if self.online[self.number[each]])
            if present:
                found.append(Choice(archetype, present))
        return tuple(found)


def slower(scene: Scene, party: str, factor: float, *, at: float) -> Scene:
    """Give the scene with a party that from a moment on takes so many times as long: a load step."""
    return scene.having(Change(at, party, speed=scene.parties[party].speed / factor))


def without(scene: Scene, party: str) -> Scene:
    """Give the scene without a party's being there from the beginning."""
    return replace(scene, changes=(Change(0.0, party, online=False), *scene.changes))
