"""Who may say, hear, read and write what: the one table, from which both knowledge bases take their refusals.

Everything that is not in the table is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dynamos.kit.credentials import dns_name
from dynamos.kit.errors import BadInput, NotFound
from dynamos.knowledge.bases import ADAPTATION, JOBS, PRESENCE, SHARED, bucket_of
from dynamos.knowledge.subjects import covers, token

ORCHESTRATOR = "orchestrator"
API = "api"
ADMIN = "admin"
"""Makes buckets and logs at provisioning, and does nothing else; its certificate is not needed afterwards."""
BUS = "bus"
"""The server itself: units accept as server only a certificate with this DNS name, so no party can pose as it."""
RESERVED = frozenset({ORCHESTRATOR, API, ADMIN, BUS, "authority", "localhost"})


@dataclass(frozen=True, slots=True)
class Rights:
    """What one unit may do.

    `asks` and `answers` are subjects with one side that answers; `tells` and `hears` are subjects of events. `reads`
    are buckets, `writes` are `<bucket>.<key pattern>`, `appends` are `<log>.<subject pattern>`, `inspects` are logs.
    """

    asks: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    tells: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    appends: tuple[str, ...] = ()
    inspects: tuple[str, ...] = ()

    def may_publish(self, subject: str) -> bool:
        return any(covers(right, subject) for right in (*self.asks, *self.tells))

    def may_listen(self, subject: str) -> bool:
        return any(covers(right, subject) for right in (*self.answers, *self.hears))

    def may_read(self, bucket: str) -> bool:
        return bucket in self.reads

    def may_write(self, bucket: str, key: str) -> bool:
        return any(covers(right, f"{bucket}.{key}") for right in self.writes)

    def may_append(self, log: str, subject: str) -> bool:
        return any(covers(right, f"{log}.{subject}") for right in self.appends)

    def may_inspect(self, log: str) -> bool:
        return log in self.inspects


def rights(parties: Iterable[str], sites: Iterable[str] = ()) -> dict[str, Rights]:
    """Give the rights of every unit: the orchestrator, the API, the parties, and the network helpers of sites.

    Raises BadInput for a party whose name is not one token, or is another unit's in any letter case.
    """
    places = sorted(sites)
    names = checked(parties, places)
    return {
        ORCHESTRATOR: _orchestrator(names, places),
        API: _api(),
        **{name: _party(name) for name in names},
        **{helper_of(site): _helper(site) for site in places},
    }


def helper_of(site: str) -> str:
    """Give the name of a site's network helper. Raises BadInput for a site whose name is not one token."""
    return token(f"network-{site}")


def rights_of(unit: str, parties: Iterable[str]) -> Rights:
    """Give the rights of one unit. Raises NotFound for a unit that is not in the marketplace."""
    table = rights(parties)
    if unit not in table:
        raise NotFound(f"there is no unit {unit!r}", where="knowledge")
    return table[unit]


def checked(parties: Iterable[str], sites: Iterable[str] = ()) -> tuple[str, ...]:
    """Give the names of the parties, sorted, or raise BadInput for the first one that cannot be a party's.

    It is none of a unit's: the control plane's own, and the network helpers of `sites`.
    """
    names = sorted(parties)
    seen: set[str] = {*RESERVED, *(dns_name(helper_of(site)) for site in sites)}
    for name in names:
        label = dns_name(token(name))
        if label in seen:
            raise BadInput(
                f"the name {name!r} is taken",
                code="name-taken",
                hint=f"names differ in more than letter case and '_', and are none of {', '.join(sorted(RESERVED))}",
            )
        seen.add(label)
    return tuple(names)


def _party(name: str) -> Rights:
    return Rights(
        asks=(f"report.{name}",),
        answers=(f"agent.{name}.>",),
        reads=(bucket_of(name), SHARED, PRESENCE),
        writes=(f"{bucket_of(name)}.>", f"{PRESENCE}.{name}.>"),
        appends=_own(name),
    )


def _orchestrator(parties: tuple[str, ...], sites: Sequence[str]) -> Rights:
    return Rights(
        asks=("agent.*.>", f"{ORCHESTRATOR}.life.>", *(f"network.{site}.>" for site in sites)),
        answers=(f"{ORCHESTRATOR}.>", "report.*"),
        tells=("job.>",),
        reads=(SHARED, JOBS, PRESENCE, ADAPTATION, *(bucket_of(name) for name in parties)),
        writes=(f"{SHARED}.>", f"{JOBS}.>", f"{ADAPTATION}.>", f"{PRESENCE}.{ORCHESTRATOR}.>"),
        appends=(*_own(ORCHESTRATOR), f"{ADAPTATION}.{ORCHESTRATOR}.>"),
        inspects=("audit", ADAPTATION),
    )


def _api() -> Rights:
    return Rights(
        asks=(f"{ORCHESTRATOR}.>",),
        hears=("job.>",),
        reads=(SHARED, JOBS, PRESENCE),
        writes=(f"{PRESENCE}.{API}.>",),
        appends=_own(API),
        inspects=("traces", ADAPTATION),
    )


def _helper(site: str) -> Rights:
    """A helper may do nothing but answer the orchestrator, and write down what it did."""
    return Rights(answers=(f"network.{site}.>",), appends=_own(helper_of(site)))


def _own(unit: str) -> tuple[str, ...]:
    return tuple(f"{log}.{unit}{rest}" for log in ("audit", "traces") for rest in ("", ".>"))
