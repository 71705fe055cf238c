"""Simulations: requests of a trace walk through a simulated marketplace, and the planner picks for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf

from dynamos.adaptation.simulator.agendas import Agenda
from dynamos.adaptation.simulator.costs import BUS_CORES, MEASURED, TRAFFIC, Costs, Traffic
from dynamos.adaptation.simulator.hindsight import Hindsight, Sway
from dynamos.adaptation.simulator.jobs import Job
from dynamos.adaptation.simulator.minds import Make, plain
from dynamos.adaptation.simulator.outcomes import Counts, Outcome
from dynamos.adaptation.simulator.queues import Access, Server, carry
from dynamos.adaptation.simulator.scenes import KIND, Change, Scene
from dynamos.adaptation.simulator.sites import Sites
from dynamos.adaptation.simulator.traces import Ask
from dynamos.kit.errors import Broken
from dynamos.knowledge.layouts import HEARTBEAT, PRESENCE_AGE
from dynamos.model.requests import Request, User
from dynamos.planning.planners import Question

SAMPLES = 2_000
"""Of how many requests, at most, the regret is worked out."""
_REQUEST = Request(type=KIND, user=User(user_name="simulated"), providers=("nobody",), query="")
SPARE_REQUESTS = 256
"""How many requests the API holds beside those that run or wait, as the real one does."""
_BEATS = 20
_TICK = 0.1


Step = Callable[[float, Job], None]
Strand = tuple[Job, int, int]
"""A job, a party's number, and the life that this party was in when its part began."""


class Simulation:
    """One run: the same arguments give the same outcome. Each step of a job is an event, in the order of a request."""

    def __init__(
        self,
        scene: Scene,
        trace: Iterable[Ask],
        *,
        make: Make = plain,
        costs: Costs = MEASURED,
        traffic: Traffic = TRAFFIC,
        seed: int = 0,
        expected: int = 0,
        told: Callable[[Ask, float], None] | None = None,
    ) -> None:
        self.sites = Sites(scene)
        self.agenda = Agenda()
        self._scene = scene
        self._trace: Iterator[Ask] = iter(trace)
        self._costs, self._traffic, self._seed = costs, traffic, seed
        self._mind = make(self.sites)
        self._api, self._orchestrator, self._bus = Server(), Server(), Server(BUS_CORES)
        self._gateway = Access(scene.gateway, 0.0)
        self._running, self._open = 0, 0
        self._most = scene.running + scene.waiting + SPARE_REQUESTS
        self._waiting: deque[Job] = deque()
        self._counts = Counts()
        self._sway = Sway()
        self._hindsight = Hindsight(self.sites, costs)
        self._every = max(1, expected // SAMPLES)
        self._outcome = Outcome(self._mind.name, seed, self._counts, 0.0, 0)
        self._told = told
        self._exhausted = False
        self._until = 0.0
        self._beats = 0.0

    def run(self) -> Outcome:
        """Let every request come and end."""
        for change in self._scene.changes:
            self.agenda.put(change.at, self._change, change)
        self._next()
        if self._costs.heard.base or self._costs.write:
            self.agenda.put(0.0, self._beat)
        self.agenda.run()
        outcome, until = self._outcome, self._until
        outcome.seconds, outcome.events = until, self.agenda.done
        named = (("api", self._api), ("orchestrator", self._orchestrator), ("bus", self._bus))
        outcome.control = {name: server.utilisation(until) for name, server in named}
        outcome.parties = self.sites.utilisations(until)
        outcome.picks = dict(sorted(self._sway.ways.items()))
        outcome.switches, outcome.oscillations = self._sway.switches, self._sway.oscillations
        return outcome

    # What comes from outside

    def _next(self) -> None:
        ask = next(self._trace, None)
        if ask is None:
            self._exhausted = True
            return
        self._open += 1
        self.agenda.put(ask.at, self._arrive, ask)

    def _change(self, _: float, change: Change) -> None:
        self.sites.apply(change)

    def _beat(self, at: float, _: object) -> None:
        """Renew presences, some at once: the bus writes each, and the orchestrator and the API hear it."""
        if self._exhausted and not self._open:
            return
        there = len(self.sites.landscape.online)
        tick = min(_TICK, _BEATS * HEARTBEAT / there) if there else _TICK
        self._beats += there * tick / HEARTBEAT
        beats = int(self._beats)
        self._beats -= beats
        self._counts.heartbeats += beats
        self._use_bus(at, 2 * beats, beats)
        heard = beats * self._costs.heard.of(there)
        self._orchestrator.serve(at, heard)
        self._api.serve(at, heard)
        self.agenda.put(at + tick, self._beat)

    # The way of a request

    def _arrive(self, at: float, ask: Ask) -> None:
        self._counts.arrived += 1
        self._next()
        if self._open > self._most:
            self._counts.busy += 1
            self._end(at)
            return
        self._bring_on(at, self._api.serve(at, self._costs.api), Job(ask), self._submit, self._drop)

    def _submit(self, at: float, job: Job) -> None:
        many = len(job.ask.providers)
        self._counts.decisions += many
        work = self._costs.admit + self._costs.decide * many
        self._bring_on(at, self._orchestrator.serve(at, work), job, self._plan, self._drop)

    def _plan(self, at: float, job: Job) -> None:
        """Decide and plan, and write down what was decided."""
        ask, sites = job.ask, self.sites
        choices = {
            name: tuple(
                choice
                for choice in sites.choices(sites.number[name], moving=ask.unites)
                if ask.archetype in (None, choice.archetype.name)
            )
            for name in ask.providers
        }
        left = {name: some for name, some in choices.items() if some}
        if not left:
            self._counts.refused += 1
            self._end(at)
            return
        request = _REQUEST.model_copy(update={"type": ask.kind, "providers": tuple(left)})
        question = Question(request, left, sites.landscape)
        pick = self._mind.pick(question, job, at)
        if not question.permits(pick):
            raise Broken(f"the planner {self._mind.name!r} picked what is not permitted", where=pick.name)
        job.take(pick)
        self._mind.planned(job)
        self._sway.note(pick, at, moving=ask.unites)
        if self._counts.arrived % self._every == 0:
            self._outcome.regret.add(self._hindsight.regret(ask, question, pick, at))
        traffic = self._traffic
        self._bring_on(at, self._use_bus(at, traffic.asked, traffic.opened), job, self._admit, self._give_up)

    def _admit(self, at: float, job: Job) -> None:
        """Let a job in, or have it wait for a place."""
        job.queued = at
        if self._running < self._scene.running:
            self._start(at, job)
        elif len(self._waiting) < self._scene.waiting:
            self._waiting.append(job)
        else:
            self._counts.busy += 1
            self._counts.failed -= 1
            self._give_up(at, job)

    def _start(self, at: float, job: Job) -> None:
        self._running += 1
        self._outcome.queued.add(at - job.queued)
        job.started = at
        end = self._orchestrator.serve(at, self._costs.grant * len(job.parties))
        self._bring_on(at, end, job, self._granted, self._stop)

    def _granted(self, at: float, job: Job) -> None:
        """Have every part start; each agent decides again."""
        parts, traffic = len(job.parties), self._traffic
        self._counts.decisions += len(job.pick.compute)
        writes = traffic.taken * parts + traffic.recorded
        heard = self._use_bus(at, traffic.granted * parts + traffic.told, writes)
        self._bring_on(at, heard, job, self._begin, self._stop)

    def _begin(self, heard: float, job: Job) -> None:
        """Every agent has its grant."""
        sites = self.sites
        for provider, place in job.pick.compute.items():
            party = sites.number[provider]
            if place != provider:
                computer = sites.number[place]
                if computer not in job.missing:
                    job.owed += 1
                    sites.begin(computer, heard, 1)
                job.missing[computer] = job.missing.get(computer, 0) + 1
            job.owed += 1
            self.agenda.put(heard + sites.ways[party].delay + self._costs.start, self._query, (job, party))

    def _query(self, at: float, what: tuple[Job, int]) -> None:
        """Work on a provider's own rows: all of it, or what a third party needs of it."""
        job, party = what
        sites, ask, costs = self.sites, job.ask, self._costs
        name = sites.names[party]
        if not sites.online[party]:
            self._lose(at, job, party)
            return
        place, slower = job.pick.compute[name], ask.work * (1.0 + costs.crowd * (len(job.parties) - 1))
        line = costs.query if place == name else costs.gather
        if place != name and costs.beside.base:
            computer, beside = sites.number[place], costs.beside.of(ask.rows) * slower
            job.cpu += beside
            job.ready[computer] = max(job.ready.get(computer, 0.0), sites.servers[computer].serve(at, beside))
        sites.begin(party, at, 1)
        self._work(at, job, party, line.of(ask.rows) * slower, self._queried)

    def _work(self, at: float, job: Job, party: int, work: float, then: Callable[[float, Strand], None]) -> None:
        end = self.sites.servers[party].serve(at, work)
        job.cpu += work
        self.agenda.put(end, then, (job, party, self.sites.life[party]))

    def _queried(self, at: float, strand: Strand) -> None:
        job, party, life = strand
        sites = self.sites
        sites.begin(party, at, -1)
        if life != sites.life[party]:
            self._lose(at, job, party)
            return
        name = sites.names[party]
        place = job.pick.compute[name]
        if place == name:
            self._answer(at, job, party, job.ask.rows)
            return
        size = job.ask.rows * self._costs.width
        self._counts.moved += size
        job.moved += size
        computer = sites.number[place]
        end = carry(sites.ways[party], sites.ways[computer], at, size)
        job.way = max(job.way, end - at)
        self.agenda.put(end, self._report, job)
        self.agenda.put(end, self._gathered, (job, computer))

    def _gathered(self, at: float, what: tuple[Job, int]) -> None:
        """One provider's rows are at the third party; with the last of them, it computes."""
        job, computer = what
        job.missing[computer] -= 1
        if job.missing[computer]:
            return
        self.agenda.put(max(at, job.ready.get(computer, 0.0)), self._compute, (job, computer))

    def _compute(self, at: float, what: tuple[Job, int]) -> None:
        job, computer = what
        if job.failed or not self.sites.online[computer]:
            self.sites.begin(computer, at, -1)
            self._fail(at, job)
            return
        rows = job.ask.rows * sum(place == self.sites.names[computer] for place in job.pick.compute.values())
        self._work(at, job, computer, self._costs.algorithm.of(rows) * job.ask.work, self._computed)

    def _computed(self, at: float, strand: Strand) -> None:
        job, computer, life = strand
        self.sites.begin(computer, at, -1)
        if life != self.sites.life[computer]:
            self._fail(at, job)
            return
        rows = job.ask.rows * sum(place == self.sites.names[computer] for place in job.pick.compute.values())
        self._answer(at, job, computer, rows)

    def _answer(self, at: float, job: Job, party: int, rows: int) -> None:
        """Send a result to the requestor; then the part has ended."""
        size = rows * job.ask.kept * self._costs.width
        self._counts.moved += size
        self.agenda.put(carry(self.sites.ways[party], self._gateway, at, size), self._report, job)

    def _lose(self, at: float, job: Job, party: int) -> None:
        """Take note that a provider's part is lost; who waits for its rows gets no more."""
        self._fail(at, job)
        name = self.sites.names[party]
        place = job.pick.compute[name]
        if place != name:
            self._gathered(at, (job, self.sites.number[place]))

    def _fail(self, at: float, job: Job) -> None:
        """End a part that will not report: its presence goes first."""
        job.failed = True
        self.agenda.put(at + PRESENCE_AGE, self._report, job)

    def _report(self, at: float, job: Job) -> None:
        self._use_bus(at, self._traffic.reported, self._traffic.traced)
        self._bring_on(at, self._orchestrator.serve(at, self._costs.report), job, self._reported, self._unreported)

    def _reported(self, at: float, job: Job) -> None:
        job.owed -= 1
        if job.owed:
            return
        traffic = self._traffic
        told = self._use_bus(at, traffic.told, traffic.recorded + traffic.traced)
        self._bring_on(at, told, job, self._conclude, self._stop)

    def _conclude(self, at: float, job: Job) -> None:
        """Tell the requestor, and let the next one in."""
        self._running -= 1
        self._mind.ended(job, at)
        took = self._hand_out(at, job) if not job.failed else inf
        if took > self._scene.deadline:
            self._counts.failed += 1
        else:
            self._counts.completed += 1
            self._outcome.latency.add(took)
            if self._told is not None:
                self._told(job.ask, took)
        while self._waiting and self._running < self._scene.running:
            waited = self._waiting.popleft()
            if at - waited.ask.at > self._scene.deadline:
                self._give_up(at, waited)
            else:
                self._start(at, waited)
        self._end(at)

    def _hand_out(self, at: float, job: Job) -> float:
        """Give how long the requestor waits for the answer, from its request on."""
        size = job.ask.rows * len(job.ask.providers) * job.ask.kept * self._costs.width
        return self._api.serve(at, self._costs.answer.of(size)) - job.ask.at

    # What the control plane is too busy for

    def _bring_on(self, at: float, end: float, job: Job, then: Step, late: Step) -> None:
        """Go on with a job at a moment, or end it at its deadline, which is not put off by what is still to be done."""
        limit = job.ask.at + self._scene.deadline
        if end > limit:
            self.agenda.put(max(at, limit), late, job)
        else:
            self.agenda.put(end, then, job)

    def _drop(self, at: float, _: Job) -> None:
        """End a request that is not planned yet."""
        self._counts.failed += 1
        self._end(at)

    def _give_up(self, at: float, job: Job) -> None:
        """End a job that is planned, and does not run yet."""
        job.failed = True
        self._mind.ended(job, at)
        self._drop(at, job)

    def _stop(self, at: float, job: Job) -> None:
        """End a job that runs, and of which no part is under way."""
        job.failed = True
        self._conclude(at, job)

    def _unreported(self, at: float, job: Job) -> None:
        """A report comes too late."""
        job.failed = True
        self._reported(at, job)

    def _end(self, at: float) -> None:
        self._open -= 1
        self._until = at

    def _use_bus(self, at: float, messages: int, writes: int) -> float:
        """Have the bus carry messages and write; gives when it has."""
        self._counts.messages += messages
        self._counts.writes += writes
        return self._bus.serve(at, messages * self._costs.message + writes * self._costs.write)


def simulate(
    scene: Scene,
    trace: Iterable[Ask],
    *,
    make: Make = plain,
    costs: Costs = MEASURED,
    seed: int = 0,
    expected: int = 0,
    told: Callable[[Ask, float], None] | None = None,
) -> Outcome:
    """Run a trace through a scene. `expected` is about how many requests there are: it bounds how many are sampled for
    regret. `told` hears of each answer, and how many seconds it took."""
    return Simulation(scene, trace, make=make, costs=costs, seed=seed, expected=expected, told=told).run()
