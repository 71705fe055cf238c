"""What the cluster tells of a pod, and which of it means that the pod will not do its work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynamos.jobs.pods.manifests import COURIER
from dynamos.kit.errors import DynamosError, JobFailed, Unavailable

OUT_OF_MEMORY = "OOMKilled"
_NO_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_NO_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError")
_ENDED_BEFORE_START = ("StartError", "ContainerCannotRun")
_NODE_GONE = ("DeletionByTaintManager", "DeletionByPodGC")
_ON_PURPOSE = ("EvictionByEvictionAPI", "PreemptionByScheduler", "TerminationByKubelet")
_HINTS = {
    "evicted": "ask again; where it happens often the limits of services, or the cluster's nodes, are too small",
    "node-lost": "ask again: the cluster has noticed, and uses its other nodes",
    "runner-lost": "",
}


@dataclass(frozen=True, slots=True)
class Container:
    """A container: why it waits, or how it ended. `exit` is None while it has not."""

    name: str
    waiting: str = ""
    reason: str = ""
    message: str = ""
    exit: int | None = None


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod as the cluster last told of it. `gone`: it is no more. `unplaced` says why no node takes it."""

    name: str
    address: str = ""
    node: str = ""
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    unplaced: str = ""
    disrupted: str = ""
    pool: str = ""
    leaving: bool = False
    gone: bool = False
    containers: tuple[Container, ...] = ()

    def container(self, name: str) -> Container:
        """Give what is known of a container."""
        return next((each for each in self.containers if each.name == name), Container(name))


def seen(manifest: Mapping[str, Any], *, gone: bool = False) -> PodSeen:
    """Read what the cluster tells of a pod."""
    meta, status, spec = (manifest.get(part) or {} for part in ("metadata", "status", "spec"))
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    placed, target = conditions.get("PodScheduled") or {}, conditions.get("DisruptionTarget") or {}
    return PodSeen(
        name=meta.get("name", ""),
        address=status.get("podIP") or "",
        node=spec.get("nodeName") or "",
        phase=status.get("phase") or "Pending",
        reason=status.get("reason") or "",
        message=status.get("message") or "",
        unplaced=placed.get("message") or "no node" if placed.get("reason") == "Unschedulable" else "",
        disrupted=f"{target.get('reason')}: {target.get('message')}" if target.get("status") == "True" else "",
        pool=(meta.get("labels") or {}).get("dynamos.dev/pool", ""),
        leaving=bool(meta.get("deletionTimestamp")),
        gone=gone,
        containers=tuple(_container(each) for each in status.get("containerStatuses") or ()),
    )


def _container(status: Mapping[str, Any]) -> Container:
    state = status.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    return Container(
        name=status.get("name", ""),
        waiting=waiting.get("reason") or "",
        reason=ended.get("reason") or "",
        message=(waiting or ended).get("message") or "",
        exit=ended.get("exitCode"),
    )


def trouble(pod: PodSeen, *, where: str) -> DynamosError | None:
    """Give the error of a pod that will not do its work, whatever is waited for; None while there is hope.

    A step that has ended is none: its courier tells more of it. Neither is a pod that finds no room yet.
    """
    of_containers = (_of_container(each, where) for each in pod.containers)
    return next((error for error in of_containers if error), None) or _of_pod(pod, where)


def _of_pod(pod: PodSeen, where: str) -> DynamosError | None:
    node = f"node {pod.node}"
    if pod.reason == "Evicted":
        message, code = f"{node} evicted the pod: {pod.message}", "evicted"
    elif pod.reason == "NodeLost" or pod.disrupted.startswith(_NODE_GONE):
        message, code = f"{node} was lost: {pod.disrupted or pod.message}", "node-lost"
    elif pod.disrupted.startswith(_ON_PURPOSE):
        message, code = f"the cluster took the pod away: {pod.disrupted}", "evicted"
    elif pod.phase == "Failed" and pod.reason:
        message, code = f"{node} ended the pod: {pod.reason}: {pod.message}", "runner-lost"
    elif pod.gone or pod.leaving:
        message, code = "somebody deleted the pod", "runner-lost"
    else:
        return None
    return Unavailable(message, where=where, code=code, hint=_HINTS[code])


def _of_container(found: Container, where: str) -> DynamosError | None:
    if found.waiting in _NO_IMAGE:
        hint = "see that the node can pull it, or that it is loaded on every node; `dynamos images` builds ours"
        return Unavailable(
            f"the image of {found.name} is not to be had: {found.message or found.waiting}", where=where, code="image",
            hint=hint,
        )  # fmt: skip
    if found.waiting in _NO_START or found.reason in _ENDED_BEFORE_START:
        why = found.message or found.waiting or found.reason
        return JobFailed(f"{found.name} cannot be started: {why}", where=where, code="start-failed")
    if found.name == COURIER and found.exit is not None:
        why = "it needed more memory than it may have" if found.reason == OUT_OF_MEMORY else found.reason
        return Unavailable(f"the pod's courier ended ({found.exit}): {why}", where=where, code="runner-lost")
    return None


def unplaced(pod: PodSeen, *, where: str, seconds: float) -> DynamosError:
    """Give the error of a pod that has found no room for so long."""
    hint = "add nodes or end other work; limits of services say what a pod asks for"
    return Unavailable(
        f"no node has taken the pod within {seconds:g} s: {pod.unplaced}", where=where, code="unschedulable", hint=hint
    )
