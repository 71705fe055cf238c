"""The helm: what strategies from outside have set, before the adviser's own picks, and always within policy."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import BadInput, Conflict, DynamosError, Refused
from dynamos.kit.words import suggest
from dynamos.knowledge.bases import ADAPTATION, KnowledgeBase
from dynamos.knowledge.shelves import Shelf
from dynamos.middleware.identity import vouchers
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.orchestrator.advisers import Advice, Adviser
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.orchestrator.pins import Pinned, check, permitted
from dynamos.middleware.steering import JobSeen, Monitored, Options, PartySeen, Steer, Steering, Watch
from dynamos.middleware.views import Mirror, Work
from dynamos.model.jobs import Job
from dynamos.model.requests import Request
from dynamos.planning.planners import Weights

log = logging.getLogger(__name__)
SHELF, NAME = "steering", "now"
RECENT = 50


@runtime_checkable
class Steerable(Protocol):
    """An adviser whose planner can be changed, and that tells what it has read."""

    @property
    def planners(self) -> Mapping[str, dict[str, Any]]:
        """The planners that there are, each with the JSON Schema of its options."""
        ...

    def use(self, planner: str, options: Mapping[str, Any]) -> None:
        """Plan by this planner from the next request on; "" is the profile's own. Raises BadInput."""
        ...

    def monitored(self) -> Mapping[str, Any]:
        """Give what was read: `parties` and `links` by name, and `symptoms`."""
        ...


class Helm:
    """An adviser around another one. What is set is kept in the knowledge base: it survives a restart."""

    def __init__(
        self,
        adviser: Adviser,
        *,
        kb: KnowledgeBase,
        overview: Overview,
        requestors: Requestors,
        marketplace: str,
        clock: Clock,
    ) -> None:
        self._adviser = adviser
        self._kb = kb
        self._overview = overview
        self._requestors = requestors
        self._marketplace = marketplace
        self._clock = clock
        self.jobs: Callable[[], Awaitable[list[Job]]] = _nothing
        """Gives the newest jobs."""
        self.steering = Steering()
        self._shelf = Shelf(kb.store(ADAPTATION), SHELF, Steering)
        self._mirror = Mirror(self._shelf, self._changed)

    async def load(self) -> None:
        """Take up what an earlier life was set to. What does not hold any more is left out, and logged."""
        found = await self._shelf.get(NAME)
        if found is not None and found.value is not None:
            self._take(found.value.model_copy(update={"revision": found.revision}))

    def _changed(self, name: str) -> None:
        """Hear that the steering was written: by us, or by another orchestrator of this marketplace."""
        value = self._mirror.values.get(name)
        if name == NAME and value is not None:
            self._take(value.model_copy(update={"revision": self._mirror.revisions[name]}))

    def _take(self, found: Steering) -> None:
        if found.revision <= self.steering.revision:
            return
        try:
            self._use(found)
        except BadInput as error:
            log.warning("steering.left-out error=%s", error)
        else:
            self.steering = found

    # What the orchestrator asks of an adviser

    @property
    def works(self) -> Sequence[Work]:
        return (*self._adviser.works, self._mirror.follow)

    def planner(self, request: Request, job: str) -> Advice:
        advice = self._adviser.planner(request, job)
        pins = {pin.provider: pin for pin in self.steering.pins if pin.request_type in ("", request.type)}
        return Pinned(advice, pins) if pins else advice

    def planned(self, job: Job) -> None:
        self._adviser.planned(job)

    def outdated(self, job: Job) -> bool:
        return self._adviser.outdated(job)

    def ended(self, job: Job) -> None:
        self._adviser.ended(job)

    async def close(self) -> None:
        await self._adviser.close()

    # What strategies ask

    async def monitor(self, message: Watch) -> Monitored:
        """Tell what is monitored. Raises Refused for who is no admin of the marketplace."""
        self._check_admin(message.voucher, vouchers.to_watch("monitor"))
        overview, jobs = self._overview, await self.jobs()
        online, revisions, returning = overview.online(), overview.revisions, overview.returning()
        read = self._adviser.monitored() if isinstance(self._adviser, Steerable) else {}
        loads = read.get("parties", {})
        return Monitored(
            time=self._clock.now(),
            revision=overview.revision,
            running=sum(str(job.state) == "running" for job in jobs),
            waiting=sum(str(job.state) == "submitted" for job in jobs),
            parties={
                party: PartySeen(
                    online=party in online,
                    leaving=party in returning,
                    instances=len(online.get(party, ())),
                    agreement=revisions[party],
                    load=loads.get(party, {}),
                )
                for party in overview.parties
            },
            links=dict(read.get("links", {})),
            symptoms=tuple(read.get("symptoms", ())),
            jobs=tuple(_seen(job) for job in jobs[:RECENT]),
            steering=self.steering,
        )

    async def options(self, message: Watch) -> Options:
        """Tell what can be set. Raises Refused for who is no admin of the marketplace."""
        self._check_admin(message.voucher, vouchers.to_watch("options"))
        planners = self._planners()
        return Options(
            planner=tuple(planners),
            planner_options=dict(planners),
            pins=permitted(self._overview.agreements, self._overview.landscape(), self._clock.now()),
        )

    async def steer(self, message: Steer) -> Steering:
        """Set it for the next request on, once it is written down. Raises Refused, BadInput, Conflict.

        A pin that no agreement permits to anybody is refused; one that an agreement does not permit to who asks is not
        followed for that request, and the plan's notes say so.
        """
        user = self._check_admin(message.voucher, vouchers.to_steer(message.as_json()))
        before = self.steering
        if message.revision is not None and message.revision != before.revision:
            raise Conflict(
                f"the steering has revision {before.revision}, not {message.revision}", where="$.revision",
                hint="read the monitor again", code="outdated-steering",
            )  # fmt: skip
        wanted = _with(before, message)
        self._check(wanted)
        self._use(wanted)
        try:
            await self._note(user, before, wanted)
            revision = await self._shelf.put(NAME, wanted, revision=before.revision)
        except DynamosError:
            self._use(before)
            raise
        after = self.steering = wanted.model_copy(update={"revision": revision})
        log.info("steered by=%s planner=%s pins=%d", user, after.planner, len(after.pins))
        return after

    def _check_admin(self, voucher: str, purpose: str) -> str:
        user = self._requestors.administers(self._marketplace, voucher, purpose)
        if user is None:
            raise Refused("only an admin of the marketplace may steer it", code="not-admin")
        return user

    def _check(self, wanted: Steering) -> None:
        planners = self._planners()
        if wanted.planner and wanted.planner not in planners:
            hint = suggest(wanted.planner, planners) or f"there are {', '.join(planners)}"
            raise BadInput(f"there is no planner {wanted.planner!r}", where="$.planner", hint=hint)
        if wanted.planner_options and not wanted.planner:
            raise BadInput("options are of a planner", where="$.plannerOptions", hint="name the planner too")
        overview = self._overview
        check(wanted.pins, overview.agreements, overview.landscape(), overview.parties, self._clock.now())

    def _planners(self) -> Mapping[str, dict[str, Any]]:
        if isinstance(self._adviser, Steerable):
            return self._adviser.planners
        return {Weights.name: {"type": "object", "additionalProperties": False}}

    def _use(self, wanted: Steering) -> None:
        if isinstance(self._adviser, Steerable):
            self._adviser.use(wanted.planner, wanted.planner_options)
        elif wanted.planner_options:
            raise BadInput(f"{Weights.name} has no options", where="$.plannerOptions")

    async def _note(self, user: str, before: Steering, after: Steering) -> None:
        record = {"event": "adaptation.steered", "time": self._clock.now().isoformat(), "user": user}
        told = {"before": before.as_json(), "after": after.as_json(), "revision": self._overview.revision}
        await self._kb.log("audit").append("orchestrator.steering", {**record, **told})


def _with(before: Steering, message: Steer) -> Steering:
    """Give what is wanted. Another planner begins with its own options."""
    told = {name: getattr(message, name) for name in ("planner", "planner_options", "pins")}
    given = {name: value for name, value in told.items() if value is not None}
    if message.planner is not None and message.planner != before.planner:
        given = {"planner_options": {}, **given}
    return before.model_copy(update=given)


def _seen(job: Job) -> JobSeen:
    return JobSeen(
        job=job.id,
        type=job.request.type,
        state=str(job.state),
        providers=job.request.providers,
        archetypes=job.plan.archetypes if job.plan else {},
        compute=job.plan.compute if job.plan else {},
        submitted=job.submitted,
        timings=job.timings,
    )


async def _nothing() -> list[Job]:
    return []
