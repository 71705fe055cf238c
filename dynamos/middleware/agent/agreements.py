"""The party's agreement: seeded from its file, changed by its admins, kept in its own bucket."""

from __future__ import annotations

import asyncio
import logging

from pydantic import ValidationError

from dynamos.kit.errors import BadInput, Conflict, Mistake, Mistakes, Refused
from dynamos.knowledge.bases import KnowledgeBase, bucket_of
from dynamos.middleware.messages import Change, Changed
from dynamos.middleware.views import agreements_of
from dynamos.model.agreements import Agreement

log = logging.getLogger(__name__)
SEED = "seed"
SEED_TRIES = 20
SEED_PAUSE = 0.1


async def seed(kb: KnowledgeBase, agreement: Agreement) -> tuple[Agreement, int]:
    """Put the file's agreement into the bucket if the file has changed since it was last put there.

    What an admin changed through the API stays until somebody edits the file.
    """
    for _ in range(SEED_TRIES):
        try:
            return await _seed(kb, agreement)
        except Conflict:  # another agent of the party did so at this moment, or an admin
            log.info("agreement.seeded-elsewhere party=%s", agreement.name)
            await asyncio.sleep(SEED_PAUSE)
    return await _seed(kb, agreement)


async def _seed(kb: KnowledgeBase, agreement: Agreement) -> tuple[Agreement, int]:
    shelf, store = agreements_of(kb, agreement.name), kb.store(bucket_of(agreement.name))
    current, last = await asyncio.gather(shelf.get(agreement.name), store.get(SEED))
    seeded = {"digest": agreement.digest()}
    if current is not None and current.value is not None and last is not None and last.value == seeded:
        return current.value, current.revision
    revision = await shelf.put(agreement.name, agreement, revision=current.revision if current else None)
    await store.put(SEED, seeded)
    return agreement, revision


async def change(message: Change, kb: KnowledgeBase, party: str, *, is_admin: bool) -> tuple[Agreement, Changed]:
    """Write the party's agreement for one of its admins. Raises Refused, Mistakes, or Conflict."""
    if not is_admin:
        raise Refused(f"only an admin of {party} may change its agreement", where=party)
    agreement = Agreement(name=party) if message.value is None else _read(message.value)
    if agreement.name != party:
        raise BadInput(
            f"this is the agreement of {agreement.name!r}", where="$.name", hint=f"its name must be {party!r}"
        )
    revision = await agreements_of(kb, party).put(party, agreement, revision=message.revision)
    log.info("agreement.changed party=%s revision=%d", party, revision)
    return agreement, Changed(revision=revision)


def _read(value: dict[str, object]) -> Agreement:
    try:
        return Agreement.model_validate(value)
    except ValidationError as error:
        mistakes = [Mistake("$." + ".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
        raise Mistakes(mistakes, subject="the agreement") from None
