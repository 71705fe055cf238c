"""The agent of policies on a node: `main` watches pods, namespaces and policies, and keeps the node's rules right.

A pod that begins has no packet before its rules: the network plugin (`joining`) tells its address here, and waits.
Only the standard library.
"""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.policies.rulesets import ruleset
from cluster.policies.things import pod_of
from cluster.watches import Api

SOCKET = "/run/policies.sock"
USER = "policy-agent"
PATHS = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}
_PATIENCE = 5.0


@dataclass
class Joined:
    """A pod that begins, and who waits for its rules. `uid` tells it from another one of the same name."""

    uid: str
    address: str
    ready: threading.Event = field(default_factory=threading.Event)
    end: float = 0.0


class Agent:
    """Keeps one node's rules."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._events: queue.Queue[Any] = queue.Queue()
        self._known: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {}
        self._addresses: dict[str, str] = {}
        self._waiting: list[Joined] = []
        self._written = ""

    def tell(self, event: str, kind: str, thing: Mapping[str, Any]) -> None:
        """Take what a watch tells, from any thread."""
        self._events.put((event, kind, thing))

    def join(self, joined: Joined) -> bool:
        """Take a pod's address before the API knows it, and wait until its rules are there. Tells whether they are."""
        joined.end = time.monotonic() + _PATIENCE
        self._events.put(joined)
        return joined.ready.wait(_PATIENCE)

    def work(self) -> None:
        """Take what is told, all of what has come at once, and write the rules that follow."""
        while True:
            self._take(self._events.get())
            while not self._events.empty():
                self._take(self._events.get())
            if len(self._known) == len(PATHS):
                self._write()

    def _take(self, told: Any) -> None:
        if isinstance(told, Joined):
            self._addresses[told.uid] = told.address
            self._waiting.append(told)
            return
        event, kind, thing = told
        if event == "LISTED":
            self._known[kind] = {_key(each): each for each in thing.get("items") or ()}
        elif event == "DELETED":
            self._known[kind].pop(_key(thing), None)
            if kind == "pods":
                self._addresses.pop(thing["metadata"]["uid"], None)
        else:
            self._known[kind][_key(thing)] = thing

    def _write(self) -> None:
        pods = [pod_of(each, self._addresses.get(each["metadata"]["uid"], "")) for each in self._known["pods"].values()]
        spaces = {name: each["metadata"].get("labels") or {} for (_, name), each in self._known["namespaces"].items()}
        policies = [each for _, each in sorted(self._known["policies"].items())]
        text = ruleset(self._node, [pod for pod in pods if pod], spaces, policies)
        if text != self._written:
            done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.stderr.write(f"{done.stderr}\n{text}\n")
                sys.stderr.flush()
                return
            self._written = text
        now = time.monotonic()
        known = {each["metadata"]["uid"] for each in self._known["pods"].values()}
        for joined in list(self._waiting):
            if joined.uid in known:
                joined.ready.set()
            if joined.ready.is_set() or joined.end < now:
                self._waiting.remove(joined)


def serve(agent: Agent) -> None:
    """Answer the network plugin, each call in a thread of its own."""
    Path(SOCKET).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen(128)
        while True:
            caller, _ = listener.accept()
            threading.Thread(target=_answer, args=(agent, caller), daemon=True).start()


def _answer(agent: Agent, caller: socket.socket) -> None:
    with caller, caller.makefile("rw", encoding="utf-8") as stream:
        told = json.loads(stream.readline())
        stream.write("ready\n" if agent.join(Joined(**told)) else "late\n")


def _key(thing: Mapping[str, Any]) -> tuple[str, str]:
    return thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


def main(node: str, folder: str, server: str) -> None:
    """Be the agent of a node, with the certificate in a folder, at the API's server."""
    agent, api = Agent(node), Api(Path(folder), USER, server)
    for kind, path in PATHS.items():
        threading.Thread(target=api.follow, args=(kind, path, agent.tell), daemon=True).start()
    threading.Thread(target=serve, args=(agent,), daemon=True).start()
    agent.work()
