"""Drawings: chains and plans as Mermaid and Graphviz."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dynamos.model.plans import REQUESTOR, Plan
from dynamos.model.request_types import RequestType
from dynamos.model.services import Service

Form = Literal["mermaid", "graphviz"]


@dataclass(frozen=True, slots=True)
class _Node:
    """A box: where it is drawn, what is written in it, and whether it is there in every chain."""

    key: str
    cluster: str
    text: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class _Arrow:
    source: str
    target: str
    dashed: bool = False


def draw(
    subject: Plan | Mapping[str, Service], form: Form = "mermaid", *, request_type: RequestType | None = None
) -> str:
    """Draw a plan with its parties as clusters, or services with their roles as clusters.

    With a request type only its services are drawn, the optional ones dashed.
    """
    nodes, arrows = _of_plan(subject) if isinstance(subject, Plan) else _of_services(subject, request_type)
    return _mermaid(nodes, arrows) if form == "mermaid" else _graphviz(nodes, arrows)


def _of_plan(plan: Plan) -> tuple[list[_Node], list[_Arrow]]:
    nodes = [_Node(f"{step.party}.{step.id}", step.party, step.id) for step in plan.steps]
    if plan.results:
        nodes.append(_Node(REQUESTOR, "", "requestor"))
    arrows = [
        _Arrow(
            f"{edge.source_party}.{edge.source}",
            REQUESTOR if edge.target_party == REQUESTOR else f"{edge.target_party}.{edge.target}",
        )
        for edge in plan.edges
    ]
    return nodes, arrows


def _of_services(services: Mapping[str, Service], request_type: RequestType | None) -> tuple[list[_Node], list[_Arrow]]:
    optional = request_type.optional_services if request_type else {}
    drawn = (*request_type.required_services, *optional) if request_type else tuple(services)
    known = {name: services[name] for name in drawn if name in services}
    nodes = [_Node(name, service.label, name, name in optional) for name, service in known.items()]
    arrows = [
        _Arrow(name, output, name in optional or output in optional)
        for name, service in known.items()
        for output in service.allowed_outputs
        if output in known
    ]
    return nodes, arrows


def _clusters(nodes: Iterable[_Node]) -> dict[str, list[_Node]]:
    found: dict[str, list[_Node]] = {}
    for node in nodes:
        found.setdefault(node.cluster, []).append(node)
    return found


def _mermaid(nodes: list[_Node], arrows: list[_Arrow]) -> str:
    keys = {node.key: f"n{index}" for index, node in enumerate(nodes)}
    lines = ["flowchart LR"]
    for index, (cluster, inside) in enumerate(_clusters(nodes).items()):
        boxes = [f'{keys[node.key]}["{node.text}"]{":::optional" if node.dashed else ""}' for node in inside]
        if cluster:
            lines += [f'  subgraph c{index}["{cluster}"]', *(f"    {box}" for box in boxes), "  end"]
        else:
            lines += [f"  {box}" for box in boxes]
    lines += [f"  {keys[a.source]} {'-.->' if a.dashed else '-->'} {keys[a.target]}" for a in arrows]
    if any(node.dashed for node in nodes):
        lines.append("  classDef optional stroke-dasharray: 4 3")
    return "\n".join(lines) + "\n"


def _graphviz(nodes: list[_Node], arrows: list[_Arrow]) -> str:
    lines = ["digraph chain {", "  rankdir=LR;", "  node [shape=box];"]
    for index, (cluster, inside) in enumerate(_clusters(nodes).items()):
        boxes = [f'"{node.key}" [label="{node.text}"{", style=dashed" if node.dashed else ""}];' for node in inside]
        if cluster:
            lines += [
                f"  subgraph cluster_{index} {{",
                f'    label="{cluster}";',
                *(f"    {box}" for box in boxes),
                "  }",
            ]
        else:
            lines += [f"  {box}" for box in boxes]
    lines += [f'  "{a.source}" -> "{a.target}"{" [style=dashed]" if a.dashed else ""};' for a in arrows]
    return "\n".join([*lines, "}"]) + "\n"
