"""Checks again, behind the API, who asked for what: no unit takes the orchestrator's word for it."""

from __future__ import annotations

import logging
from pathlib import Path

from dynamos.kit.clocks import Clock
from dynamos.kit.errors import DynamosError, Refused
from dynamos.middleware.identity import vouchers

log = logging.getLogger(__name__)


class Requestors:
    """Believes the API's vouchers. In open mode, who comes without one is who he says he is, and an admin."""

    def __init__(self, api_certificate: Path, *, open: bool, clock: Clock) -> None:  # noqa: A002
        self._api = api_certificate
        self._open = open
        self._clock = clock

    def check(self, user: str, voucher: str, purpose: str) -> None:
        """Raise Unauthenticated or Refused (other-user) unless this user asked for just this."""
        if self._open and not voucher:
            return
        known = vouchers.verify(voucher, self._api, purpose=purpose, clock=self._clock)
        if known.user != user:
            raise Refused(f"the voucher is {known.user!r}'s, the request is {user!r}'s", code="other-user")

    def administers(self, name: str, voucher: str, purpose: str) -> str | None:
        """Give the user's name if it asked for just this and may change what belongs to `name`; "" in open mode."""
        if self._open and not voucher:
            return ""
        try:
            known = vouchers.verify(voucher, self._api, purpose=purpose, clock=self._clock)
        except DynamosError as error:
            log.warning("admin.refused name=%s error=%s", name, error)
            return None
        return known.user if name in known.admin_of else None
