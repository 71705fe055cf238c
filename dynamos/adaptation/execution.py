"""Execution: what a judgement changes in a plan beside its archetypes and places, and what a job's end lets learn."""

from __future__ import annotations

from dynamos.adaptation.analysis import Analysis
from dynamos.adaptation.settings import LoopSettings
from dynamos.adaptation.situations import Experience, Option, Situation
from dynamos.model.jobs import Job, State
from dynamos.model.plans import REQUESTOR, Compression, Plan

STAGES = ("network_ms", "start_ms", "run_ms")
"""The stages of a job that depend on how it was planned; not how long it waited for its turn."""


def compression(plan: Plan, analysis: Analysis, settings: LoopSettings) -> dict[str, Compression]:
    """Give how streams between parties are compressed: those whose way is slow, measured without compression."""
    if settings.compress == "none":
        return {}
    return {
        edge.name: settings.compress
        for edge in plan.edges
        if edge.crosses
        and edge.target_party != REQUESTOR
        and analysis.has("slow-link", f"{edge.source_party}>{edge.target_party}")
    }


def experience_of(job: Job, situation: Situation, option: Option, settings: LoopSettings) -> Experience | None:
    """Give what is to be learned of a job, None of one that has not succeeded."""
    if job.state != State.SUCCEEDED or job.plan is None:
        return None
    between = {edge.name for edge in job.plan.edges if edge.crosses and edge.target_party != REQUESTOR}
    sent = [transfer for report in job.parts.values() for transfer in report.transfers]
    moved = sum(transfer.bytes for transfer in sent if transfer.edge in between)
    cpu = sum(usage.cpu_ms for report in job.parts.values() for usage in report.usages) / 1e3
    return Experience(
        job=job.id,
        type=situation.type,
        shape=situation.shape,
        option=option,
        seconds=sum(job.timings.get(stage, 0.0) for stage in STAGES) / 1e3,
        way=max((transfer.way_ms for transfer in sent if transfer.edge in between), default=0.0) / 1e3,
        bytes=sum(transfer.bytes for transfer in sent),
        moved=moved,
        cpu=cpu,
        joules=cpu * settings.watts_per_core + moved * settings.joules_per_byte,
        level=situation.level(option),
    )
