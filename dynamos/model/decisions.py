"""Decisions: the answer of policy to a request."""

from __future__ import annotations

from pydantic import Field

from dynamos.model.values import Name, Value


class Reason(Value):
    """Why a party refuses: the clause that applies, the fact that clashes with it, and the smallest change that
    permits.

    `clause` is a path in the agreement, e.g. "relations['ann@x.org'].dataSets"; `fact` is what the request has, e.g.
    "table 'flights', column 'tailnum'"; `position` is (line, column) in the query where the fact is in it.
    `code` is one of: unknown-party, no-relation, expired, request-type, data-set, table, column, derived-column,
    algorithm, archetype, compute-provider, duty, sql, option.
    """

    party: Name
    code: str
    clause: str
    fact: str
    message: str
    remedy: str = ""
    position: tuple[int, int] | None = None


class Use(Value):
    """What the query uses at one party: one table's columns, in the letter case of the data set."""

    data_set: Name
    table: str
    columns: tuple[str, ...]


class Output(Value):
    """One column of the query's result, and the (table, column) pairs that it comes from; `plain` if it is just
    that."""

    name: str
    sources: tuple[tuple[str, str], ...] = ()
    plain: bool = False


class ProviderDecision(Value):
    """What one party says: permitted with these limits, or refused for these reasons.

    `query` is what may run: the request's query with stars written out, columns qualified and result columns named, so
    that it uses exactly `uses` and gives exactly `outputs`. A party runs this text, never the request's.
    """

    party: Name
    permitted: bool
    archetypes: tuple[Name, ...] = ()
    compute_providers: tuple[Name, ...] = ()
    duties: tuple[Name, ...] = ()
    uses: tuple[Use, ...] = ()
    outputs: tuple[Output, ...] = ()
    query: str = ""
    reasons: tuple[Reason, ...] = ()


class Decision(Value):
    """The answer to one request, per provider, with the policy revision that it used."""

    user: str
    request_type: str
    revision: str
    providers: dict[Name, ProviderDecision] = Field(default_factory=dict)

    @property
    def permitted(self) -> tuple[Name, ...]:
        """The parties that permit the request, in the order of the request."""
        return tuple(name for name, answer in self.providers.items() if answer.permitted)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Every reason of every refusal."""
        return tuple(reason for answer in self.providers.values() for reason in answer.reasons)
