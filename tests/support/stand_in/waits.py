"""Waits: until what was made is ready, and what was removed is gone. What does not come right is told as soon as that
is certain, else when the time is over, with what was last seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from support.stand_in.objects import Api, Gone, NotMade

_PAUSE = 0.2
_HOPELESS = ("ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")
Look = Callable[[Api, dict[str, Any]], str]
"""Gives what an object waits for; empty where it is ready. Raises NotMade where that is hopeless."""


def ready(api: Api, wanted: dict[str, Any], within: float) -> None:
    """Wait until an object is ready. Raises NotMade."""
    look = _LOOKS.get(wanted["kind"])
    end = time.monotonic() + within
    while look and (last := look(api, wanted)):
        if time.monotonic() >= end:
            raise NotMade(f"{_name(wanted)} was not ready within {within:g} s: {last}")
        time.sleep(_PAUSE)


def gone(api: Api, there: dict[str, Any], within: float) -> None:
    """Wait until an object is no more. Raises NotMade."""
    end = time.monotonic() + within
    while True:
        try:
            last = api.get(there)
        except Gone:
            return
        if time.monotonic() >= end:
            told = [each.get("message") for each in last.get("status", {}).get("conditions", ())]
            raise NotMade(f"{_name(there)} was not gone within {within:g} s: {told}")
        time.sleep(_PAUSE)


def _deployment(api: Api, wanted: dict[str, Any]) -> str:
    there = api.get(wanted)
    status, replicas = there.get("status", {}), there["spec"]["replicas"]
    for each in status.get("conditions", ()):
        if each["type"] == "Progressing" and each["status"] == "False":
            raise NotMade(f"{_name(wanted)}: {each['message']}; {'; '.join(_of_pods(api, there))}")
        if each["type"] == "ReplicaFailure" and each["status"] == "True":
            raise NotMade(f"{_name(wanted)}: {each['message']}")
    seen = status.get("observedGeneration", 0) >= there["metadata"]["generation"]
    right = all(status.get(count, 0) == replicas for count in ("updatedReplicas", "availableReplicas", "replicas"))
    return "" if seen and right else _pending(api, there)


def _stateful_set(api: Api, wanted: dict[str, Any]) -> str:
    there = api.get(wanted)
    status, replicas = there.get("status", {}), there["spec"]["replicas"]
    seen = status.get("observedGeneration", 0) >= there["metadata"]["generation"]
    right = all(status.get(count, 0) == replicas for count in ("readyReplicas", "updatedReplicas"))
    return "" if seen and right else _pending(api, there)


def _job(api: Api, wanted: dict[str, Any]) -> str:
    there = api.get(wanted)
    conditions = {each["type"]: each for each in there.get("status", {}).get("conditions", ())}
    if "Failed" in conditions:
        raise NotMade(f"{_name(wanted)}: {conditions['Failed'].get('message')}; {'; '.join(_of_pods(api, there))}")
    return "" if "Complete" in conditions else _pending(api, there)


def _service(api: Api, wanted: dict[str, Any]) -> str:
    """A service has an address once there is something behind it; one without an address of its own has nothing."""
    spec, metadata = wanted["spec"], wanted["metadata"]
    if spec.get("clusterIP") == "None" or not spec.get("selector"):
        return ""
    query = {"labelSelector": f"kubernetes.io/service-name={metadata['name']}"}
    slices = api.items("discovery.k8s.io/v1", "EndpointSlice", metadata["namespace"], **query)
    ends = [end for each in slices for end in each.get("endpoints") or ()]
    return "" if any(end["conditions"].get("ready") for end in ends) else "nothing is behind it yet"


def _claim(api: Api, wanted: dict[str, Any]) -> str:
    there = api.get(wanted)
    if there["status"].get("phase") == "Bound":
        return ""
    name = there["spec"].get("storageClassName")
    classes = api.items("storage.k8s.io/v1", "StorageClass", "")
    found = next((each for each in classes if each["metadata"]["name"] == name), None)
    waits = found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"
    return "" if waits else "it is not bound"


_LOOKS: dict[str, Look] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "Service": _service,
    "PersistentVolumeClaim": _claim,
}


def _pending(api: Api, there: dict[str, Any]) -> str:
    """Give what its pods wait for. Raises NotMade where one of them can never start."""
    told = list(_of_pods(api, there))
    for each in told:
        if any(word in each for word in _HOPELESS):
            raise NotMade(f"{there['kind']} {there['metadata']['name']}: {each}")
    return "; ".join(told) or "it has no pods yet"


def _of_pods(api: Api, there: dict[str, Any]) -> Iterator[str]:
    labels = there["spec"].get("selector", {}).get("matchLabels", {})
    query = {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}
    for pod in api.items("v1", "Pod", there["metadata"]["namespace"], **query):
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for each in status.get("conditions", ()):
            if each["type"] == "PodScheduled" and each["status"] == "False":
                yield f"pod {name}: {each.get('message', '')}"
        for each in status.get("containerStatuses", ()):
            state = each.get("state", {})
            if waiting := state.get("waiting"):
                yield f"pod {name}: {waiting.get('reason')}: {waiting.get('message', '')}"
            elif ended := state.get("terminated"):
                yield f"pod {name}: ended with {ended.get('exitCode')}: {ended.get('message', '')[-500:]}"
            elif not each.get("ready"):
                yield f"pod {name}: it runs and is not ready"


def _name(wanted: dict[str, Any]) -> str:
    metadata = wanted["metadata"]
    return f"{wanted['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
