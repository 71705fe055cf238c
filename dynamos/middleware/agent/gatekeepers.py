"""What a party checks before it runs anything: it trusts neither the orchestrator nor the network with its data."""

from __future__ import annotations

from dataclasses import dataclass

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import BadInput, Refused
from dynamos.middleware.configs import AgentConfig
from dynamos.middleware.identity import grants, vouchers
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.identity.spent import SpentGrants
from dynamos.middleware.messages import StartPart
from dynamos.middleware.views import SharedView
from dynamos.model.agreements import Agreement
from dynamos.model.datasets import DataSet
from dynamos.model.decisions import ProviderDecision
from dynamos.model.jobs import Grant
from dynamos.model.requests import Request
from dynamos.planning import parts
from dynamos.planning.reviews import lenient, refusals
from dynamos.policy.engines import PolicyEngine


@dataclass(frozen=True, slots=True)
class Permit:
    """A grant that holds, and what the party's own agreement says (None: the party only computes).

    `edition` is that of the policy that said so.
    """

    grant: Grant
    request: Request
    decision: ProviderDecision | None
    edition: int = 0


@dataclass(slots=True)
class Policy:
    """What the party decides with: its agreement at a revision, and the data sets it has.

    `edition` counts the changes of what decisions rest on: as long as it stays, a decision stays.
    """

    agreement: Agreement
    revision: int
    data_sets: dict[str, DataSet]
    edition: int = 0

    def take(self, agreement: Agreement, revision: int) -> None:
        """Decide with this agreement from now on, unless a later one is known: answers may overtake each other."""
        if revision > self.revision:
            self.agreement, self.revision, self.edition = agreement, revision, self.edition + 1


class Gatekeeper:
    """Turns a StartPart into a Permit, or refuses it."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        engine: PolicyEngine,
        shared: SharedView,
        policy: Policy,
        requestors: Requestors,
        spent: SpentGrants,
        clock: Clock,
    ) -> None:
        self._config = config
        self._engine = engine
        self._shared = shared
        self._policy = policy
        self._requestors = requestors
        self._spent = spent
        self._clock = clock

    async def admit(self, message: StartPart) -> Permit:
        """Check grant, requestor, agreement and chain. Raises Unauthenticated, Refused or BadInput.

        The grant is spent last: a start that is refused for another reason may be repeated with the same grant.
        """
        party = self._config.name
        grant = grants.verify(message.grant, self._config.orchestrator, party=party, clock=self._clock)
        request = message.request
        if request.digest() != grant.request:
            raise Refused("the request is not the one that was granted", code="grant-for-another")
        self._requestors.check(request.user.user_name, message.voucher, vouchers.to_run(grant.job, request))
        edition = self._policy.edition
        decision = self._decide(request) if party in grant.compute else None
        self._check_chain(grant, request, decision)
        await self._spent.spend(grant.id, grant.expires)
        return Permit(grant, request, decision, edition)

    def review(self, permit: Permit) -> None:
        """Check what runs against the agreement as it is now. Raises Refused where it would not run so any more.

        An agreement that permits more, or forces less, than when the part began has forbidden nothing.
        """
        if permit.edition == self._policy.edition:
            return
        grant, before, party = permit.grant, permit.decision, self._config.name
        if before is None:
            parts.check_compute(grant.part, self._shared.services)
            return
        now = self._say(permit.request)
        again = lambda query: self._say(permit.request.model_copy(update={"query": query}))  # noqa: E731
        reasons = refusals(before, now, grant.archetypes[party], grant.compute[party], again)
        if reasons:
            raise self._refused([reason.as_json() for reason in reasons])
        self._check_chain(grant, permit.request, lenient(before, now))

    def _decide(self, request: Request) -> ProviderDecision:
        own = self._say(request)
        if not own.permitted:
            raise self._refused([reason.as_json() for reason in own.reasons])
        return own

    def _refused(self, reasons: list[dict[str, object]]) -> Refused:
        party, revision = self._config.name, self._policy.revision
        return Refused(f"{party} does not permit this request", where=party, reasons=reasons, revision=revision)

    def _say(self, request: Request) -> ProviderDecision:
        party = self._config.name
        decision = self._engine.decide(
            request.model_copy(update={"providers": (party,)}),
            {party: self._policy.agreement},
            {party: self._policy.data_sets},
            request_types=self._shared.request_types,
            services=self._shared.services,
            archetypes=self._shared.archetypes,
            now=self._clock.now(),
            revision=str(self._policy.revision),
        )
        return decision.providers[party]

    def _check_chain(self, grant: Grant, request: Request, decision: ProviderDecision | None) -> None:
        """Plan the own part again: what the orchestrator asks for must be just what the agreement permits."""
        party = self._config.name
        if grant.part.digest() != grant.chain:
            raise BadInput("the grant's chain digest is not its part's", where=party)
        if decision is None:
            parts.check_compute(grant.part, self._shared.services)
            return
        own = parts.own_part(
            request,
            decision,
            archetypes=grant.archetypes,
            compute=grant.compute,
            services=self._shared.services,
            request_types=self._shared.request_types,
            archetype_definitions=self._shared.archetypes,
            job=grant.job,
            party=party,
        )
        if own.digest() != grant.chain:
            raise Refused(
                f"the granted chain is not what {party}'s agreement gives",
                where=party,
                code="other-chain",
                hint="archetypes, services or request types changed meanwhile; submit the request again",
                revision=self._policy.revision,
            )
