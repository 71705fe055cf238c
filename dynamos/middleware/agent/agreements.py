"""The party's agreement: seeded from its file, changed by its admins, kept in its own bucket."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from dynamos.kit.errors import BadInput, Mistake, Mistakes, Refused
from dynamos.knowledge.stores import Store
from dynamos.middleware.messages import Change, Changed
from dynamos.model.agreements import Agreement

log = logging.getLogger(__name__)
AGREEMENT, SEED = "agreement", "seed"


async def seed(store: Store, agreement: Agreement) -> tuple[Agreement, int]:
    """Put the file's agreement into the bucket if the file has changed since it was last put there.

    What an admin changed through the API stays until somebody edits the file.
    """
    current = await store.get(AGREEMENT)
    last = await store.get(SEED)
    digest = agreement.digest()
    if current is None or current.value is None or last is None or (last.value or {}).get("digest") != digest:
        revision = await store.put(AGREEMENT, agreement.as_json())
        await store.put(SEED, {"digest": digest})
        return agreement, revision
    return Agreement.model_validate(current.value), current.revision


async def change(message: Change, store: Store, party: str, *, is_admin: bool) -> tuple[Agreement, Changed]:
    """Write the party's agreement for one of its admins. Raises Refused, Mistakes, or Conflict."""
    if not is_admin:
        raise Refused(f"only an admin of {party} may change its agreement", where=party)
    agreement = Agreement(name=party) if message.value is None else _read(message.value)
    if agreement.name != party:
        raise BadInput(
            f"this is the agreement of {agreement.name!r}", where="$.name", hint=f"its name must be {party!r}"
        )
    revision = await store.put(AGREEMENT, agreement.as_json(), revision=message.revision)
    log.info("agreement.changed party=%s revision=%d", party, revision)
    return agreement, Changed(revision=revision)


def _read(value: dict[str, object]) -> Agreement:
    try:
        return Agreement.model_validate(value)
    except ValidationError as error:
        mistakes = [Mistake("$." + ".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
        raise Mistakes(mistakes, subject="the agreement") from None
