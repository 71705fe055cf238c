"""Reads and writes what the marketplace shares, and hands changes of agreements to the parties that own them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from dynamos.kit.errors import BadInput, Conflict, Mistake, Mistakes, NotFound, Refused, TimedOut
from dynamos.kit.words import suggest
from dynamos.knowledge.bases import SHARED, KnowledgeBase
from dynamos.middleware.configs import OrchestratorConfig
from dynamos.middleware.identity import vouchers
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.messages import Change, Changed, Look, Seen
from dynamos.middleware.orchestrator.overviews import Overview
from dynamos.middleware.views import ARCHETYPES, REQUEST_TYPES, SERVICES
from dynamos.model.archetypes import Archetype
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service
from dynamos.model.values import Value
from dynamos.planning import chains

MODELS: dict[str, type[Value]] = {ARCHETYPES: Archetype, REQUEST_TYPES: RequestType, SERVICES: Service}
log = logging.getLogger(__name__)
AGREEMENT_SECONDS = 10.0
SEEN_SECONDS = 2.0
"""How long a change that is written may be on its way back here."""


class Curator:
    """The knowledge base as the API sees it. Only admins of the marketplace write what is shared."""

    def __init__(
        self,
        config: OrchestratorConfig,
        *,
        kb: KnowledgeBase,
        overview: Overview,
        requestors: Requestors,
        enforce: Callable[..., Awaitable[None]] | None = None,
    ) -> None:
        self._config = config
        self._enforce = enforce
        self._kb = kb
        self._overview = overview
        self._requestors = requestors

    async def seed(self) -> None:
        """Put the configured archetypes, request types and services where there are none of that name yet."""
        store = self._kb.store(SHARED)
        there = {entry.key for entry in await store.entries()}
        for kind, values in self._configured().items():
            for name, value in values.items():
                if f"{kind}.{name}" not in there:
                    with suppress(Conflict):  # another orchestrator puts them too
                        await store.put(f"{kind}.{name}", value.as_json(), revision=0)

    async def look(self, message: Look) -> Seen:
        """Give the values of a kind, or one of them. Raises NotFound with near names."""
        items = await self._items(message.kind)
        if message.name:
            if message.name not in items:
                hint = suggest(message.name, items)
                raise NotFound(f"there is no {message.name!r} among {message.kind}", hint=hint)
            items = {message.name: items[message.name]}
        ordered = [items[name] for name in sorted(items)]
        return Seen(items=tuple(value for value, _ in ordered), revisions=tuple(number for _, number in ordered))

    async def change(self, message: Change) -> Changed:
        """Write one value. An agreement is written by its party. Raises Refused, Mistakes, Conflict, NotFound."""
        if message.kind == "policyEnforcer":
            if message.name not in self._config.parties:
                raise NotFound(f"there is no party {message.name!r}", hint=suggest(message.name, self._config.parties))
            subject = f"agent.{message.name}.agreement"
            answer = await self._kb.bus.request(subject, message.as_json(), within=AGREEMENT_SECONDS)
            changed = Changed.model_validate(answer)
            await self._in_force(
                self._overview.reach(message.name, changed.revision, within=SEEN_SECONDS), message.name
            )
            return changed
        if message.kind not in MODELS:
            raise BadInput(f"{message.kind} come from the parties' data and cannot be written", where="$.kind")
        purpose = vouchers.to_change(message.kind, message.name, message.value, message.revision)
        if self._requestors.administers(self._config.marketplace, message.voucher, purpose) is None:
            raise Refused("only an admin of the marketplace may change what it shares")
        changed = await self._write(message)
        seen = self._overview.reach_shared(message.kind, message.name, changed.revision, within=SEEN_SECONDS)
        await self._in_force(seen)
        return changed

    async def _in_force(self, seen: Awaitable[None], *parties: str) -> None:
        """Have a change hold here before it is answered: for the next request, and for jobs that run."""
        try:
            await seen
        except TimedOut as error:
            log.warning("change.late error=%s", error)
        if self._enforce is not None:
            await self._enforce(*parties)

    async def _write(self, message: Change) -> Changed:
        store = self._kb.store(SHARED)
        key = f"{message.kind}.{message.name}"
        value = _validated(MODELS[message.kind], message)
        self._check_chains(message.kind, message.name, value)
        if value is None:
            await store.delete(key, revision=message.revision)
            return Changed(revision=0)
        return Changed(revision=await store.put(key, value.as_json(), revision=message.revision))

    def _check_chains(self, kind: str, name: str, value: Value | None) -> None:
        """Refuse a change after which a request type could not be planned any more."""
        shared = self._overview.shared
        kinds: dict[str, dict[str, Any]] = {
            SERVICES: dict(shared.services),
            REQUEST_TYPES: dict(shared.request_types),
            ARCHETYPES: dict(shared.archetypes),
        }
        before = self._mistakes(kinds)
        if value is None:
            kinds[kind].pop(name, None)
        else:
            kinds[kind][name] = value
        new = [mistake for mistake in self._mistakes(kinds) if mistake not in before]
        if new:
            raise Mistakes(new, subject=f"{kind} with {name!r} as given")

    @staticmethod
    def _mistakes(kinds: dict[str, dict[str, Any]]) -> list[Mistake]:
        return chains.mistakes(kinds[SERVICES], kinds[REQUEST_TYPES], kinds[ARCHETYPES])

    async def _items(self, kind: str) -> dict[str, tuple[dict[str, Any], int]]:
        if kind in MODELS:
            entries = await self._kb.store(SHARED).entries(kind)
            return {entry.key.split(".", 1)[1]: (entry.value or {}, entry.revision) for entry in entries}
        overview = self._overview
        if kind == "policyEnforcer":
            revisions = overview.revisions
            return {party: (value.as_json(), revisions[party]) for party, value in overview.agreements.items()}
        if kind == "datasets":
            return {
                f"{party}.{name}": ({"party": party, **data_set.as_json()}, 0)
                for party, held in overview.catalogue.items()
                for name, data_set in held.items()
            }
        online = overview.online()
        return {
            party: ({"name": party, "online": party in online, "instances": len(online.get(party, ()))}, 0)
            for party in overview.parties
        }

    def _configured(self) -> dict[str, dict[str, Any]]:
        return {
            ARCHETYPES: dict(self._config.archetypes),
            REQUEST_TYPES: dict(self._config.request_types),
            SERVICES: dict(self._config.services),
        }


def _validated(model: type[Value], message: Change) -> Value | None:
    if message.value is None:
        return None
    try:
        value = model.model_validate(message.value)
    except ValidationError as error:
        mistakes = [Mistake("$." + ".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()]
        raise Mistakes(mistakes, subject=f"{message.kind}/{message.name}") from None
    if getattr(value, "name", None) != message.name:
        raise BadInput("the name in the body is not the name in the path", where="$.name", hint=f"use {message.name!r}")
    return value
