"""Proofs of isolation on a cluster: doubles are put beside a testbed's pods, knock everywhere, and go again."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from dynamos.deploy.kubernetes import doubles, standings
from dynamos.deploy.kubernetes.doubles import PROOF, PYTHON, Double
from dynamos.deploy.kubernetes.kubectls import Asked, PodHost, listed
from dynamos.deploy.kubernetes.marks import marks, of_pod
from dynamos.deploy.kubernetes.plans import Manifest
from dynamos.deploy.kubernetes.standings import Place, Standing, identity_of
from dynamos.kit.errors import DynamosError, TimedOut, Unavailable
from dynamos.testbed.proofs import programs
from dynamos.testbed.proofs.clusters import HAIL, PATIENCE, Occasion, isolation
from dynamos.testbed.proofs.findings import Finding, finding
from dynamos.testbed.proofs.programs import together

START_SECONDS, LISTEN_SECONDS = 120.0, 20.0
_MAKE_SECONDS, _END_SECONDS = 60.0, 60.0
_LOOK_SECONDS, _SPARE_SECONDS = 0.5, 60.0
_HOPELESS = (
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "RunContainerError",
)

Told = Callable[[str], None]


def prove(
    asked: Asked, testbed: str, internet: Place, told: Told = lambda _: None, *, within: float = START_SECONDS
) -> Finding:
    """Try who reaches whom in a testbed, by the namespace of its control plane. `internet` is a server beyond the
    cluster.

    Nothing is left of what it makes, nor of what an earlier call has left that was killed; so no two may be under way.
    Raises Unavailable where a part of the testbed is away or a double does not start, Full where a quota has no room
    for doubles, Refused where we may not make them, TimedOut.
    """
    standing = standings.look(asked, testbed)
    sweep(asked, testbed)
    with _standing_beside(asked, standing, told, within) as stands:
        told("trying who reaches whom")
        spots, hosts = tuple(double.spot for double, _, _ in stands), {host.name: host for _, _, host in stands}
        targets = marks(standing, [(double, address) for double, address, _ in stands], internet)
        occasion = Occasion(spots, targets, standing.ways)
        matrix = isolation(occasion, hosts, phase="now")
        after = standings.look(asked, testbed)
        told("removing the pods that knocked")
    return finding(occasion, matrix, gone=gone(standing, after), shifting=standing.ways ^ after.ways)


def gone(before: Standing, after: Standing) -> frozenset[str]:
    """Give the names of the marks of pods that are not the same, or not ready, any more. Pure."""
    still = {identity_of(pod) for pod in after.pods}
    return frozenset(mark.name for pod in before.pods if identity_of(pod) not in still for mark in of_pod(pod))


def sweep(asked: Asked, testbed: str) -> None:
    """Remove everything that proofs have made beside a testbed, and wait until it is gone."""
    chosen = ["--selector", f"{PROOF}={testbed}", "--ignore-not-found", f"--timeout={_END_SECONDS:g}s"]
    ways = (("pods", "--all-namespaces"), ("namespaces",))
    together(lambda words: asked("delete", *words, *chosen, within=_END_SECONDS + 10), ways)


@contextmanager
def _standing_beside(
    asked: Asked, standing: Standing, told: Told, within: float
) -> Iterator[list[tuple[Double, str, PodHost]]]:
    """Have doubles stand and listen, each with its address and as a host; none is left afterwards."""
    token = secrets.token_hex(3)
    space = doubles.outside(standing.control, token)
    found = doubles.doubles(standing, space["metadata"]["name"])
    made = doubles.manifests(standing.control, found, token, doubles.image_of(standing))
    try:
        told("starting pods that knock")
        _create(asked, [space])
        _create(asked, made)
        addresses = _started(asked, standing.control, token, found, within)
        stands = [
            (each, address, PodHost(asked, each.spot.name, each.namespace, each.pod(token), (PYTHON,)))
            for each, address in zip(found, addresses, strict=True)
        ]
        together(lambda each: _hear(*each), stands)
        yield stands
    except BaseException:
        with suppress(DynamosError):
            sweep(asked, standing.control)
        raise
    sweep(asked, standing.control)


def _create(asked: Asked, made: Iterable[Manifest]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(made)})
    asked("create", "--filename", "-", stdin=text.encode(), within=_MAKE_SECONDS)


def _started(asked: Asked, testbed: str, token: str, found: Sequence[Double], within: float) -> list[str]:
    """Wait until all doubles run, and give their addresses. Raises Unavailable, TimedOut, with what keeps one."""
    end = time.monotonic() + within
    while True:
        told = listed(asked, "pods", "--all-namespaces", "--selector", f"{PROOF}={testbed}")
        pods = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in told}
        mine = [pods.get((each.namespace, each.pod(token)), {}) for each in found]
        if all(map(runs, mine)):
            return [str(pod["status"]["podIP"]) for pod in mine]
        late = next((each, pod) for each, pod in zip(found, mine, strict=True) if not runs(pod))
        reason, message = why_not(late[1])
        what, where = f"a pod that stands for {late[0].spot.name} does not start", late[0].namespace
        if reason in _HOPELESS or late[1].get("status", {}).get("phase") in ("Failed", "Succeeded"):
            raise Unavailable(f"{what}: {reason}: {message}", where=where)
        if time.monotonic() >= end:
            raise TimedOut(f"{what} within {within:g} s; last seen: {reason or 'nothing'}: {message}", where=where)
        time.sleep(_LOOK_SECONDS)


def runs(pod: Manifest) -> bool:
    """Tell whether a pod of one container runs and has an address. Pure."""
    status = pod.get("status", {})
    states = [each.get("state", {}) for each in status.get("containerStatuses", ())]
    return bool(status.get("podIP") and states) and all("running" in state for state in states)


def why_not(pod: Manifest) -> tuple[str, str]:
    """Give the reason why a pod does not run, and what is said of it; empty texts where nothing is. Pure."""
    status = pod.get("status", {})
    for each in status.get("containerStatuses", ()):
        for state in (each.get("state", {}).get(name) for name in ("terminated", "waiting")):
            if state:
                return state.get("reason", ""), state.get("message", "")
    for each in status.get("conditions", ()):
        if each["type"] == "PodScheduled" and each["status"] == "False":
            return each.get("reason", ""), each.get("message", "")
    return status.get("reason", ""), status.get("message", "")


def _hear(double: Double, address: str, host: PodHost) -> None:
    """Wait until a double answers itself wherever it listens: silence is a policy's from then on. Raises TimedOut."""
    knocks = [
        {"address": address, "protocol": protocol, "port": port, "token": "0", "raw": HAIL if protocol == "udp" else ""}
        for protocol, port in doubles.listens(double.spot.kind)
    ]
    end = time.monotonic() + LISTEN_SECONDS
    while True:
        spec = {"patience": PATIENCE, "knocks": knocks}
        answers = programs.answers(host, "knock", spec, within=PATIENCE + _SPARE_SECONDS)
        if all(answer not in ("", "refused") for answer in answers):
            return
        if time.monotonic() >= end:
            told = dict(zip(doubles.listens(double.spot.kind), answers, strict=True))
            raise TimedOut(f"it did not listen within {LISTEN_SECONDS:g} s; last seen: {told}", where=double.spot.name)
        time.sleep(_LOOK_SECONDS)
