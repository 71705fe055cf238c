"""Parts: what a party works out for itself about the piece of a job that it is asked to run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from dynamos.kit.errors import BadInput, Refused
from dynamos.model.archetypes import Archetype
from dynamos.model.decisions import ProviderDecision
from dynamos.model.plans import REQUESTOR, Edge, Part, Step
from dynamos.model.request_types import RequestType
from dynamos.model.requests import Request
from dynamos.model.services import Service
from dynamos.planning.assembly import assemble
from dynamos.planning.chains import COMPUTE, compose, ordered


def own_part(
    request: Request,
    own: ProviderDecision,
    *,
    archetypes: Mapping[str, str],
    compute: Mapping[str, str],
    services: Mapping[str, Service],
    request_types: Mapping[str, RequestType],
    archetype_definitions: Mapping[str, Archetype],
    job: str,
    party: str,
) -> Part:
    """Give the part that a data provider runs, from its own decision and a grant's two maps.

    The result has the same digest as the orchestrator's `plan(...).part(party)`, or the two do not agree. Raises
    Refused (code "other-chain") where the maps ask for an archetype or a computing party that the own decision does
    not permit.
    """
    _check_own(own, party, archetypes, compute, archetype_definitions)
    chains = {
        provider: compose(request, request_types, services, own.duties if provider == party else ())
        for provider in request.providers
        if provider in archetypes
    }
    if chains.keys() != archetypes.keys() or archetypes.keys() != compute.keys():
        raise _refusal(party, "the grant names providers that the request does not")
    for service in chains[party].services:
        if archetypes[party] in service.invalid_archetypes:
            raise _refusal(party, f"{service.name} may not run under {archetypes[party]}")
    for provider, archetype in archetypes.items():
        if archetype not in archetype_definitions:
            raise _refusal(party, f"{provider} takes part under {archetype!r}, which is unknown here")
    in_order = {provider: archetypes[provider] for provider in chains}
    return assemble(job, in_order, compute, chains, archetype_definitions).part(party)


def _check_own(
    own: ProviderDecision,
    party: str,
    archetypes: Mapping[str, str],
    compute: Mapping[str, str],
    definitions: Mapping[str, Archetype],
) -> None:
    archetype, computer = archetypes.get(party, ""), compute.get(party, "")
    if not own.permitted or own.party != party:
        raise _refusal(party, f"{party} does not permit this request")
    if archetype not in own.archetypes or archetype not in definitions:
        raise _refusal(party, f"{party} does not permit the archetype {archetype!r}")
    allowed = own.compute_providers if definitions[archetype].moves_data else (party,)
    if computer not in allowed:
        raise _refusal(party, f"{party} does not permit {computer!r} to compute under {archetype}")


def check_compute(part: Part, services: Mapping[str, Service]) -> None:
    """Make sure that a part is one for a party that only computes: it reads no data of its own, every step has what it
    reads, every stream goes on, and nothing leaves but to the requestor.

    Raises Refused (code "other-chain") that names the first thing that is not so.
    """
    fault = next(_compute_faults(part, services), "")
    if fault:
        raise _refusal(part.party, fault)


def _compute_faults(part: Part, services: Mapping[str, Service]) -> Iterator[str]:
    if not part.steps:
        yield "the part has no steps"
    steps = {step.id: step for step in part.steps}
    if len(steps) < len(part.steps) or len({edge.name for edge in part.edges}) < len(part.edges):
        yield "two steps or two streams have the same name"
    for step in part.steps:
        yield from _step_faults(part, step, services.get(step.service))
    for edge in part.edges:
        yield from _edge_faults(part, edge, steps, services)
    try:
        ordered({step.service for step in part.steps}, services)
    except BadInput as error:
        yield error.message


def _step_faults(part: Part, step: Step, service: Service | None) -> Iterator[str]:
    if service is None:
        yield f"there is no service {step.service!r}"
        return
    if step.party != part.party or step.label != COMPUTE or service.label != COMPUTE or service.reads_data:
        yield f"step {step.id} does not only compute"
    if step.options:
        yield f"step {step.id} comes with options of its own"
    reads = Counter(edge.target for edge in part.edges if edge.target_party == part.party)[step.id]
    writes = Counter(edge.source for edge in part.edges if edge.source_party == part.party)[step.id]
    if reads < 1 or (reads > 1 and service.inputs != "many") or service.inputs == "none":
        yield f"step {step.id} reads {reads} streams, and {service.name} takes {service.inputs}"
    if writes != 1:
        yield f"step {step.id} writes {writes} streams instead of one"


def _edge_faults(part: Part, edge: Edge, steps: Mapping[str, Step], services: Mapping[str, Service]) -> Iterator[str]:
    if part.party not in (edge.source_party, edge.target_party):
        yield f"stream {edge.name} is not of this part"
    elif edge.source_party == part.party and edge.target_party not in (part.party, REQUESTOR):
        yield f"stream {edge.name} goes to {edge.target_party}, which is not the requestor"
    elif edge.source_party == part.party and edge.source not in steps:
        yield f"stream {edge.name} comes from a step that is not there"
    elif edge.target_party == part.party and edge.target not in steps:
        yield f"stream {edge.name} goes to a step that is not there"
    elif not edge.crosses:
        source, target = steps[edge.source].service, steps[edge.target].service
        if target not in services[source].allowed_outputs:
            yield f"{source} may not feed {target}"


def _refusal(party: str, message: str) -> Refused:
    hint = "agreements or services changed meanwhile; submit the request again"
    return Refused(message, where=party, hint=hint, code="other-chain")
