"""What another agreement would do: to jobs that run, and to requests in the audit stream. For its party's admins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import ValidationError

from dynamos.kit.errors import BadInput, Mistake, Mistakes, NotFound, Refused
from dynamos.kit.words import suggest
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.middleware.identity import vouchers
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.messages import Rehearse, Rehearsed
from dynamos.middleware.orchestrator.deliberations import Deliberation
from dynamos.model.agreements import Agreement
from dynamos.model.decisions import ProviderDecision
from dynamos.model.jobs import Job
from dynamos.model.requests import Request
from dynamos.planning import rehearsals
from dynamos.planning.rehearsals import Past, Running

READ_AT_MOST = 20_000


class Rehearser:
    """Rehearses a change of a party's agreement. Tells of the party's own requests only, and of no query."""

    def __init__(
        self,
        kb: KnowledgeBase,
        thought: Deliberation,
        requestors: Requestors,
        jobs: Callable[[], Iterable[Job]],
        parties: Iterable[str],
    ) -> None:
        self._kb = kb
        self._thought = thought
        self._requestors = requestors
        self._jobs = jobs
        self._parties = tuple(parties)

    async def rehearse(self, message: Rehearse) -> Rehearsed:
        """Give what would become of what. Raises NotFound, Refused for who is no admin of the party, Mistakes."""
        party = message.party
        if party not in self._parties:
            raise NotFound(f"there is no party {party!r}", hint=suggest(party, self._parties))
        purpose = vouchers.to_rehearse(party, message.value, message.past)
        if self._requestors.administers(party, message.voucher, purpose) is None:
            raise Refused(f"only an admin of {party} may see what a change of its agreement would do", where=party)
        agreement = _read(message.value, party)
        running = [
            Running(job=job.id, request=job.request, decision=job.decision, plan=job.plan)
            for job in self._jobs()
            if job.plan is not None
        ]
        records = await self._records(message.past) if message.past else []
        past = list(_past(records, party))
        outlook = self._thought.outlook()
        return Rehearsed(
            running=tuple(rehearsals.of_running(running, agreement, outlook)),
            past=tuple(rehearsals.of_past((each for each in past if each is not None), agreement, outlook)),
            untold=sum(each is None for each in past),
        )

    async def _records(self, limit: int) -> list[dict[str, Any]]:
        """Read the newest decisions over requests; there are other records between them."""
        found = await self._kb.log("audit").read("orchestrator.>", limit=min(2 * limit, READ_AT_MOST))
        return [record for record in found if str(record.get("event", "")).startswith("request.")][-limit:]


def _past(records: Iterable[dict[str, Any]], party: str) -> Iterator[Past | None]:
    """Give the requests to a party; None for each of which only the digest was kept."""
    for record in records:
        said = (record.get("decision") or {}).get("providers", {}).get(party)
        if said is None:
            continue
        try:
            request = Request.model_validate(record["asked"])
            yield Past(job=str(record["job"]), request=request, said=ProviderDecision.model_validate(said))
        except (KeyError, ValidationError):
            yield None


def _read(value: dict[str, Any], party: str) -> Agreement:
    try:
        agreement = Agreement.model_validate(value)
    except ValidationError as error:
        mistakes = [Mistake("$." + ".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
        raise Mistakes(mistakes, subject="the agreement") from None
    if agreement.name != party:
        raise BadInput(f"this is the agreement of {agreement.name!r}", where="$.name", hint=f"it must be {party!r}")
    return agreement
