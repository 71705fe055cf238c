"""What the cluster tells of a pod, and which error it becomes."""

from __future__ import annotations

from typing import Any

import pytest

from dynamos.jobs.pods.seen import seen, trouble
from dynamos.kit.errors import Unavailable


def _pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "job-1"}, "spec": {"nodeName": "n1"}, "status": status}


def _waiting(reason: str, name: str = "step-1") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": f"{reason} of x"}}
    return _pod(containerStatuses=[{"name": name, "state": state}])


def _ended(name: str, code: int, reason: str) -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": reason}}
    return _pod(containerStatuses=[{"name": name, "state": state}])


def _target(reason: str) -> dict[str, Any]:
    return _pod(conditions=[{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "why"}])


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (_waiting("ErrImagePull"), "image"),
        (_waiting("ImagePullBackOff"), "image"),
        (_waiting("ErrImageNeverPull"), "image"),
        (_waiting("InvalidImageName"), "image"),
        (_waiting("CreateContainerConfigError"), "start-failed"),
        (_waiting("RunContainerError"), "start-failed"),
        (_ended("step-1", 128, "StartError"), "start-failed"),
        (_ended("courier", 137, "OOMKilled"), "runner-lost"),
        (_ended("courier", 1, "Error"), "runner-lost"),
        (_pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory."), "evicted"),
        (_target("EvictionByEvictionAPI"), "evicted"),
        (_target("PreemptionByScheduler"), "evicted"),
        (_target("DeletionByTaintManager"), "node-lost"),
        (_pod(phase="Failed", reason="NodeLost"), "node-lost"),
        (_pod(phase="Failed", reason="UnexpectedAdmissionError", message="no room"), "runner-lost"),
        (_pod(phase="Failed", reason="DeadlineExceeded"), "runner-lost"),
        (_pod() | {"metadata": {"name": "job-1", "deletionTimestamp": "now"}}, "runner-lost"),
    ],
)
def test_a_pod_that_will_not_do_its_work_has_an_error_with_code_and_place(told: dict[str, Any], code: str) -> None:
    error = trouble(seen(told), where="UVA")
    assert error is not None
    assert error.as_dict()["code"] == code
    assert error.where == "UVA"


@pytest.mark.parametrize(
    "told",
    [
        _pod(),
        _pod(phase="Running"),
        _waiting("ContainerCreating"),
        _waiting("PodInitializing"),
        _ended("step-1", 137, "OOMKilled"),
        _ended("step-1", 1, "Error"),
        _pod(conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "full"}]),
    ],
)
def test_there_is_hope_for_others(told: dict[str, Any]) -> None:
    assert trouble(seen(told), where="UVA") is None


def test_an_image_that_is_not_to_be_had_is_named_with_what_to_do() -> None:
    error = trouble(seen(_waiting("ErrImagePull")), where="UVA")
    assert isinstance(error, Unavailable)
    assert "step-1" in error.message
    assert "ErrImagePull of x" in error.message
    assert error.hint


def test_a_pod_without_room_says_what_the_scheduler_says() -> None:
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}
    assert seen(_pod(conditions=[why])).unplaced == "0/2 nodes are available"
