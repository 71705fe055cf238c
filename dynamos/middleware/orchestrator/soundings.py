"""Names links that failed a job: where its parts lost each other, the sites tell which link carries nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from dynamos.kit.errors import DynamosError
from dynamos.knowledge.buses import Bus
from dynamos.middleware.configs import MeetingsConfig
from dynamos.middleware.network.messages import Sound, Sounding
from dynamos.model.jobs import PartReport, State
from dynamos.model.plans import Plan

log = logging.getLogger(__name__)

SYMPTOMS = ("lost", "peer-away", "stream-broke", "site-away", "deadline", "carrier-lost")
"""Codes of errors that a network may have caused."""
SOUND_SECONDS = 6.0
_HINTS = {
    "cut": "routers say that there is no way; mend the link, as by `dynamos link heal`, and ask again",
    "silent": "every packet is lost and nobody is told; mend the link, as by `dynamos link heal`, and ask again",
}


class Soundings:
    """Asks the sites of a job which links between them carry nothing. `meetings` says where the parties are."""

    def __init__(self, bus: Bus, meetings: MeetingsConfig) -> None:
        self._bus = bus
        self._sites = meetings.sites
        self._control = meetings.control

    async def explain(self, plan: Plan, reports: Sequence[PartReport]) -> list[PartReport]:
        """Give the reports; those of parts that a link has failed name it. Takes some seconds where one may have."""
        if not any(_suspicious(each) for each in reports):
            return list(reports)
        found = await self._sound(plan)
        if found is None:
            return list(reports)
        return [
            each.model_copy(update={"error": blamed(each.error or {}, found)}) if _suspicious(each) else each
            for each in reports
        ]

    async def explain_error(self, plan: Plan, error: DynamosError) -> DynamosError:
        """Give the error; it names the link that has failed, if one has."""
        if error.detail_code not in SYMPTOMS or (found := await self._sound(plan)) is None:
            return error
        told = blamed({"message": error.message}, found)
        return type(error)(told["message"], where=error.where, hint=told["hint"], code=told["code"], **_facts(found))

    async def _sound(self, plan: Plan) -> Sounding | None:
        """Give the first thing that some site finds; that a link is cut before that one is silent."""
        told = await asyncio.gather(*(self._ask(here, there) for here, there in self._pairs(plan)))
        found = [each for each in told if each is not None and each.text]
        found.sort(key=lambda each: ("cut", "silent", "").index(each.state))
        return next(iter(found), None)

    def _pairs(self, plan: Plan) -> list[tuple[str, str]]:
        """Give the ways that a job has needed: from site to site as rows go, and from the control site to each."""
        at = self._sites
        ways = [(at[e.source_party], at[e.target_party]) for e in plan.edges if e.target_party in plan.parties]
        if self._control:
            ways += [(self._control, at[party]) for party in plan.parties]
        return list(dict.fromkeys((here, there) for here, there in ways if here != there))

    async def _ask(self, here: str, there: str) -> Sounding | None:
        try:
            told = await self._bus.request(f"network.{here}.sound", Sound(to=there).as_json(), within=SOUND_SECONDS)
            return Sounding.model_validate(told)
        except (DynamosError, ValidationError) as error:
            log.info("sounding.unheard from=%s to=%s error=%s", here, there, error)
            return None


def blamed(error: Mapping[str, Any], found: Sounding) -> dict[str, Any]:
    """Give an error's facts with what was found in front of what it says."""
    code = f"link-{found.state}" if found.link else "site-away"
    hint = _HINTS.get(found.state, "nothing at that site answers")
    message = f"{found.text}: {error.get('message', '')}".removesuffix(": ")
    return {**error, "message": message, "code": code, "hint": hint, **_facts(found)}


def _facts(found: Sounding) -> dict[str, str]:
    return {"link": found.link} if found.link else {"site": found.site}


def _suspicious(report: PartReport) -> bool:
    return report.state != State.SUCCEEDED and (report.error or {}).get("code") in SYMPTOMS
