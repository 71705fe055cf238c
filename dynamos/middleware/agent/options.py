"""What each step of a part is told: only what it needs, worked out by the party itself."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from dynamos.model.datasets import DataSet, Source
from dynamos.model.decisions import ProviderDecision
from dynamos.model.marketplaces import Party
from dynamos.model.plans import Part
from dynamos.model.requests import Request
from dynamos.policy.lineage import rules


def step_options(
    part: Part,
    request: Request,
    decision: ProviderDecision | None,
    *,
    party: Party,
    data_sets: Mapping[str, DataSet],
    secret: bytes,
) -> dict[str, dict[str, Any]]:
    """Give the options of every step, by step id. Other services get the request's algorithm."""
    general = {"algorithm": request.algorithm, "columns": dict(request.algorithm_columns)}
    known: dict[str, dict[str, Any]] = {"sql-aggregate": {}, "sql-algorithm": general, "sql-graph": {}}
    if decision is not None:
        known["sql-query"] = {"query": decision.query, "tables": _tables(decision, party, data_sets)}
        known["sql-anonymize"] = {"rules": _rules(decision, data_sets, _job_key(secret, part.job))}
    return {step.id: {**known.get(step.service, general), **step.options} for step in part.steps}


def _tables(decision: ProviderDecision, party: Party, data_sets: Mapping[str, DataSet]) -> dict[str, dict[str, Any]]:
    """Say where each used table lies, and which columns the query may see there: just those that it uses."""
    found = {}
    for use in decision.uses:
        data_set = data_sets[use.data_set]
        source = party.data[use.data_set].get(use.table) or Source(path="")
        columns = data_set.tables[use.table].columns
        known = list(columns)
        visible = [column for column in known if column in use.columns] or known[:1]
        found[use.table] = {
            "path": source.path,
            "type": source.type or data_set.type,
            "delimiter": source.delimiter or data_set.delimiter,
            "table": source.table,
            "columns": visible,
            "types": {column: facts.type for column, facts in columns.items()},
        }
    return found


def _rules(decision: ProviderDecision, data_sets: Mapping[str, DataSet], key: str) -> dict[str, dict[str, Any]]:
    """Give the anonymisation rule of each output column that comes from a sensitive one."""
    found = {}
    for output, rule in rules(decision, data_sets).items():
        found[output] = {"method": rule.method, "size": rule.size, "key": key if rule.method == "hash" else None}
    return found


def _job_key(secret: bytes, job: str) -> str:
    """Derive the key of this job's pseudonyms, so that pseudonyms of two jobs cannot be joined."""
    return hmac.new(secret, job.encode(), hashlib.sha256).hexdigest()
