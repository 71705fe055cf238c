"""Explanations: a decision in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from dynamos.model.decisions import Decision, ProviderDecision, Reason


def explain(decision: Decision) -> str:
    """Give the decision as lines for people: who permits what with which limits, and who refuses why."""
    head = f"{decision.user} asks for {decision.request_type} (policy revision {decision.revision})"
    lines = [head, *(line for answer in decision.providers.values() for line in _answer(answer))]
    return "\n".join(lines)


def _answer(answer: ProviderDecision) -> Iterator[str]:
    if not answer.permitted:
        yield f"{answer.party}: refused"
        for reason in answer.reasons:
            yield from _reason(reason)
        return
    yield f"{answer.party}: permitted"
    yield f"  archetypes: {', '.join(answer.archetypes)}"
    if answer.compute_providers:
        yield f"  compute providers: {', '.join(answer.compute_providers)}"
    if answer.duties:
        yield f"  forces: {', '.join(answer.duties)}"
    for use in answer.uses:
        yield f"  uses: {use.data_set}.{use.table} ({', '.join(use.columns) or 'no column'})"


def _reason(reason: Reason) -> Iterator[str]:
    place = f" (query, line {reason.position[0]}, column {reason.position[1]})" if reason.position else ""
    yield f"  {reason.code}: {reason.message}{place}"
    yield f"    clause: {reason.clause}; fact: {reason.fact}"
    if reason.remedy:
        yield f"    remedy: {reason.remedy}"
