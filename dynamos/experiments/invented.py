"""Invented marketplaces: any number of parties, users and tables, where what each agreement permits is known."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from dynamos.model.agreements import Agreement, Relation
from dynamos.model.archetypes import Archetype
from dynamos.model.datasets import DataSet
from dynamos.model.decisions import Decision
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request, User
from dynamos.policy.builtin import BuiltIn
from dynamos.policy.engines import PolicyEngine
from dynamos.services import catalogue

ENGINES: Final[dict[str, PolicyEngine]] = {BuiltIn.name: BuiltIn()}
"""The policy engines that there are, by name."""

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TYPE, _DATA, _AT_DATA, _APART, _THIRD = "question", "store", "computeToData", "dataThroughTtp", "third"
_COLUMNS = 40
_CHAIN = ("sql-query", "sql-algorithm")


@dataclass(frozen=True)
class Case:
    """A request, and the parties that permit it."""

    request: Request
    permit: frozenset[str]


@dataclass
class Invented:
    """A marketplace of `parties`, each with `relations` users, and a query over so many `tables` and `columns`.

    Every relation is of a kind drawn by `seed`: it permits the query, or one thing in it does not: the request's type,
    the data set, one column, the algorithm, the time.
    """

    parties: int
    relations: int
    tables: int
    columns: int
    seed: int = 0
    agreements: dict[str, Agreement] = field(init=False)

    def __post_init__(self) -> None:
        dice = random.Random(self.seed)  # noqa: S311  a drawing, not a secret
        self.names = [f"party{number}" for number in range(self.parties)]
        self.users = [f"user{number}@example.org" for number in range(self.relations)]
        used = self._used()
        self._kinds = _kinds(used)
        self._drawn = {name: dict(zip(self.users, self._draw(dice), strict=True)) for name in self.names}
        self.agreements = {name: self._agreement(name) for name in self.names}
        table = {"columns": {"id": "BIGINT", **{f"c{number}": "BIGINT" for number in range(_COLUMNS)}}}
        store = DataSet.model_validate(
            {"name": _DATA, "tables": {f"t{number}": table for number in range(self.tables)}}
        )
        self._catalogue = {name: {_DATA: store} for name in self.names}
        self._types = {_TYPE: RequestType(name=_TYPE, required_services=_CHAIN)}
        self._services = {name: catalogue.manifest(name) for name in _CHAIN}
        self._archetypes = {
            _AT_DATA: Archetype(name=_AT_DATA, compute_provider="dataProvider", weight=100),
            _APART: Archetype(name=_APART, compute_provider="other", weight=200),
        }
        self.query = self._query(used)

    def cases(self, many: int) -> Iterator[Case]:
        """Give requests of users drawn at random, each to every party."""
        dice = random.Random(self.seed + 1)  # noqa: S311
        for user in dice.choices(self.users, k=many):
            request = Request(
                type=_TYPE, user=User(user_name=user), providers=tuple(self.names), query=self.query, algorithm="count"
            )
            yield Case(request, frozenset(name for name in self.names if not self._drawn[name][user]))

    def decide(self, engine: PolicyEngine, request: Request) -> Decision:
        """Have an engine decide over a request."""
        return engine.decide(
            request, self.agreements, self._catalogue, request_types=self._types, services=self._services,
            archetypes=self._archetypes, now=_NOW, revision="1",
        )  # fmt: skip

    def unseen(self, request: Request) -> Request:
        """Give the request with a query that means the same and that nobody has asked before."""
        return request.model_copy(update={"query": f"{self.query} -- {secrets.token_hex(8)}"})

    def right(self, case: Case, decision: Decision) -> bool:
        """Tell whether the decision is what the agreements were made to say, with the reason of each refusal."""
        if frozenset(decision.permitted) != case.permit:
            return False
        user = case.request.user.user_name
        codes = {reason.party: reason.code for reason in decision.reasons}
        return all(codes.get(name, "") == self._drawn[name][user] for name in self.names)

    def _draw(self, dice: random.Random) -> Sequence[str]:
        """Give the reason for which each user is refused; nothing for half of them."""
        refused = [code for code in self._kinds if code]
        return [dice.choice(refused) if dice.random() < 0.5 else "" for _ in self.users]  # noqa: PLR2004  half

    def _agreement(self, name: str) -> Agreement:
        relations = {user: self._kinds[code].model_copy() for user, code in self._drawn[name].items()}
        return Agreement(name=name, relations=relations, compute_providers=(_THIRD,), archetypes=(_AT_DATA, _APART))

    def _used(self) -> dict[str, tuple[str, ...]]:
        """Give the columns that the query uses of each table: spread over the tables, and the one that joins them."""
        spread = {
            f"t{table}": [f"c{n}" for n in range(table, self.columns, self.tables)] for table in range(self.tables)
        }
        joins = ["id"] if self.tables > 1 else []
        return {table: tuple(joins + columns) for table, columns in spread.items()}

    def _query(self, used: Mapping[str, Sequence[str]]) -> str:
        wanted = ", ".join(f"{t}.{column} AS {t}_{column}" for t, columns in used.items() for column in columns)
        first, *others = used
        joins = "".join(f" JOIN {table} ON {table}.id = {first}.id" for table in others)
        return f"SELECT {wanted} FROM {first}{joins}"  # noqa: S608  names of ours


def _kinds(used: Mapping[str, tuple[str, ...]]) -> dict[str, Relation]:
    """Give the kinds of relation by the code of the reason for which each refuses the query; "" permits it."""
    permits = Relation(
        request_types=(_TYPE,), data_sets=(_DATA,), allowed_archetypes=(_AT_DATA, _APART),
        allowed_compute_providers=(_THIRD,), tables=dict(used), algorithms=("count",),
    )  # fmt: skip
    last = list(used)[-1]
    changes: dict[str, dict[str, object]] = {
        "": {},
        "request-type": {"request_types": ("another",)},
        "data-set": {"data_sets": ("another",), "tables": None},
        "column": {"tables": {**used, last: used[last][:-1]}},
        "algorithm": {"algorithms": ("mean",)},
        "expired": {"valid_until": _NOW - timedelta(days=1)},
    }
    return {code: permits.model_copy(update=change) for code, change in changes.items()}
