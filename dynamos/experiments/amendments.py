"""Amendments: agreements that change while a trial runs, and are what they were afterwards, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from dynamos.deploy import marketplaces, places
from dynamos.experiments.runs import write_whole
from dynamos.kit.errors import BadInput, NotFound
from dynamos.kit.words import suggest
from dynamos.middleware.clients import BASE, Api
from dynamos.model.profiles import Profile
from dynamos.model.units import Duration

Agreement: TypeAlias = dict[str, Any]
"""What a party allows, as the API tells it."""
Edit: TypeAlias = Callable[[Agreement], Agreement]


@dataclass(frozen=True, slots=True)
class Amendment:
    """A party's agreement changes at a moment after the experiment says so: `edit` makes the new one of the old one."""

    at: str
    party: str
    edit: Edit
    words: str = "another agreement"

    @property
    def moment(self) -> float:
        """Its moment in seconds. Raises BadInput."""
        try:
            return float(Duration.parse(self.at))
        except ValueError as error:
            raise BadInput(f"an amendment at {self.at!r}: {error}", hint="a duration such as 500ms") from None


def without_user(user: str) -> Edit:
    """Give what ends a user's relation to a party."""

    def edit(agreement: Agreement) -> Agreement:
        relations = {name: each for name, each in agreement.get("relations", {}).items() if name != user}
        return {**agreement, "relations": relations}

    return edit


class Agreements:
    """The agreements of a marketplace that a trial changes. A file in `journals` keeps what they were until they are
    that again: whoever comes after a process that was killed can restore them."""

    def __init__(self, api: Callable[[str], Api], journals: Path) -> None:
        self._api = api
        """Gives a client for the party whose agreement it is: only its admins may change that."""
        self._journal = journals / "agreements.json"

    def amend(self, party: str, edit: Edit) -> None:
        """Change the agreement of a party. Raises what the API says."""
        with self._api(party) as api:
            answer = api.call("GET", _path(party))
            before = self._kept()
            if party not in before:
                write_whole(self._journal, json.dumps({**before, party: answer.json()}).encode())
            only_if = {"if-match": answer.headers["etag"]} if "etag" in answer.headers else {}
            api.call("PUT", _path(party), body=edit(answer.json()), headers=only_if)

    def restore(self) -> None:
        """Have every agreement be what it was before it was changed. Does nothing where none was."""
        for party, agreement in self._kept().items():
            with self._api(party) as api:
                api.call("PUT", _path(party), body=agreement)
        self._journal.unlink(missing_ok=True)

    def _kept(self) -> Mapping[str, Agreement]:
        try:
            kept: Mapping[str, Agreement] = json.loads(self._journal.read_bytes())
        except FileNotFoundError:
            return {}
        return kept


def admin_of(profile: Profile, party: str) -> str:
    """Give who may change what a party allows. Raises NotFound and BadInput."""
    found = marketplaces.load(places.marketplace_folder(profile.marketplace))
    if party not in found.parties:
        raise NotFound(f"there is no party {party!r}", hint=suggest(party, found.parties))
    admins = (*profile.admins.get(party, ()), *found.parties[party].admins)
    if not admins:
        hint = "name one in the marketplace, or under `admins` of the profile"
        raise BadInput(f"nobody may change the agreement of {party!r}", hint=hint)
    return admins[0]


def _path(party: str) -> str:
    return f"{BASE}/policyEnforcer/agreements/{quote(party, safe='')}"
