"""Hindsight: how much better another pick would have been, and who goes to and fro."""

from __future__ import annotations

from collections import Counter

from dynamos.adaptation.simulator.costs import Costs
from dynamos.adaptation.simulator.queues import would_carry
from dynamos.adaptation.simulator.sites import Sites
from dynamos.adaptation.simulator.traces import Ask
from dynamos.planning.planners import Pick, Question, picks

SOON = 10.0
"""Within how many seconds a pick that comes back is an oscillation."""
MOST = 64
REMEMBERED = 20_000

_Way = frozenset[tuple[str, str, str]]
_NONE: _Way = frozenset()


class Hindsight:
    """Knows the true state of every queue and what each request will take, which no planner does."""

    def __init__(self, sites: Sites, costs: Costs) -> None:
        self._sites = sites
        self._costs = costs

    def regret(self, ask: Ask, question: Question, pick: Pick, at: float) -> float:
        """Give by how many seconds a pick takes longer than the best one, if nothing else came in between."""
        mine = self._takes(ask, pick, at)
        best = min((self._takes(ask, other, at) for other in picks(question, limit=MOST)), default=mine)
        return max(0.0, mine - best)

    def _takes(self, ask: Ask, pick: Pick, at: float) -> float:
        """Give until when a request's work and transfers would take, as all queues are."""
        sites, costs = self._sites, self._costs
        end, rows = at, dict[int, int]()
        there, beside = dict[int, float](), dict[int, float]()
        slower = ask.work * (1.0 + costs.crowd * (len({*pick.compute, *pick.compute.values()}) - 1))
        for provider, computer in pick.compute.items():
            party, place = sites.number[provider], sites.number[computer]
            begin = at + sites.ways[party].delay + costs.start
            if place == party:
                end = max(end, sites.servers[party].would(begin, costs.query.of(ask.rows) * slower))
                continue
            done = sites.servers[party].would(begin, costs.gather.of(ask.rows) * slower)
            size = ask.rows * costs.width
            came = would_carry(sites.ways[party], sites.ways[place], done, size)
            there[place] = max(came, there.get(place, 0.0) + size / sites.ways[place].rate)
            beside[place] = beside.get(place, 0.0) + costs.beside.of(ask.rows) * slower
            rows[place] = rows.get(place, 0) + ask.rows
        for place, came in there.items():
            server, work = sites.servers[place], costs.algorithm.of(rows[place]) * ask.work
            worked = server.would(at, beside[place] + work)
            end = max(end, came + work / server.speed, worked)
        return end


class Sway:
    """Counts how often the pick for the same providers changes, and how often it comes back soon.

    Requests that have the rows moved anyway are looked at apart: they have other options. Of very many different sets
    of providers, those that were asked first are forgotten.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[frozenset[str], bool], tuple[_Way, _Way, float]] = {}
        self.switches = 0
        self.oscillations = 0
        self.ways: Counter[str] = Counter()

    def note(self, pick: Pick, at: float, *, moving: bool) -> None:
        """Take note of a pick."""
        self.ways.update(pick.archetypes.values())
        way = frozenset((party, archetype, pick.compute[party]) for party, archetype in pick.archetypes.items())
        asked = frozenset(pick.archetypes), moving
        last, before, since = self._last.setdefault(asked, (way, _NONE, at))
        if way != last:
            self.switches += 1
            self.oscillations += way == before and at - since < SOON
            self._last[asked] = way, last, at
        if len(self._last) > REMEMBERED:
            del self._last[next(iter(self._last))]
