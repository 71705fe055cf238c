"""Every error that a person can meet, as one tree.

    DynamosError                 code            HTTP  exit
    ├─ BadInput                  bad-input        400     2   the request or a file is wrong (Mistakes: many at once)
    ├─ Unauthenticated           unauthenticated  401     3   no, expired or forged token
    ├─ Refused                   refused          403     4   policy says no
    ├─ NotFound                  not-found        404     5   no such job, party, agreement
    ├─ Conflict                  conflict         409     6   exists already, or another revision won
    ├─ JobFailed                 job-failed       502     7   a service or a party failed at its work
    ├─ Unavailable               unavailable      503     8   a part of the system is away or busy; try again
    ├─ TimedOut                  timed-out        504     9   a bound was reached
    ├─ Full                      full             507    10   no room to keep something
    ├─ Cancelled                 cancelled        499    11   somebody asked to stop
    └─ Broken                    broken           500    70   a defect of ours

An error says what is wrong, `where` (file:line, JSON path, party, step) and a `hint` that tells what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


class DynamosError(Exception):
    """What is wrong, where, and what to do about it."""

    code: ClassVar[str] = "broken"
    status: ClassVar[int] = 500
    exit: ClassVar[int] = 70

    def __init__(self, message: str, *, where: str = "", hint: str = "", code: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.detail_code = code
        self.facts = facts

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def as_dict(self) -> dict[str, Any]:
        """Give the error as JSON-ready members, empty ones left out."""
        members = {
            "code": self.detail_code or self.code,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
            **self.facts,
        }
        return {name: value for name, value in members.items() if value not in ("", None, [], {})}


class BadInput(DynamosError):
    """The request or a file is wrong."""

    code, status, exit = "bad-input", 400, 2


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a file or a request: where (file:line or $.path), what, and what to do."""

    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class Mistakes(BadInput):
    """All mistakes of one input at once."""

    def __init__(self, mistakes: list[Mistake], *, subject: str = "input") -> None:
        count = len(mistakes)
        super().__init__(
            f"{subject} has {count} mistake{'s' if count != 1 else ''}",
            mistakes=[{"where": m.where, "message": m.message, "hint": m.hint} for m in mistakes],
        )
        self.mistakes = tuple(mistakes)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {mistake}" for mistake in self.mistakes)])


class Unauthenticated(DynamosError):
    """There is no token, or it is expired, forged, or not for us."""

    code, status, exit = "unauthenticated", 401, 3


class Refused(DynamosError):
    """Policy says no; `reasons` say which party, which clause and what would permit it."""

    code, status, exit = "refused", 403, 4


class NotFound(DynamosError, LookupError):
    """There is no such thing."""

    code, status, exit = "not-found", 404, 5


class Conflict(DynamosError):
    """It exists already, or somebody else changed it first."""

    code, status, exit = "conflict", 409, 6


class JobFailed(DynamosError):
    """A service or a party failed at its work."""

    code, status, exit = "job-failed", 502, 7


class Unavailable(DynamosError):
    """A part of the system is away or has no room now; the same call may work later."""

    code, status, exit = "unavailable", 503, 8


class TimedOut(DynamosError, TimeoutError):
    """A bounded wait reached its bound; the message names the condition and what was last seen."""

    code, status, exit = "timed-out", 504, 9


class Full(DynamosError):
    """There is no room to keep something: a disk, a spool, a quota."""

    code, status, exit = "full", 507, 10


class Cancelled(DynamosError):
    """Somebody asked for it to stop."""

    code, status, exit = "cancelled", 499, 11


class Broken(DynamosError):
    """A defect of ours; please report it with the log."""


def revive(members: Mapping[str, Any]) -> DynamosError:
    """Give back the error that `as_dict` or a problem document told of: of the class that `kind`, `code` or `status`
    names."""
    facts = dict(members)
    names = (facts.pop("kind", ""), code := str(facts.pop("code", "")))
    status = facts.pop("status", None)
    message = str(facts.pop("message", "") or facts.pop("detail", "") or "no reason was given")
    where, hint = str(facts.pop("where", "")), str(facts.pop("hint", ""))
    classes = {kind.code: kind for kind in DynamosError.__subclasses__()}
    of_status = {kind.status: kind for kind in DynamosError.__subclasses__()}
    found = next((classes[name] for name in names if name in classes), None) or of_status.get(status or 0, Broken)
    return found(message, where=where, hint=hint, code="" if code == found.code else code, **facts)
