"""Chains: services that one runner runs alone, without anything of the middleware around them, and how long each
stage of that took."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from dynamos.jobs.inline import InlineRunner
from dynamos.jobs.runners import Assignment, Outcome, Runner
from dynamos.jobs.sandbox import ProcessRunner, SandboxRunner
from dynamos.model.plans import REQUESTOR, Edge, Part, Step
from dynamos.services import catalogue

RUNNERS: Final = ("sandbox", "process", "inline")
_PARTY = "alone"
_PIECE = 1 << 16


@dataclass(frozen=True)
class Chain:
    """Services in their order, the options of each, and the folder of data that the first one reads."""

    services: Sequence[str]
    data: Path
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def assignment(self, number: int) -> Assignment:
        """Give it as a runner takes it, for its so many'th run."""
        manifests = {name: catalogue.manifest(name) for name in self.services}
        steps = tuple(Step(id=n, party=_PARTY, service=n, label=manifest.label) for n, manifest in manifests.items())
        edges = tuple(
            Edge(name=f"{source}>{target}", source_party=_PARTY, source=source, target_party=_PARTY, target=target)
            for source, target in pairwise(self.services)
        )
        last = self.services[-1]
        result = Edge(name=f"{last}>{REQUESTOR}", source_party=_PARTY, source=last, target_party=REQUESTOR)
        part = Part(job=f"alone-{number}", party=_PARTY, role="all", archetype="computeToData", steps=steps,
                    edges=(*edges, result))  # fmt: skip
        return Assignment(part, manifests, self.options, {self.services[0]: self.data})


@dataclass(frozen=True)
class Times:
    """Seconds since the runner was told: until the last service was at work, until the first byte of the result, until
    its last one, and until nothing of the chain was left."""

    started: float
    first: float
    result: float
    ended: float
    bytes: int


def run(kind: str, chain: Chain, *, times: int = 1, warmups: int = 1) -> list[Times]:
    """Run a chain so often, one after the other, by a runner that is made for that and closed afterwards.

    Raises Unavailable where this machine cannot run it so, and the error of a service that fails.
    """
    return asyncio.run(_run(kind, chain, times, warmups))


async def _run(kind: str, chain: Chain, times: int, warmups: int) -> list[Times]:
    async with _runner(kind) as runner:
        return [await once(runner, chain, number) for number in range(warmups + times)][warmups:]


@asynccontextmanager
async def _runner(kind: str) -> AsyncIterator[Runner]:
    make = {"sandbox": SandboxRunner, "process": ProcessRunner}.get(kind)
    runner: Runner = await asyncio.to_thread(make.launch, _PARTY, required=True) if make else InlineRunner()
    try:
        await asyncio.to_thread(lambda: runner.isolation)  # it has found out what holds here, and is ready
        yield runner
    finally:
        await runner.close()


async def once(runner: Runner, chain: Chain, number: int) -> Times:
    work = chain.assignment(number)
    reading, writing = os.pipe()
    drained = asyncio.create_task(asyncio.to_thread(_drain, reading))
    began = time.perf_counter()
    running = await runner.start(work, {}, {work.part.outgoing[0].name: writing})
    outcome: Outcome = await running.wait()
    ended = time.perf_counter()
    first, last, size = await drained
    if outcome.error:
        raise outcome.error
    started = max(usage.start_ms for usage in outcome.usages) / 1e3
    return Times(started, first - began, last - began, max(ended, last) - began, size)


def _drain(descriptor: int) -> tuple[float, float, int]:
    """Read to the end, and give the moments of the first and the last byte, and how many there were."""
    first, size = 0.0, 0
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            first = first or time.perf_counter()
            size += len(piece)
    return first, time.perf_counter(), size
