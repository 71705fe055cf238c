"""Plain Jobs: pods that the cluster's Job controller makes, and whose end it tells, as upstream has them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lightkube.core.exceptions import ApiError, ConditionError
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Secret
from lightkube.types import CascadeType

from dynamos.jobs.pods.lightkubes import LightkubePods
from dynamos.jobs.pods.manifests import Manifest
from dynamos.jobs.pods.seen import PodSeen
from dynamos.jobs.pods.settings import Home, PodsConfig
from dynamos.jobs.runners import Assignment, Outcome, Runner, RunningPart
from dynamos.kit.errors import DynamosError, JobFailed
from dynamos.kit.waits import bounded

END_SECONDS = 60.0
"""How long a Job may take to be told as ended, after its pod's work has."""


class JobPods(LightkubePods):
    """The pods of one agent, each made and ended by a Job of its name."""

    def __init__(self, config: PodsConfig, home: Home) -> None:
        super().__init__(config, home)
        self.last = ""
        self._ends: dict[str, asyncio.Task[None]] = {}

    async def create(self, secret: Manifest, pod: Manifest) -> None:
        with self._faults():
            for kind, manifest in ((Secret, secret), (Job, job_of(pod))):
                made: Any = kind.from_dict(manifest)
                await self._client.create(made)
        self.last = pod["metadata"]["name"]
        self._ends[self.last] = asyncio.create_task(self._end(self.last))

    async def finished(self, name: str) -> None:
        """Wait until the Job controller tells that a Job is Complete. Raises JobFailed, TimedOut."""
        await bounded(f"the Job {name} is Complete", asyncio.shield(self._ends[name]), within=END_SECONDS)

    async def delete(self, name: str) -> None:
        """Remove a Job, once it has ended."""
        if name in self._ends:
            with suppress(DynamosError):  # whoever waits for it is told
                await self.finished(name)
        for kind in (Job, Secret):
            with self._faults():
                try:
                    await self._client.delete(kind, name, cascade=CascadeType.BACKGROUND)
                except ApiError as error:
                    if error.status.reason != "NotFound":
                        raise

    async def watch(self) -> AsyncIterator[PodSeen]:
        async for pod in super().watch():
            yield replace(pod, name=pod.name.rpartition("-")[0])  # what the controller has added

    async def close(self) -> None:
        for task in self._ends.values():
            task.cancel()
        await asyncio.gather(*self._ends.values(), return_exceptions=True)
        await super().close()

    async def _end(self, name: str) -> None:
        with self._faults():
            try:
                await self._client.wait(Job, name, for_conditions=["Complete"], raise_for_conditions=["Failed"])
            except ConditionError as error:
                raise JobFailed(f"the Job has failed: {error}", where=name) from None


class JobRunner:
    """Runs parts by another runner, one after the other, and takes one for ended when its Job is Complete."""

    name = "kubernetes-job"

    def __init__(self, inner: Runner, pods: JobPods) -> None:
        self._inner, self._pods = inner, pods

    @property
    def isolation(self) -> tuple[str, ...]:
        return self._inner.isolation

    async def start(self, assignment: Assignment, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> RunningPart:
        return _RunningJob(await self._inner.start(assignment, inputs, outputs), self._pods)

    async def close(self) -> None:
        await self._inner.close()


class _RunningJob:
    def __init__(self, inner: RunningPart, pods: JobPods) -> None:
        self._inner, self._pods = inner, pods

    async def wait(self) -> Outcome:
        outcome = await self._inner.wait()
        if outcome.error is None:
            await self._pods.finished(self._pods.last)
        return outcome

    async def kill(self, error: DynamosError) -> None:
        await self._inner.kill(error)


def job_of(pod: Manifest) -> Manifest:
    """Give the Job that makes such a pod once: its pods have its name and five letters more. Pure."""
    meta = pod["metadata"]
    template = {"metadata": {"labels": meta["labels"]}, "spec": pod["spec"]}
    spec = {"backoffLimit": 0, "completions": 1, "parallelism": 1, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}
